"""U-Nets: the names of their cross-attention layers, in forward order."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import nn

from promptplus.backbones import dit
from promptplus.errors import LayerError

DIRECTIONS = ("down", "mid", "up")
_PATH = re.compile(
    r"(?P<direction>down|mid|up)_blocks?(?:\.(?P<block>\d+))?"
    r"\.attentions\.(?P<attention>\d+)\.transformer_blocks\.(?P<transformer>\d+)\.attn2"
)


def named_layers(unet: nn.Module) -> list[tuple[str, int]]:
    """(name, resolution) of each cross-attention layer of a ``UNet2DConditionModel`` or a ``ControlNetModel``.

    Raises LayerError where it has layers that P+ does not know.
    """
    paths = _paths(unet)
    sample_size = getattr(getattr(unet, "config", None), "sample_size", None)  # a ControlNet has none
    size = sample_size if isinstance(sample_size, int) else max(sample_size or (64,))
    blocks, deep = len(getattr(unet, "down_blocks", ())), any(int(m["transformer"]) for m in paths)
    return [(_name(m, deep), -(-size // 2 ** _level(m["direction"], m["block"], blocks))) for m in paths]


def module_path(name: str) -> str:
    """The dotted path of a layer's ``attn2`` module inside the U-Net."""
    direction, *numbers = name.split(".")
    root = "mid_block" if direction == "mid" else f"{direction}_blocks.{numbers.pop(0)}"
    attention, *transformer = numbers
    return f"{root}.attentions.{attention}.transformer_blocks.{(transformer or ['0'])[0]}.attn2"


def halvings(unet: nn.Module, names: Sequence[str]) -> tuple[int, ...]:
    """How many times the latent grid is halved before each of a U-Net's layers; ``unet``: it, or its ControlNet."""
    blocks = len(getattr(unet, "down_blocks", ()))
    parts = (name.split(".") for name in names)
    return tuple(_level(direction, numbers[0], blocks) for direction, *numbers in parts)


def text_width(unet: Any) -> int:
    """The width of the text states that a U-Net or a ControlNet takes."""
    width = unet.config.cross_attention_dim
    return width if isinstance(width, int) else width[0]


def _paths(unet: nn.Module) -> list[re.Match[str]]:
    """The parsed module paths of the layers, in forward order; ``named_modules`` lists the mid block last."""
    matches: list[re.Match[str]] = []
    for path, module in cast(Iterator[tuple[str, nn.Module]], unet.named_modules()):
        if path.endswith("attn2"):
            match = _PATH.fullmatch(path)
            if match is None or not getattr(module, "is_cross_attention", True):
                raise LayerError(_unknown(path, type(unet).__name__))
            matches.append(match)
        elif path.endswith("attn1") and getattr(module, "is_cross_attention", False):
            raise LayerError(f"{path} of {type(unet).__name__} takes text too; P+ cannot split it")

    def forward_order(m: re.Match[str]) -> tuple[int, ...]:
        return (DIRECTIONS.index(m["direction"]), int(m["block"] or 0), int(m["attention"]), int(m["transformer"]))

    return sorted(matches, key=forward_order)


def _unknown(path: str, model: str) -> str:
    """Why a layer cannot be conditioned."""
    if "motion_modules" in path:
        return (
            f"{model} makes videos: its motion modules ({path}) attend across frames. P+ conditions text-to-image "
            "denoisers; use the U-Net without the motion adapter"
        )
    known = ", ".join(("UNet2DConditionModel", *dit.KNOWN))
    return f"P+ does not know the cross-attention layer {path} of {model}; it knows those of {known}"


def _level(direction: str, block: str | None, blocks: int) -> int:
    """How many times the latent grid is halved before this layer; 0 is the highest resolution."""
    if direction == "down":
        return int(block or 0)
    return blocks - 1 - (int(block or 0) if direction == "up" else 0)


def _name(match: re.Match[str], deep: bool) -> str:
    parts = [match["direction"], match["block"], match["attention"], match["transformer"] if deep else None]
    return ".".join(part for part in parts if part is not None)
