"""Ways to run the frozen denoiser: as it is, compiled, or as CUDA graphs. It takes nearly all of a step's time.

All compute the same; only kernels and their launches differ. P+'s hooks are installed before, so they are part of what
is compiled or recorded. The denoiser itself is not changed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from promptplus.choices import Speed
from promptplus.errors import SettingsError


def faster(denoiser: Any, speed: Speed, backend: str = "inductor") -> Any:
    """A callable that replaces ``denoiser`` for many calls of one shape. Other shapes are slower, and as correct.

    Raises SettingsError on a graph without CUDA.
    """
    if speed == "plain":
        return denoiser

    def plain(noisy: Tensor, timestep: Tensor, **further: Any) -> Tensor:
        return denoiser(noisy, timestep=timestep, **further, return_dict=False)[0]

    if speed == "compiled":
        return FasterDenoiser(torch.compile(plain, backend=backend, dynamic=False), denoiser.dtype)
    if denoiser.device.type != "cuda":
        raise SettingsError(f"speed graphed needs CUDA, not {denoiser.device.type}; use plain or compiled")
    return FasterDenoiser(CudaGraphs(plain), denoiser.dtype)


class FasterDenoiser:
    """Called like a denoiser; ``run`` does the work."""

    def __init__(self, run: Callable[..., Any], dtype: torch.dtype) -> None:
        self.run, self.dtype = run, dtype

    def __call__(self, noisy: Tensor, timestep: Tensor, return_dict: bool = False, **further: Any) -> tuple[Tensor]:
        """The prediction in a tuple, as a denoiser returns it with ``return_dict=False``."""
        return (self.run(noisy, timestep, **further),)


class CudaGraphs:
    """Records forward and backward as CUDA graphs at the first call, and replays them for calls of its shapes."""

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain = plain
        self.recorded: Any = None  # until the first call
        self.shapes: tuple[torch.Size, ...] = ()

    def __call__(self, noisy: Tensor, timestep: Tensor, **further: Any) -> Any:
        # graphs take tensors by position: the arguments' tensors, and a rule to put them in place again
        values, rule = tree_flatten((noisy, timestep, further))
        tensors = [value for value in values if isinstance(value, Tensor)]
        shapes = tuple(tensor.shape for tensor in tensors)
        if not self.shapes:
            self._record(values, rule, tensors)
            self.shapes = shapes  # last: recording may run out of memory
        if shapes != self.shapes:
            return self.plain(noisy, timestep, **further)
        return self.recorded(*tensors)

    def _record(self, values: list[Any], rule: TreeSpec, tensors: list[Tensor]) -> None:
        def plain(*given: Tensor) -> Any:
            left = iter(given)
            noisy, timestep, further = tree_unflatten(
                [next(left) if isinstance(v, Tensor) else v for v in values], rule
            )
            return self.plain(noisy, timestep, **further)

        like = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors)
        # the function, not the module, which may have no hooks: ours are meant, and recorded with the rest
        record: Any = torch.cuda.make_graphed_callables
        self.recorded = record(plain, like)
