"""Pictures that show how a training goes on: one prompt, fixed seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from promptplus.concept import Kind
from promptplus.conditioning import PPlus
from promptplus.generation import denoise, pack_kwargs, quiet
from promptplus.text import Placeholder

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
        return denoise(pipe, pack_kwargs(states.expand(len(seeds), -1, -1, -1), negative), seeds)

    with quiet(pipe):
        try:
            return pictures(SEEDS)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        return [pictures([seed])[0] for seed in SEEDS]


_NO_ROOM = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # CUDA and MPS, cuDNN and cuBLAS, the CPU


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that there is no memory left; PyTorch has a class of its own for CUDA alone."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_ROOM)
