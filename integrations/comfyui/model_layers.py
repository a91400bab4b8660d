"""The cross-attention layers of a model that ComfyUI loaded, and the patch that gives each of them its own text.

ComfyUI's U-Net is three lists of blocks. A transformer in a block holds one or several layers. While it runs, ComfyUI
tells each patch the place of the layer: the list and the number of the block, and the layer's number in the
transformer. This is known before the run, so nothing is counted while it runs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from promptplus.layers import LayerMap

LISTS = {"input": "down", "middle": "mid", "output": "up"}
"""ComfyUI's lists of blocks, in forward order, and how promptplus calls them."""
SDXL_WIDTH = 2048  # of the text states of Stable Diffusion XL, whose latents are twice as high and wide
Place = tuple[str, int, int]
"""Where a layer is: the list, the number of its block there, and its number in the transformer."""


@dataclass(frozen=True)
class ModelLayers:
    """The cross-attention layers of one model.

    Attributes:
        layers: their names and groups, in forward order.
        places: for each place, the index of its layer.
        width: width of the text states that a layer takes (D).
    """

    layers: LayerMap
    places: Mapping[Place, int] = field(repr=False)
    width: int

    @classmethod
    def of(cls, diffusion_model: Any) -> "ModelLayers | None":
        """The layers of a U-Net of Stable Diffusion 1, 2 or XL; None of any other model.

        Other models: those that are no U-Net (Flux, Stable Diffusion 3), those that take text elsewhere too (the
        upscaler), and those for videos.
        """
        found = [*_transformers(diffusion_model)]
        blocks = [block for transformer in found for block in transformer.module.transformer_blocks]
        widths = {getattr(getattr(getattr(b, "attn2", None), "to_k", None), "in_features", None) for b in blocks}
        width: int | None = widths.pop() if len(widths) == 1 else None
        if width is None or any(getattr(block, "disable_self_attn", False) for block in blocks):
            return None
        if any(hasattr(transformer.module, "time_stack") for transformer in found):
            return None
        deep = len(blocks) > len(found)
        size = 128 if width == SDXL_WIDTH else 64  # of the latents at the model's native picture size
        names: list[tuple[str, int]] = []
        places: dict[Place, int] = {}
        for transformer in found:
            for number in range(len(transformer.module.transformer_blocks)):
                places[(transformer.list, transformer.block, number)] = len(names)
                names.append((f"{transformer.name}.{number}" if deep else transformer.name, size >> transformer.level))
        return cls(LayerMap.from_names(names), places, width)

    @property
    def packed_width(self) -> int:
        """Width of the text states of all layers, side by side."""
        return len(self.layers) * self.width


class _Transformer(NamedTuple):
    """A transformer of the U-Net: where it is, its name without the layer's number, how often its grid is halved."""

    list: str
    block: int
    name: str
    level: int
    module: Any


def _transformers(model: Any) -> Iterator[_Transformer]:
    """The transformers of a U-Net, in forward order; none of another model.

    The blocks between two changes of the resolution are one block in promptplus, as they are in diffusers.
    """
    level = 0
    for kind, direction in LISTS.items():
        blocks = getattr(model, "middle_block" if kind == "middle" else f"{kind}_blocks", None)
        group = transformers = 0
        for number, block in enumerate([] if blocks is None else [blocks] if kind == "middle" else blocks):
            for module in block:
                if hasattr(module, "transformer_blocks"):
                    name = f"mid.{transformers}" if kind == "middle" else f"{direction}.{group}.{transformers}"
                    yield _Transformer(kind, number, name, level, module)
                    transformers += 1
                change = {"Downsample": 1, "Upsample": -1}.get(type(module).__name__, 0)
                if change:
                    level, group, transformers = level + change, group + 1, 0


@dataclass(frozen=True)
class LayerPatch:
    """A patch of ComfyUI's attn2: each layer takes its own part of the packed text states.

    It has no state. Text states of any other width pass unchanged, and so do those of other models that ComfyUI runs
    with the same patches.

    Attributes:
        model: the layers of the model.
    """

    model: ModelLayers

    def __call__(
        self,
        query: Float[Tensor, "batch pixels channels"],
        context: Float[Tensor, "batch tokens packed"] | None,
        value: Float[Tensor, "batch tokens packed"] | None,
        options: Mapping[str, Any],
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the layer attends with.

        Args:
            query: ``[batch, pixels, channels]``; it is passed on.
            context: ``[batch, tokens, layers * width]``: the text states that keys are made of.
            value: the text states that values are made of; usually the same tensor.
            options: where the layer is: ``block`` and ``block_index``.

        Returns:
            The query, and text states of ``[batch, tokens, width]`` for keys and for values.
        """
        if context is None or context.shape[-1] != self.model.packed_width:
            return query, context, value
        index = self.model.places[(*options["block"], options["block_index"])]
        part = slice(index * self.model.width, (index + 1) * self.model.width)
        own = context[..., part]
        if value is None or value is context:
            return query, own, own
        return query, own, value[..., part] if value.shape[-1] == self.model.packed_width else value


def apply_patch(patcher: Any, model: ModelLayers) -> Any:
    """A copy of ComfyUI's model with the patch; the model itself, and its weights, are not changed.

    The patch comes before all others of its kind, which then see text states of the plain width.
    """
    patched = patcher.clone()
    patched.set_model_attn2_patch(LayerPatch(model))
    patches = patched.model_options["transformer_options"]["patches"]["attn2_patch"]
    patches.insert(0, patches.pop())
    return patched
