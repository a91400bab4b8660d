"""How the text states of all layers travel in one tensor, ``prompt_embeds``.

A simple prompt is packed as ``[batch, tokens, layers * width]``. A prompt whose parts have windows or masks needs more:
for each stage of the denoising and each layer one block of states, and for each mask a block of states inside it and a
block that holds the mask. The hooks read all of it from the tensor, so they have no state of a call.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import interpolate, pad

from promptplus.errors import ModelError, PromptError

MASK_SIDE = 128
"""Largest side of a mask: as many cells as Stable Diffusion XL has latent pixels at 1024 pixels (our choice)."""
EXACT_TERMS = 3
"""A timestep is kept as a sum of so many bfloat16 numbers: together they have the 24 bits of a float32."""


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


@dataclass(frozen=True)
class Layout:
    """What packed text states hold. It follows from their width.

    The tensor is ``[batch, tokens, stages * layers * blocks * width]``, and where there are several stages one more
    column for each, whose first rows hold the timestep from which on it holds.

    Attributes:
        layers: the number of layers.
        width: of one layer's text states (D).
        stages: stretches of the denoising, each with its own states.
        regions: masks of each layer.
    """

    layers: int
    width: int
    stages: int = 1
    regions: int = 0

    @classmethod
    def of(cls, packed_width: int, layers: int, width: int) -> Self:
        """The layout of packed states of some width.

        Raises ModelError for a width that no packed states have: they came by mistake.
        """
        blocks, stages = divmod(packed_width, layers * width)
        each, left = divmod(blocks, max(stages, 1))
        if left or each % 2 == 0 or stages == 1:
            raise ModelError(
                f"the denoiser got text states of width {packed_width}; it takes {width}, or {layers * width} as "
                f"PPlus.encode packs them for its {layers} layers: encode both prompts with the PPlus of this very "
                "pipeline"
            )
        return cls(layers, width, max(stages, 1), each // 2)

    @property
    def blocks(self) -> int:
        """Blocks of a layer: its states, and two for each region."""
        return 1 + 2 * self.regions

    @property
    def simple(self) -> bool:
        """Whether there are only the states of each layer."""
        return self.stages == 1 and self.regions == 0


def mask_side(tokens: int, width: int) -> int:
    """The side of a mask in the tensor: the largest power of two that fits into one layer's states, up to MASK_SIDE."""
    return min(MASK_SIDE, 2 ** int(math.log2(math.isqrt(tokens * width))))


def pack_stages(
    states: Float[Tensor, "batch stages slots layers tokens width"],
    masks: Float[Tensor, "batch stages regions side side"],
    covered: Float[Tensor, "batch stages regions layers"],
    timesteps: Sequence[float],
) -> Float[Tensor, "batch tokens packed"]:
    """Pack the text states of all stages, layers and regions into one tensor.

    Args:
        states: the first slot is what holds outside of all masks, the others are inside one mask each.
        masks: the weights of each region.
        covered: 1 where a region belongs to a layer, else 0.
        timesteps: for each stage the largest timestep at which it holds, in falling order.
    """
    batch, stages, slots, _layers, length, width = states.shape
    if slots > 1:
        side = mask_side(length, width)
        cells = interpolate(masks.flatten(0, 1).to(states.device), size=(side, side), mode="area")
        cells = cells.unflatten(0, masks.shape[:2]).flatten(-2).to(states.dtype)
        cells = cells[:, :, :, None] * covered[..., None].to(states)
        cells = pad(cells, (0, length * width - cells.shape[-1])).unflatten(-1, (length, width))
        pairs = torch.stack([states[:, :, 1:], cells], dim=3).flatten(2, 3)
        states = torch.cat([states[:, :, :1], pairs], dim=2)
    # [batch, stages, blocks, layers, tokens, width] → features in the order stage, layer, block, width
    packed = states.permute(0, 4, 1, 3, 2, 5).reshape(batch, length, -1)
    if stages == 1:
        return packed
    header = packed.new_zeros(batch, length, stages)
    for stage, timestep in enumerate(timesteps):
        header[:, :EXACT_TERMS, stage] = header.new_tensor(_terms(timestep))
    return torch.cat([packed, header], dim=-1)


def _terms(value: float) -> list[float]:
    """Numbers whose sum is the value to 24 bits, each of them exact in half precision of either kind."""
    terms: list[float] = []
    for _ in range(EXACT_TERMS):
        terms.append(torch.tensor(value - sum(terms)).bfloat16().item())
    return terms


def stage_index(
    packed: Float[Tensor, "batch tokens packed"], layout: Layout, timestep: Shaped[Tensor, "*any"] | float | int
) -> Int[Tensor, " batch"]:
    """The number of the stage that holds at a timestep, for each row. It does not wait for the device."""
    first = packed[:, :EXACT_TERMS, -layout.stages :].float().sum(dim=1)  # [batch, stages]
    now = torch.as_tensor(timestep, device=packed.device).float().reshape(-1, 1)
    return (now <= first[:, 1:]).sum(dim=1)


def at_timestep(
    packed: Float[Tensor, "batch tokens packed"], layout: Layout, timestep: Shaped[Tensor, "*any"] | float | int
) -> Float[Tensor, "batch tokens stage"]:
    """The states of the stage that holds at a timestep."""
    return of_stage(packed, layout, stage_index(packed, layout, timestep))


def of_stage(
    packed: Float[Tensor, "batch tokens packed"], layout: Layout, index: Int[Tensor, " stages"]
) -> Float[Tensor, "batch tokens stage"]:
    """The states of one stage; ``index``: its number, for each row."""
    stages = packed[..., : -layout.stages].unflatten(-1, (layout.stages, -1))
    chosen = index.view(-1, 1, 1, 1).expand(-1, stages.shape[1], 1, stages.shape[3])
    return stages.gather(2, chosen).squeeze(2)


def on_grids(
    packed: Float[Tensor, "batch tokens packed"], layout: Layout, grids: Sequence[tuple[int, int]]
) -> Float[Tensor, "batch tokens packed"]:
    """The states of one stage, with each layer's masks at the layer's own grid: height × width cells.

    Raises ModelError where a grid has more cells than a block.
    """
    batch, length, _ = packed.shape
    parts = packed.view(batch, length, layout.layers, layout.blocks, layout.width).clone()
    side = mask_side(length, layout.width)
    room = length * layout.width
    for grid in set(grids):
        if grid[0] * grid[1] > room:
            raise ModelError(
                f"a mask of a prompt part has {grid[0]} × {grid[1]} cells on a layer of this picture, more than the "
                f"{room} that fit; make the picture smaller, or leave the masks out"
            )
        chosen = [layer for layer, its in enumerate(grids) if its == grid]
        cells = parts[:, :, chosen, 2::2]  # [batch, tokens, layers, regions, width]
        raster = cells.permute(0, 2, 3, 1, 4).flatten(-2)[..., : side * side].unflatten(-1, (side, side))
        fitted = interpolate(raster.flatten(0, 2)[:, None].float(), size=grid, mode="area").flatten(1)
        padded = pad(fitted, (0, room - fitted.shape[-1])).to(packed.dtype)
        padded = padded.view(batch, len(chosen), layout.regions, length, layout.width)
        parts[:, :, chosen, 2::2] = padded.permute(0, 3, 1, 2, 4)
    return parts.flatten(2)
