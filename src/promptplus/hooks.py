"""Forward hooks that give each cross-attention layer of a denoiser its own part of packed text states.

The text states of n layers travel as one tensor ``[batch, tokens, layers * width]``. In a U-Net the hook of layer i
passes on ``[batch, tokens, width]``; tensors of the plain width pass unchanged. A diffusion transformer projects the
text states before its blocks: there the layers' texts are put one after the other, ``[batch, layers * tokens, width]``,
and so is a plain text, once for each layer. The hook of layer i takes its part of these tokens.
"""

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from promptplus.backbones import unet
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
        """Add the hooks to a denoiser, or to a ControlNet of a U-Net: layers of the same name take the same part."""
        if hasattr(model, "controlnet_down_blocks") and not unet.named_layers(model):
            return  # small ControlNets of SDXL take no text
        own = LayerMap.of(model)
        # a ControlNet whose transformers all have one layer does not number them
        names = [name if name in self.layers.names else f"{name}.0" for name in own.names]
        if foreign := [name for name in names if name not in self.layers.names]:
            raise LayerError(f"{type(model).__name__} has a layer {foreign[0]}, which the denoiser does not have")
        if own.by_depth:
            self.attach(model, TextUnfold(len(self.layers), _text_width(model)))
        kind = TokenSlice if own.by_depth else LayerSlice
        for name, path in zip(names, own.module_paths(), strict=True):
            self.attach(model.get_submodule(path), kind(self.layers.names.index(name), len(self.layers)))


def per_layer(denoiser: nn.Module, layers: LayerMap | None = None) -> PerLayerHooks:
    """Install the per-layer hooks in a denoiser. ``PPlus`` does this for a whole pipeline.

    Args:
        denoiser: a ``UNet2DConditionModel``, a ``ControlNetModel``, or the transformer of PixArt or Sana. Afterwards it
            takes packed text states (see ``pack``) as ``encoder_hidden_states``; plain ones still work.
        layers: the layers of the packed text states. Default: the denoiser's own. A ControlNet needs those of its
            U-Net.

    Returns:
        The hooks: ``hooks.remove()``, or ``with per_layer(denoiser):``, restores the denoiser.

    Raises:
        ModelError: the denoiser is compiled (``torch.compile`` silently ignores hooks that are added after its first
            call), conditions on text elsewhere too, or is a ControlNet and ``layers`` is not given.
        LayerError: the denoiser has no cross-attention layers that P+ supports.
    """
    check_denoiser(denoiser)
    if layers is None and hasattr(denoiser, "controlnet_down_blocks"):
        raise ModelError(
            "a ControlNet takes the packed text states of its U-Net: per_layer(controlnet, layers=LayerMap.of(unet)), "
            "or PPlus(pipe) for the whole pipeline"
        )
    hooks = PerLayerHooks(layers or LayerMap.of(denoiser))
    hooks.install(denoiser)
    return hooks


def check_denoiser(denoiser: nn.Module) -> None:
    """Raise ModelError for a denoiser that P+ cannot condition: compiled, or with text elsewhere than in its layers."""
    if _is_compiled(denoiser):
        raise ModelError("the denoiser is compiled already, and torch.compile ignores new hooks: install P+ first")
    config = getattr(denoiser, "config", None)
    if getattr(config, "guidance_embeds", False):
        raise ModelError(
            f"{type(denoiser).__name__} is guided by an embedding and takes no negative prompt, as SANA-Sprint; "
            "P+ does not support it yet"
        )
    for name, allowed in TEXT_ELSEWHERE.items():
        value = getattr(config, name, None)
        if value not in allowed:
            raise ModelError(
                f"{type(denoiser).__name__} has {name} {value!r}: it takes the text states before its cross-attention "
                "layers too, so they cannot be packed; P+ does not support it yet"
            )


def controlnets(pipe: Any) -> list[Any]:
    """The ControlNets of a pipeline."""
    model = getattr(pipe, "controlnet", None)
    return [] if model is None else list(getattr(model, "nets", [model]))


def has_ip_adapter(denoiser: nn.Module) -> bool:
    """Whether an IP-Adapter is loaded: each call then needs a picture too."""
    return getattr(denoiser, "encoder_hid_proj", None) is not None


def _is_compiled(module: nn.Module) -> bool:
    compiled = (getattr(m, "_compiled_call_impl", None) is not None for m in module.modules())
    return hasattr(module, "_orig_mod") or any(compiled)


