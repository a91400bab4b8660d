"""Diffusion transformers: the names of their cross-attention layers, one in every block."""

from typing import Any

from torch import nn

from promptplus.errors import LayerError

KNOWN = ("PixArtTransformer2DModel", "SanaTransformer2DModel")
"""The classes whose layers take text states and their mask as P+ passes them (tested)."""
BLOCK = "block"


def is_dit(denoiser: nn.Module) -> bool:
    """Whether a denoiser is one of the transformers that P+ knows."""
    return type(denoiser).__name__ in KNOWN


def named_layers(transformer: Any) -> list[tuple[str, int]]:
    """(name, resolution) of each block's cross-attention layer. All have the same resolution, in patches.

    Raises LayerError where a block has none.
    """
    config = transformer.config
    resolution = config.sample_size // config.patch_size
    if bare := [i for i, block in enumerate(transformer.transformer_blocks) if getattr(block, "attn2", None) is None]:
        raise LayerError(f"block {bare[0]} of {type(transformer).__name__} has no cross-attention; P+ needs it in all")
    return [(f"{BLOCK}.{i}", resolution) for i in range(len(transformer.transformer_blocks))]


def module_path(name: str) -> str:
    """The dotted path of a layer's ``attn2`` module inside the transformer."""
    return f"transformer_blocks.{name.removeprefix(BLOCK + '.')}.attn2"
