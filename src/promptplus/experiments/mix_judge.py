"""Whether a mix has one concept's shape and the other's appearance. On the pocket, true mixes can be drawn."""

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
from promptplus.pocket.world import BACKGROUNDS, COLOURS, UNSEEN_OBJECTS, render_mixture
from promptplus.pocket.world.captions import with_article
from promptplus.pocket.world.painting import Look
from promptplus.pocket.world.scenes import figures
from promptplus.pocket.world.shapes import RGB

RENDERS = 16  # of each combination; our choice
MIN_OBJECTS = 6  # whose combinations are told from each other: by chance one picture in 36 is right; our choice
SEED = 800_000_000  # of the first render: no training, bundled or report picture has it

Combination = tuple[str, str]
"""(the object with this shape, the object with this appearance)."""


class MixJudge:
    """Names the combination of two unseen objects' shape and appearance that a picture is nearest to.

    Every object's shape is rendered in every object's colours and texture. A picture gets the combination whose renders
    are nearest, by the mean cosine of the attribute judge's features. The judge does not only choose between the two
    concepts of a mix: a picture of neither is nearest to some other combination. Of fresh renders of the 144
    combinations of the twelve ``report`` objects it names .94 correctly; with DINO's features it names .25
    (``python -m benchmarks.pairs``).

    Args:
        judge: its features are compared.
        names: the objects whose mixes are judged. If they are few, others are added.
    """

    def __init__(self, judge: AttributeJudge | DinoJudge, names: Sequence[str]) -> None:
        self.judge, self.names = judge, enough_objects(names)
        self.combinations: list[Combination] = list(product(self.names, self.names))
        self.references = torch.stack([judge.embed(_renders(*pair)).mean(0) for pair in self.combinations])

    @property
    def chance(self) -> float:
        """How often a picture gets one given combination by chance."""
        return 1 / len(self.combinations)

    def classify(self, images: Sequence[Image.Image]) -> list[Combination]:
        """The nearest combination for each picture."""
        similarity = self.judge.embed(images) @ self.references.T
        return [self.combinations[i] for i in similarity.argmax(1).tolist()]


def enough_objects(names: Sequence[str]) -> list[str]:
    """The given unseen objects, each once, and others up to ``MIN_OBJECTS``."""
    given = list(dict.fromkeys(names))
    others = [name for name in UNSEEN_OBJECTS if name not in given]
    return given + others[: max(0, MIN_OBJECTS - len(given))]


def _renders(shape: str, looks: str) -> list[Image.Image]:
    return [render_mixture(shape, looks, BACKGROUNDS[i % len(BACKGROUNDS)], SEED + i) for i in range(RENDERS)]


def describe(look: Look, noun: str) -> str:
    """A noun with its article and the nearest words for a look's colours and texture."""
    part = figures()[noun].trim if noun in figures() else None
    trim = f" with {nearest_colour(look.trim)} {part}" if part and look.trim else ""
    return with_article(f"{nearest_colour(look.body)} {look.texture} {noun}") + trim


def nearest_colour(rgb: RGB) -> str:
    """The named colour that is nearest in RGB."""
    return min(COLOURS, key=lambda word: sum((a - b) ** 2 for a, b in zip(COLOURS[word], rgb, strict=True)))


def disjoint_pairs(names: Sequence[str]) -> list[Combination]:
    """Neighbours as pairs, so that no name is in two pairs and pairs are independent. An odd name is left out."""
    return list(zip(names[::2], names[1::2], strict=False))


def splits(layers: LayerMap) -> list[tuple[int, ...]]:
    """The layers that get the shape, at each split: the nested subsets, coarse to fine, from none to all."""
    return list(layers.subsets())


def mix_at(shape: Concept, style: Concept, token: str, split: Sequence[int]) -> Concept:
    """``mix`` at any split, also with no layer or all layers for the shape."""
    if not split:
        return replace(style, token=token)
    return mix(shape, style, token, ",".join(map(str, split)))
