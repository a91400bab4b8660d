"""Ways to run the frozen denoiser: as it is, compiled, or as CUDA graphs. It takes nearly all of a step's time.

All compute the same; only kernels and their launches differ. P+'s hooks are installed before, so they are part of what
is compiled or recorded. The denoiser itself is not changed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from promptplus.choices import Speed
from promptplus.errors import SettingsError


def faster(unet: Any, speed: Speed, backend: str = "inductor") -> Any:
    """A callable that replaces ``unet`` for many calls of one shape. Other shapes are slower, and as correct.

    Raises SettingsError on a graph without CUDA.
    """
    if speed == "plain":
        return unet

    def plain(noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return unet(noisy, timestep, encoder_hidden_states=context, return_dict=False)[0]

    if speed == "compiled":
        return FasterDenoiser(torch.compile(plain, backend=backend, dynamic=False), unet.dtype)
    if unet.device.type != "cuda":
        raise SettingsError(f"speed graphed needs CUDA, not {unet.device.type}; use plain or compiled")
    return FasterDenoiser(CudaGraphs(plain), unet.dtype)


class FasterDenoiser:
    """Called like a denoiser; ``run`` does the work."""

    def __init__(self, run: Callable[[Tensor, Tensor, Tensor], Any], dtype: torch.dtype) -> None:
        self.run, self.dtype = run, dtype

    def __call__(
        self, noisy: Tensor, timestep: Tensor, *, encoder_hidden_states: Tensor, return_dict: bool = False
    ) -> tuple[Tensor]:
        """The prediction in a tuple, as a denoiser returns it with ``return_dict=False``."""
        return (self.run(noisy, timestep, encoder_hidden_states),)


class CudaGraphs:
    """Records forward and backward as CUDA graphs at the first call, and replays them for calls of its shapes."""

    def __init__(self, plain: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        self.plain = plain
        self.recorded: Any = None  # until the first call
        self.shapes: tuple[torch.Size, ...] = ()

    def __call__(self, noisy: Tensor, timestep: Tensor, context: Tensor) -> Any:
        if not self.shapes:
            self._record(noisy, timestep, context)
        run = self.recorded if (noisy.shape, context.shape) == self.shapes else self.plain
        return run(noisy, timestep, context)

    def _record(self, noisy: Tensor, timestep: Tensor, context: Tensor) -> None:
        like = (noisy.clone(), timestep.clone(), context.detach().clone().requires_grad_())
        # the function, not the module, which may have no hooks: ours are meant, and recorded with the rest
        record: Any = torch.cuda.make_graphed_callables
        self.recorded = record(self.plain, like)
        self.shapes = (noisy.shape, context.shape)  # last: recording may run out of memory
