"""Forward hooks that give each cross-attention layer of a denoiser its own slice of packed text states.

The text states of n layers travel as one tensor ``[batch, tokens, layers * width]``; the hook of layer i passes on
``[batch, tokens, width]``. Tensors of the plain width pass unchanged.
"""

from collections.abc import Callable
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor, nn

from promptplus.errors import ModelError
from promptplus.layers import LayerMap

Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


def pack(states: Float[Tensor, "batch layers tokens width"]) -> Float[Tensor, "batch tokens layers*width"]:
    """Pack the text states of all layers into one tensor for ``prompt_embeds``.

    Args:
        states: ``[batch, layers, tokens, width]``, layers in forward order.

    Returns:
        ``[batch, tokens, layers * width]``. Layer i is the slice ``[..., i * width : (i + 1) * width]``.
    """
    batch, layers, length, width = states.shape
    return states.permute(0, 2, 1, 3).reshape(batch, length, layers * width)


class PerLayerHooks:
    """The hooks installed in one denoiser. ``remove()``, or the end of a ``with`` block, takes them out.

    Attributes:
        layers: the LayerMap of the denoiser.
    """

    def __init__(self, unet: nn.Module, layers: LayerMap) -> None:
        self.layers = layers
        attentions = [unet.get_submodule(path) for path in layers.module_paths()]
        self._handles = [
            attention.register_forward_pre_hook(_slicing_hook(i, len(layers)), with_kwargs=True)
            for i, attention in enumerate(attentions)
        ]

    @property
    def installed(self) -> bool:
        """Whether the hooks are in place."""
        return bool(self._handles)

    def remove(self) -> None:
        """Take the hooks out. Further calls do nothing."""
        while self._handles:
            self._handles.pop().remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def per_layer(unet: nn.Module) -> PerLayerHooks:
    """Install the per-layer hooks in a U-Net. ``PPlus`` does this for a whole pipeline.

    Args:
        unet: a ``UNet2DConditionModel``. Afterwards it takes packed text states (see ``pack``) as
            ``encoder_hidden_states``; plain ones still work.

    Returns:
        The hooks: ``hooks.remove()``, or ``with per_layer(unet):``, restores the U-Net.

    Raises:
        ModelError: the U-Net is compiled. ``torch.compile`` silently ignores hooks that are added after its first call.
        LayerError: the U-Net has no cross-attention layers that P+ supports.
    """
    if _is_compiled(unet):
        raise ModelError("the denoiser is compiled already, and torch.compile ignores new hooks: install P+ first")
    return PerLayerHooks(unet, LayerMap.of(unet))


def _is_compiled(module: nn.Module) -> bool:
    compiled = (getattr(m, "_compiled_call_impl", None) is not None for m in module.modules())
    return hasattr(module, "_orig_mod") or any(compiled)


def _slicing_hook(index: int, layers: int) -> Hook:
    """The hook of layer ``index``. It has no state, so gradient checkpointing may run it twice."""

    def take_slice(
        attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        width = attention.cross_attention_dim
        if len(args) > 1:  # forward(hidden_states, encoder_hidden_states, …) called by position
            args = (args[0], _slice(args[1], index, layers, width), *args[2:])
        elif "encoder_hidden_states" in kwargs:
            states = _slice(kwargs["encoder_hidden_states"], index, layers, width)
            kwargs = {**kwargs, "encoder_hidden_states": states}
        return args, kwargs

    return take_slice


def _slice(states: Any, index: int, layers: int, width: Any) -> Any:
    """Layer ``index``'s part of packed states; anything else unchanged."""
    if isinstance(states, tuple):  # IP-Adapter passes (text states, picture states)
        return (_slice(states[0], index, layers, width), *states[1:])
    if states is None or states.shape[-1] != layers * width:
        return states
    return states[..., index * width : (index + 1) * width]
