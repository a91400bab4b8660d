"""Per-layer forward hooks: each cross-attention layer of a denoiser takes its own slice of packed text states."""

from typing import Any, Self

from torch import Tensor, nn

from promptplus.errors import ModelError
from promptplus.layers import LayerMap


def pack(states: Tensor) -> Tensor:
    """Per-layer text states ``[B, n, S, D]`` → packed ``[B, S, n·D]``."""
    batch, layers, length, width = states.shape
    return states.permute(0, 2, 1, 3).reshape(batch, length, layers * width)


class PerLayerHooks:
    """The installed hooks of one denoiser; ``remove()``, or leaving the ``with`` block, takes them out again."""

    def __init__(self, unet: nn.Module, layers: LayerMap) -> None:
        self.layers = layers
        attentions = [unet.get_submodule(path) for path in layers.module_paths()]
        self._handles = [
            attention.register_forward_pre_hook(_slicer(i, len(layers)), with_kwargs=True)
            for i, attention in enumerate(attentions)
        ]

    @property
    def installed(self) -> bool:
        """Whether the hooks are in place."""
        return bool(self._handles)

    def remove(self) -> None:
        """Take the hooks out; a second call does nothing."""
        while self._handles:
            self._handles.pop().remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def per_layer(unet: nn.Module) -> PerLayerHooks:
    """Let each cross-attention layer of a ``UNet2DConditionModel`` take its own slice of packed text states.

    Raises ModelError on a compiled module: torch.compile silently ignores hooks added after its first call.
    """
    if _is_compiled(unet):
        raise ModelError("the denoiser is compiled already, and torch.compile ignores new hooks: install P+ first")
    return PerLayerHooks(unet, LayerMap.of(unet))


def _is_compiled(module: nn.Module) -> bool:
    compiled = (m._compiled_call_impl is not None for m in module.modules())
    return hasattr(module, "_orig_mod") or any(compiled)


def _slicer(index: int, layers: int) -> Any:
    """The hook of layer ``index``. It holds no state, so gradient checkpointing may run it twice."""

    def take_own(attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        width = attention.cross_attention_dim
        if len(args) > 1:  # forward(hidden_states, encoder_hidden_states, …) called by position
            args = (args[0], _slice(args[1], index, layers, width), *args[2:])
        elif "encoder_hidden_states" in kwargs:
            states = _slice(kwargs["encoder_hidden_states"], index, layers, width)
            kwargs = {**kwargs, "encoder_hidden_states": states}
        return args, kwargs

    return take_own


def _slice(states: Any, index: int, layers: int, width: Any) -> Any:
    if isinstance(states, tuple):  # IP-Adapter hands over (text states, picture states)
        return (_slice(states[0], index, layers, width), *states[1:])
    if states is None or states.shape[-1] != layers * width:
        return states
    return states[..., index * width : (index + 1) * width]