class ArgumentsHook(SharedHook):
    """A hook that changes the arguments of a module's calls.

    It has no state, so gradient checkpointing may run it twice.
    """

    def register(self, module: nn.Module) -> Any:
        return module.register_forward_pre_hook(self, with_kwargs=True)

    @abstractmethod
    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that the module is called with, in place of these."""


@dataclass(frozen=True)
class LayerHook(ArgumentsHook):
    """The hook of layer ``index`` of ``layers``."""

    index: int
    layers: int


class LayerSlice(LayerHook):
    """The hook of a U-Net's layer: it takes the layer's part of each token's packed states."""

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an attention layer's call, with its own part of the text states."""
        if len(args) > 1:  # forward(hidden_states, encoder_hidden_states, …) called by position
            args = (args[0], self._part(args[1], module), *args[2:])
        elif "encoder_hidden_states" in kwargs:
            kwargs = {**kwargs, "encoder_hidden_states": self._part(kwargs["encoder_hidden_states"], module)}
        return args, kwargs

    def _part(self, states: Any, attention: nn.Module) -> Any:
        """This layer's part of packed states; plain ones unchanged."""
        if isinstance(states, tuple):  # IP-Adapter passes (text states, picture states)
            return (self._part(states[0], attention), *states[1:])
        width: Any = attention.cross_attention_dim
        if states is None or states.shape[-1] == width:
            return states
        check_width(states.shape[-1], width, self.layers)
        return states[..., self.index * width : (self.index + 1) * width]


@dataclass(frozen=True)
class TextUnfold(ArgumentsHook):
    """The hook of a diffusion transformer: it puts the texts of all layers one after the other.

    Its layers then always take texts that are packed by tokens, also those of a plain call. So they need not know
    which of both a call is.
    """

    layers: int
    width: int

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the transformer's call, with unfolded text states and mask."""
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        states, mask = (bound.arguments.get(name) for name in ("encoder_hidden_states", "encoder_attention_mask"))
        if states is None:
            return args, kwargs
        check_width(states.shape[-1], self.width, self.layers)
        bound.arguments["encoder_hidden_states"] = self._by_tokens(states)
        if mask is not None and mask.shape[-1] == states.shape[1]:  # one for all layers
            bound.arguments["encoder_attention_mask"] = mask.repeat(*[1] * (mask.ndim - 1), self.layers)
        elif mask is not None and mask.shape[-1] != self.layers * states.shape[1]:
            raise ModelError(
                f"the mask has {mask.shape[-1]} tokens; it has {states.shape[1]}, as the text states, or that for each "
                f"of {self.layers} layers: pass all that PPlus.encode returns"
            )
        return bound.args, bound.kwargs

    def _by_tokens(
        self, states: Float[Tensor, "batch tokens packed_or_plain"]
    ) -> Float[Tensor, "batch packed_tokens width"]:
        if states.shape[-1] == self.width:
            return states.repeat(1, self.layers, 1)
        batch, tokens, _ = states.shape
        parts = states.view(batch, tokens, self.layers, self.width)
        return parts.permute(0, 2, 1, 3).reshape(batch, self.layers * tokens, self.width)


class TokenSlice(LayerHook):
    """The hook of a diffusion transformer's layer: it takes the layer's tokens, and their part of the mask."""

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an attention layer's call, with its own text and the mask of it."""
        states = kwargs["encoder_hidden_states"]
        length = states.shape[1] // self.layers
        own = slice(self.index * length, (self.index + 1) * length)
        kwargs = {**kwargs, "encoder_hidden_states": states[:, own]}
        if kwargs.get("attention_mask") is not None:
            kwargs["attention_mask"] = kwargs["attention_mask"][..., own]
        return args, kwargs


def check_width(given: int, width: int, layers: int) -> None:
    """Raise ModelError for text states that are neither plain nor packed for this denoiser: they came by mistake."""
    if given in (width, layers * width):
        return
    raise ModelError(
        f"the denoiser got text states of width {given}; it takes {width}, or {layers * width} as PPlus.encode packs "
        f"them for its {layers} layers: encode both prompts with the PPlus of this very pipeline"
    )


def _text_width(transformer: Any) -> int:
    """The width of the text states that a diffusion transformer takes, before it projects them."""
    return transformer.config.caption_channels or transformer.config.cross_attention_dim
