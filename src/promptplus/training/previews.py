"""Preview pictures during a training: one prompt at fixed seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from promptplus.concept import Kind
from promptplus.generation import denoise, to_prompt_embeds
from promptplus.memory import map_in_chunks
from promptplus.placeholders import Placeholder
from promptplus.pplus import PPlus

SEEDS = (0, 1, 2, 3)
PROMPTS: dict[Kind, str] = {"object": "a photo of a {}", "style": "a painting in the style of {}"}


def preview_prompt(kind: Kind, words: str) -> str:
    """The prompt that shows an object or a style."""
    return PROMPTS[kind].format(words)


@torch.no_grad()
def preview(pplus: PPlus, text: str, placeholders: Mapping[str, Placeholder] | None = None) -> list[Image.Image]:
    """Pictures of one text for all layers at fixed seeds. ``placeholders``: tokens besides the added concepts."""
    layers = len(pplus.layers)
    return sample(pplus.pipe, pplus.states([[text] * layers], placeholders or {}), pplus.states([[""] * layers]))


@torch.no_grad()
def sample(
    pipe: Any, states: Float[Tensor, "1 layers tokens width"], negative: Float[Tensor, "1 layers tokens width"]
) -> list[Image.Image]:
    """Pictures of text states at fixed seeds; one by one where memory has no room for all at once."""

    def pictures(seeds: Sequence[int]) -> list[Image.Image]:
        return denoise(pipe, to_prompt_embeds(states.expand(len(seeds), -1, -1, -1), negative), seeds, keep=False)

    return [picture for _, made in map_in_chunks(pictures, SEEDS, len(SEEDS)) for picture in made]
