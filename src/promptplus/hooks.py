"""Forward hooks that give each cross-attention layer of a denoiser its own slice of packed text states.

The text states of n layers travel as one tensor ``[batch, tokens, layers * width]``; the hook of layer i passes on
``[batch, tokens, width]``. Tensors of the plain width pass unchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from promptplus.errors import LayerError, ModelError, PromptError
from promptplus.layers import LayerMap
from promptplus.shared_hooks import HookSet, SharedHook

TEXT_ELSEWHERE: Mapping[str, tuple[str | None, ...]] = {
    "encoder_hid_dim_type": (None, "ip_image_proj"),
    "addition_embed_type": (None, "text_time", "image", "image_hint"),
}
"""Settings of a U-Net that may give text states to other parts than cross-attention, and the values that do not."""


def pack(states: Float[Tensor, "..."]) -> Float[Tensor, "batch tokens packed"]:
    """Pack the text states of all layers into one tensor for ``prompt_embeds``.

    Args:
        states: ``[batch, layers, tokens, width]``, layers in forward order.

    Returns:
        ``[batch, tokens, layers * width]``. Layer i is the slice ``[..., i * width : (i + 1) * width]``.

    Raises:
        PromptError: the states have another number of dimensions.
    """
    if states.ndim != 4:
        raise PromptError(f"text states to pack are [batch, layers, tokens, width], not {list(states.shape)}")
    batch, layers, length, width = states.shape
    return states.permute(0, 2, 1, 3).reshape(batch, length, layers * width)


class PerLayerHooks(HookSet):
    """The hooks installed in one denoiser. ``remove()``, or the end of a ``with`` block, takes them out.

    Attributes:
        layers: the LayerMap of the packed text states.
    """

    def __init__(self, layers: LayerMap, *, leave: bool = False) -> None:
        super().__init__(leave=leave)
        self.layers = layers

    def install(self, model: nn.Module) -> None:
        """Add the hooks to a U-Net, or to a ControlNet of that U-Net: layers of the same name take the same part."""
        own = LayerMap.of(model)
        if foreign := [name for name in own.names if name not in self.layers.names]:
            raise LayerError(f"{type(model).__name__} has a layer {foreign[0]}, which the U-Net does not have")
        for name, path in zip(own.names, own.module_paths(), strict=True):
            self.attach(model.get_submodule(path), LayerSlice(self.layers.names.index(name), len(self.layers)))


def per_layer(unet: nn.Module, layers: LayerMap | None = None) -> PerLayerHooks:
    """Install the per-layer hooks in a U-Net. ``PPlus`` does this for a whole pipeline.

    Args:
        unet: a ``UNet2DConditionModel``, or a ``ControlNetModel``. Afterwards it takes packed text states (see
            ``pack``) as ``encoder_hidden_states``; plain ones still work.
        layers: the layers of the packed text states. Default: the U-Net's own. A ControlNet needs those of its U-Net.

    Returns:
        The hooks: ``hooks.remove()``, or ``with per_layer(unet):``, restores the U-Net.

    Raises:
        ModelError: the U-Net is compiled (``torch.compile`` silently ignores hooks that are added after its first
            call), conditions on text elsewhere too, or is a ControlNet and ``layers`` is not given.
        LayerError: the U-Net has no cross-attention layers that P+ supports.
    """
    check_denoiser(unet)
    if layers is None and hasattr(unet, "controlnet_down_blocks"):
        raise ModelError(
            "a ControlNet takes the packed text states of its U-Net: per_layer(controlnet, layers=LayerMap.of(unet)), "
            "or PPlus(pipe) for the whole pipeline"
        )
    hooks = PerLayerHooks(layers or LayerMap.of(unet))
    hooks.install(unet)
    return hooks


def check_denoiser(unet: nn.Module) -> None:
    """Raise ModelError for a denoiser that P+ cannot condition: compiled, or with text elsewhere than in its layers."""
    if _is_compiled(unet):
        raise ModelError("the denoiser is compiled already, and torch.compile ignores new hooks: install P+ first")
    config = getattr(unet, "config", None)
    for name, allowed in TEXT_ELSEWHERE.items():
        value = getattr(config, name, None)
        if value not in allowed:
            raise ModelError(
                f"{type(unet).__name__} has {name} {value!r}: it takes the text states before its cross-attention "
                "layers too, so they cannot be packed; P+ does not support it yet"
            )


def controlnets(pipe: Any) -> list[Any]:
    """The ControlNets of a pipeline."""
    model = getattr(pipe, "controlnet", None)
    return [] if model is None else list(getattr(model, "nets", [model]))


def has_ip_adapter(unet: nn.Module) -> bool:
    """Whether an IP-Adapter is loaded: each call then needs a picture too."""
    return getattr(unet, "encoder_hid_proj", None) is not None


def _is_compiled(module: nn.Module) -> bool:
    compiled = (getattr(m, "_compiled_call_impl", None) is not None for m in module.modules())
    return hasattr(module, "_orig_mod") or any(compiled)


@dataclass(frozen=True)
class LayerSlice(SharedHook):
    """The hook of layer ``index`` of ``layers``. It has no state, so gradient checkpointing may run it twice."""

    index: int
    layers: int

    def register(self, module: nn.Module) -> Any:
        return module.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(
        self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an attention layer's call, with its own part of the text states."""
        width = attention.cross_attention_dim
        if len(args) > 1:  # forward(hidden_states, encoder_hidden_states, …) called by position
            args = (args[0], self._slice(args[1], width), *args[2:])
        elif "encoder_hidden_states" in kwargs:
            kwargs = {**kwargs, "encoder_hidden_states": self._slice(kwargs["encoder_hidden_states"], width)}
        return args, kwargs

    def _slice(self, states: Any, width: Any) -> Any:
        """This layer's part of packed states; anything else unchanged."""
        if isinstance(states, tuple):  # IP-Adapter passes (text states, picture states)
            return (self._slice(states[0], width), *states[1:])
        if states is None or states.shape[-1] != self.layers * width:
            return states
        return states[..., self.index * width : (self.index + 1) * width]
