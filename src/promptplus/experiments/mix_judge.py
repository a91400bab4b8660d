"""Has a mix one concept's shape and the other's looks? On the pocket that is known: such things can be drawn."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from PIL import Image

from promptplus.concept import Concept
from promptplus.evaluation.judges import DinoJudge
from promptplus.layers import LayerMap
from promptplus.mixing import mix
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.held_out import HELD_OUT_OBJECTS, render_mixture
from promptplus.pocket.world import BACKGROUNDS, COLOURS
from promptplus.pocket.world.captions import with_article
from promptplus.pocket.world.painting import Look
from promptplus.pocket.world.scenes import shapes_by_noun
from promptplus.pocket.world.shapes import RGB

DRAWN = 16  # renders of each combination; our choice
LEAST = 6  # objects whose shapes and looks are told apart: by chance one picture in 36 is right; our choice
SEED = 800_000_000  # of the first: no training, bundled or report picture has it

Combination = tuple[str, str]
"""Whose shape, whose looks."""


class MixJudge:
    """Says which combination of unseen objects' shapes and looks a picture is nearest to.

    The rule: every object's shape is rendered afresh in every object's looks; a picture is taken for the combination
    whose renders are nearest, by mean cosine of the attribute judge's features. That is no choice between the two
    concepts of a mix: a picture of neither is nearest to some other combination. Of fresh renders of the twelve
    ``report`` objects' 144 combinations it tells .94, the judge DINO .25 (``python -m benchmarks.pairs``).

    Args:
        names: objects whose mixes are judged; where they are few, others are added that nothing is expected of.
    """

    def __init__(self, judge: AttributeJudge | DinoJudge, names: Sequence[str]) -> None:
        self.judge, self.names = judge, known_objects(names)
        self.combinations: list[Combination] = list(product(self.names, self.names))
        self.references = torch.stack([judge.embed(_renders(*pair)).mean(0) for pair in self.combinations])

    @property
    def chance(self) -> float:
        """How often a picture of anything at all would be taken for one combination."""
        return 1 / len(self.combinations)

    def seen(self, images: Sequence[Image.Image]) -> list[Combination]:
        """The nearest combination for each picture."""
        likeness = self.judge.embed(images) @ self.references.T
        return [self.combinations[i] for i in likeness.argmax(1).tolist()]


def known_objects(names: Sequence[str]) -> list[str]:
    """The given unseen objects, each once, and as many others as make ``LEAST``."""
    given = list(dict.fromkeys(names))
    others = [name for name in HELD_OUT_OBJECTS if name not in given]
    return given + others[: max(0, LEAST - len(given))]


def _renders(shape: str, looks: str) -> list[Image.Image]:
    return [render_mixture(shape, looks, BACKGROUNDS[i % len(BACKGROUNDS)], SEED + i) for i in range(DRAWN)]


def in_words(look: Look, noun: str) -> str:
    """A look's colours and texture in the nearest words there are, said of a noun, with its article."""
    part = shapes_by_noun()[noun].trim if noun in shapes_by_noun() else None
    trim = f" with {nearest_colour(look.trim)} {part}" if part and look.trim else ""
    return with_article(f"{nearest_colour(look.body)} {look.texture} {noun}") + trim


def nearest_colour(rgb: RGB) -> str:
    """The named colour that is nearest in RGB."""
    return min(COLOURS, key=lambda word: sum((a - b) ** 2 for a, b in zip(COLOURS[word], rgb, strict=True)))


def disjoint(names: Sequence[str]) -> list[Combination]:
    """Pairs out of names, each in one pair alone, so that pairs may be resampled as units; an odd one is left out."""
    return list(zip(names[::2], names[1::2], strict=False))


def splits(layers: LayerMap) -> list[tuple[int, ...]]:
    """What the shape may have, from nothing to everything: the nested subsets, coarse to fine."""
    return list(layers.subsets())


def mixed(shape: Concept, style: Concept, token: str, chosen: Sequence[int]) -> Concept:
    """``mix`` with a split of any size, none and all too."""
    if not chosen:
        return replace(style, token=token)
    return mix(shape, style, token, ",".join(map(str, chosen)))
