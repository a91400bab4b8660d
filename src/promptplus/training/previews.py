"""Pictures that show how a training goes on: one prompt, fixed seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from promptplus.concept import Kind
from promptplus.generation import denoise, quiet, to_prompt_embeds
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
    """A text at fixed seeds, the same for all layers but for what placeholders say."""
    layers = len(pplus.layers)
    return sample(pplus.pipe, pplus.states([[text] * layers], placeholders or {}), pplus.states([[""] * layers]))


@torch.no_grad()
def sample(pipe: Any, states: Tensor, negative: Tensor) -> list[Image.Image]:
    """Text states ``[1, n, S, D]`` at fixed seeds; one picture after the other where memory has no room for all."""

    def pictures(seeds: Sequence[int]) -> list[Image.Image]:
        return denoise(pipe, to_prompt_embeds(states.expand(len(seeds), -1, -1, -1), negative), seeds)

    with quiet(pipe):
        return [picture for _, made in map_in_chunks(pictures, SEEDS, len(SEEDS)) for picture in made]
