"""Has a mix one concept's shape and the other's looks? On the pocket that is known: such things can be drawn."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image

from promptplus.concept import Concept
from promptplus.evaluation.judges import DinoJudge
from promptplus.layers import LayerMap
from promptplus.mixing import mix
from promptplus.pocket.captions import with_article
from promptplus.pocket.painting import Look
from promptplus.pocket.scenes import figures
from promptplus.pocket.shapes import RGB
from promptplus.pocket.world import BACKGROUNDS, COLOURS, render_mixture

DRAWN = 16  # renders of each combination; our choice
SEED = 800_000_000  # of the first: no training, bundled or report picture has it

Combination = tuple[str, str]
"""Whose shape, whose looks."""


class MixJudge:
    """Says which combination of two unseen objects' shapes and looks a picture is nearest to.

    It compares a picture with fresh renders of all four, in the judge DINO's eyes.
    """

    def __init__(self, judge: DinoJudge, first: str, second: str) -> None:
        self.judge = judge
        self.combinations: list[Combination] = [(a, b) for a in (first, second) for b in (first, second)]
        self.references = torch.stack([judge.embed(_renders(*pair)) for pair in self.combinations])

    def seen(self, images: Sequence[Image.Image]) -> list[Combination]:
        """The nearest combination, by mean cosine, for each picture."""
        likeness = torch.einsum("crd,nd->ncr", self.references, self.judge.embed(images)).mean(2)
        return [self.combinations[i] for i in likeness.argmax(1).tolist()]


def _renders(shape: str, looks: str) -> list[Image.Image]:
    return [render_mixture(shape, looks, BACKGROUNDS[i % len(BACKGROUNDS)], SEED + i) for i in range(DRAWN)]


def in_words(look: Look, noun: str) -> str:
    """A look's colours and texture in the nearest words there are, said of a noun, with its article."""
    part = figures()[noun].trim if noun in figures() else None
    trim = f" with {nearest_colour(look.trim)} {part}" if part and look.trim else ""
    return with_article(f"{nearest_colour(look.body)} {look.texture} {noun}") + trim


def nearest_colour(rgb: RGB) -> str:
    """The named colour that is nearest in RGB."""
    return min(COLOURS, key=lambda word: sum((a - b) ** 2 for a, b in zip(COLOURS[word], rgb, strict=True)))


def splits(layers: LayerMap) -> list[tuple[int, ...]]:
    """What the shape may have, from nothing to everything: the nested subsets, coarse to fine."""
    return list(layers.subsets())


def mixed(shape: Concept, style: Concept, token: str, chosen: Sequence[int]) -> Concept:
    """``mix`` with a split of any size, none and all too."""
    if not chosen:
        return replace(style, token=token)
    return mix(shape, style, token, ",".join(map(str, chosen)))
