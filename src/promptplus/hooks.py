"""Forward hooks that give each cross-attention layer of a denoiser its own part of packed text states.

The text states of n layers travel as one tensor ``[batch, tokens, layers * width]``, which is wider with windows or
masks (see ``packing.py``). In a U-Net the hook of layer i passes on ``[batch, tokens, width]``; tensors of the plain
width pass unchanged. A diffusion transformer projects the text states before its blocks: there the layers' texts are
put one after the other, ``[batch, layers * tokens, width]``, and so is a plain text, once for each layer. The hook of
layer i takes its part of these tokens.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from promptplus.backbones import unet
from promptplus.errors import LayerError, ModelError
from promptplus.layer_hooks import LayerSlice, StageChoice, TextUnfold, TokenSlice
from promptplus.layers import LayerMap
from promptplus.shared_hooks import HookSet

TEXT_ELSEWHERE: Mapping[str, tuple[str | None, ...]] = {
    "encoder_hid_dim_type": (None, "ip_image_proj"),
    "addition_embed_type": (None, "text_time", "image", "image_hint"),
}
"""Settings of a U-Net that may give text states to other parts than cross-attention, and the values that do not."""


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
        else:
            self.attach(model, StageChoice(unet.text_width(model), unet.halvings(model, self.layers.names)))
        kind = TokenSlice if own.by_depth else LayerSlice
        for name, path in zip(names, own.module_paths(), strict=True):
            self.attach(model.get_submodule(path), kind(self.layers.names.index(name), len(self.layers)))


def per_layer(denoiser: nn.Module, layers: LayerMap | None = None) -> PerLayerHooks:
    """Install the per-layer hooks in a denoiser. ``PPlus`` does this for a whole pipeline.

    Args:
        denoiser: a ``UNet2DConditionModel``, a ``ControlNetModel``, or the transformer of PixArt or Sana. Afterwards it
            takes packed text states (see ``packing.pack``) as ``encoder_hidden_states``; plain ones still work.
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


def _text_width(transformer: Any) -> int:
    """The width of the text states that a diffusion transformer takes, before it projects them."""
    return transformer.config.caption_channels or transformer.config.cross_attention_dim
