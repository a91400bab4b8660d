"""Preview pictures during a training: one prompt at fixed seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from promptplus.concept import Kind
from promptplus.generation import denoise
from promptplus.memory import map_in_chunks
from promptplus.placeholders import Placeholder
from promptplus.pplus import PPlus
from promptplus.text_states import TextStates, to_prompt_embeds

SEEDS = (0, 1, 2, 3)
PROMPTS: dict[Kind, str] = {"object": "a photo of a {}", "style": "a painting in the style of {}"}


def preview_prompt(kind: Kind, words: str) -> str:
    """The prompt that shows an object or a style."""
    return PROMPTS[kind].format(words)


@torch.no_grad()
def preview(pplus: PPlus, text: str, placeholders: Mapping[str, Placeholder] | None = None) -> list[Image.Image]:
    """Pictures of one text for all layers at fixed seeds. ``placeholders``: tokens besides the added concepts."""
    layers = len(pplus.layers)
    text_states = pplus.text_states([[text] * layers], placeholders or {})
    return sample(pplus.pipe, text_states, pplus.without_negative(text_states))


@torch.no_grad()
def sample(pipe: Any, text: TextStates, negative: TextStates) -> list[Image.Image]:
    """Pictures of one text at fixed seeds; one by one where memory has no room for all at once."""

    def pictures(seeds: Sequence[int]) -> list[Image.Image]:
        embeds = to_prompt_embeds(text.expand(len(seeds)).packed(), negative.expand(len(seeds)).packed())
        return denoise(pipe, embeds, seeds, keep=False)

    return [picture for _, made in map_in_chunks(pictures, SEEDS, len(SEEDS)) for picture in made]
