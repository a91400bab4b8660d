"""How far unseen concepts are learned as themselves: similarity between a floor, what words give, and a ceiling.

Similarity is the judge DINO's: the mean pairwise cosine to the concept's five pictures (paper section 4).
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import promptplus as pp
from promptplus.evaluation.judges import DinoJudge
from promptplus.evaluation.metrics import recovered, subject_similarity
from promptplus.evaluation.training_cache import MethodSpec, Task, TrainingCache
from promptplus.experiments.mix_judge import describe
from promptplus.generation import generate
from promptplus.pictures import load_pictures, read_note
from promptplus.pocket import CONCEPTS
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import (
    BACKGROUNDS,
    MADE_UP,
    NO_STYLE,
    OBJECTS,
    UNSEEN_OBJECTS,
    render_mixture,
    render_object_concept,
)
from promptplus.pocket.world.captions import with_article
from promptplus.pocket.world.painting import paint
from promptplus.pocket.world.scenes import figures
from promptplus.report.picture_grid import tile
from promptplus.training.settings import InversionSettings

from .export import CONCEPT_BACKGROUNDS

FRESH = 900_000_000
"""First seed of the ceilings' renders; no training or bundled picture has it."""
PICTURES = 16
"""Of a concept, of its ceiling and of each text."""
TRIED = 3
"""Nouns whose captions are tried for a concept: those that the judge finds nearest (our choice)."""
SHOWN = 6
"""Learned pictures beside the five real ones."""
DEFAULT = MethodSpec("xti", steps=(InversionSettings().steps,))
"""XTI as it is by default."""


class Scorer:
    """Similarity to one concept's pictures in the judge's eyes."""

    def __init__(self, pplus: pp.PPlus, name: str) -> None:
        self.pplus, self.name, self.dino = pplus, name, DinoJudge.load()
        self.pictures = load_pictures(CONCEPTS / name)
        self.real = self.dino.embed(self.pictures)

    def of(self, images: list[Image.Image]) -> float:
        return subject_similarity(self.real, self.dino.embed(images))

    def ceiling(self) -> float:
        """Of fresh renders, in the places and poses that the real pictures have."""
        return self.of(self.renders())

    def renders(self) -> list[Image.Image]:
        """Fresh ones, as many as photos are made."""
        places = [CONCEPT_BACKGROUNDS[i % len(CONCEPT_BACKGROUNDS)] for i in range(PICTURES)]
        return [render_object_concept(self.name, place, FRESH + i) for i, place in enumerate(places)]

    def said(self, what: str, seed: int = 0) -> tuple[float, list[Image.Image]]:
        """Of sixteen photos of what a text names, and the photos."""
        images = generate(self.pplus, [f"a photo of {what}"] * PICTURES, range(seed, seed + PICTURES))
        return self.of(images), images

    def recognised(self, images: list[Image.Image]) -> float:
        """Share whose shape is the concept's: the nearest, in the attribute judge's features, of all unseen ones.

        All are drawn in the concept's own colours and texture, so that only the shape can tell them apart.
        """
        judge = AttributeJudge.load()
        drawn = [
            [render_mixture(shape, self.name, place, FRESH + 100 + i) for i, place in enumerate(BACKGROUNDS)]
            for shape in UNSEEN_OBJECTS
        ]
        seen = judge.embed(images)
        likeness = torch.stack([(seen @ judge.embed(renders).T).mean(1) for renders in drawn], 1)
        own = list(UNSEEN_OBJECTS).index(self.name)
        return (likeness.argmax(1) == own).float().mean().item()

    def best(self, nouns: tuple[str, ...]) -> tuple[float, str]:
        """The best of the nearest nouns, each said with the concept's own colours and texture; and that text."""
        texts = [describe(UNSEEN_OBJECTS[self.name], noun) for noun in self.nearest(nouns)[:TRIED]]
        return max((self.said(text)[0], text) for text in texts)

    def nearest(self, nouns: tuple[str, ...]) -> list[str]:
        """Nouns by how much their figures, painted in the concept's own colours, look like it; the likest first."""
        look = UNSEEN_OBJECTS[self.name]
        drawn = [paint([replace(look, figure=figures()[noun])], "white", NO_STYLE, random.Random(0)) for noun in nouns]
        likeness = (self.dino.embed(drawn) @ self.real.T).mean(1)
        return [nouns[i] for i in likeness.argsort(descending=True).tolist()]


def learned(pplus: pp.PPlus, folder: Path, name: str, seed: int) -> dict[str, Any]:
    """XTI by default settings; `folder` keeps what it learned, and gets a strip of real and learned pictures."""
    scorer, task = Scorer(pplus, name), Task(CONCEPTS / name, DEFAULT, seed)
    with TrainingCache(pplus, "pocket", folder).pipeline_with_concept(task, DEFAULT.steps[0]) as (_, token, _seconds):
        similarity, images = scorer.said(f"a {token}", 1000 * seed)
    tile([*scorer.pictures, *images[:SHOWN]], len(scorer.pictures) + SHOWN).save(folder / f"{name}-{seed}.png")
    return {"similarity": round(similarity, 4), "recognised": scorer.recognised(images)}


def words(pplus: pp.PPlus, name: str) -> dict[str, Any]:
    """Floor and ceiling; how much of the way the best caption goes, and the best of the nearest training nouns."""
    scorer, class_word = Scorer(pplus, name), read_note(CONCEPTS / name).class_word
    floor, ceiling = scorer.said(with_article(str(class_word)))[0], scorer.ceiling()
    said, caption = scorer.best(OBJECTS)
    made_up, noun = scorer.best(MADE_UP)
    return {
        "class_word": class_word,
        "floor": round(floor, 4),
        "ceiling": round(ceiling, 4),
        "caption": caption,
        "noun": noun,
        "recognised": scorer.recognised(scorer.renders()),
        "r_words": round(recovered(said, floor, ceiling), 3),
        "r_noun": round(recovered(made_up, floor, ceiling), 3),
    }
