"""Recovery of the held-out concepts: how near learned pictures come to a concept, between a floor and a ceiling.

Similarity is the mean pairwise cosine to the concept's five pictures in the judge DINO's features (paper section 4).
Recovery r is (similarity - floor) / (ceiling - floor): 0 for pictures of the class word, 1 for fresh renders.
"""

import random
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

import promptplus as pp
from promptplus.datasets import load_pictures, read_note
from promptplus.evaluation.judges import DinoJudge
from promptplus.evaluation.metrics import mean_interval, recovered, subject_similarity
from promptplus.evaluation.training_cache import MethodSpec, Task, TrainingCache
from promptplus.experiments.mix_judge import MixJudge, describe, disjoint_pairs
from promptplus.experiments.mixing import mix_pictures, seeds_by_pair
from promptplus.generation import generate
from promptplus.pocket import CONCEPTS
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.held_out import HELD_OUT_OBJECTS, REPORT, render_mixture, render_object_concept
from promptplus.pocket.world import BACKGROUNDS, MADE_UP, NO_STYLE, OBJECTS
from promptplus.pocket.world.captions import with_article
from promptplus.pocket.world.painting import paint
from promptplus.pocket.world.scenes import shapes_by_noun
from promptplus.report.picture_grid import tile
from promptplus.training.settings import InversionSettings

from .export import CONCEPT_BACKGROUNDS
from .results import MIX_LAYERS, ConceptScores, Interval, TextScores, rounded

FRESH = 900_000_000
"""First seed of the ceiling's renders; no training picture and no bundled picture has it."""
PICTURES = 16
"""Number of generated pictures of a concept or text, and of renders for a ceiling."""
TRIED = 3
"""Number of nouns whose captions are tried for a concept: those whose shapes are nearest to it (our choice)."""
SHOWN = 6
"""Number of generated pictures that are shown beside the five real ones."""
MIX_PICTURES, MIX_SEED = 8, 0
"""Layers that have the shape in mixes; pictures of each pair; seed of the learned concepts."""
XTI = MethodSpec("xti", steps=(InversionSettings().steps,))
"""XTI with default settings."""


class ConceptSimilarity:
    """Similarity of pictures to a held-out concept, by name."""

    def __init__(self, pplus: pp.PPlus, name: str) -> None:
        self.pplus, self.name, self.dino = pplus, name, DinoJudge.load()
        self.pictures = load_pictures(CONCEPTS / name)
        self.real = self.dino.embed(self.pictures)

    def similarity(self, images: list[Image.Image]) -> float:
        """Mean pairwise cosine between `images` and the concept's pictures, in the judge DINO's features."""
        return subject_similarity(self.real, self.dino.embed(images))

    def ceiling(self) -> float:
        """Similarity of fresh renders, on the backgrounds of the concept's pictures."""
        return self.similarity(self.renders())

    def renders(self) -> list[Image.Image]:
        """`PICTURES` fresh renders of the concept."""
        places = [CONCEPT_BACKGROUNDS[i % len(CONCEPT_BACKGROUNDS)] for i in range(PICTURES)]
        return [render_object_concept(self.name, place, FRESH + i) for i, place in enumerate(places)]

    def of_text(self, text: str, seed: int = 0) -> tuple[float, list[Image.Image]]:
        """Generate `PICTURES` pictures of "a photo of TEXT"; return their similarity and the pictures."""
        images = generate(self.pplus, [f"a photo of {text}"] * PICTURES, range(seed, seed + PICTURES))
        return self.similarity(images), images

    def recognised(self, images: list[Image.Image]) -> float:
        """Share of `images` with the concept's shape: the nearest of all held-out shapes by the attribute judge.

        The reference renders have the concept's colours and texture, so they differ in shape only.
        """
        judge = AttributeJudge.load()
        references = [
            [render_mixture(shape, self.name, place, FRESH + 100 + i) for i, place in enumerate(BACKGROUNDS)]
            for shape in HELD_OUT_OBJECTS
        ]
        embedded = judge.embed(images)
        similarities = torch.stack([(embedded @ judge.embed(renders).T).mean(1) for renders in references], 1)
        right = list(HELD_OUT_OBJECTS).index(self.name)
        return (similarities.argmax(1) == right).float().mean().item()

    def best_text(self, nouns: tuple[str, ...]) -> tuple[float, str]:
        """The greatest similarity that a caption reaches, and the caption.

        Tried are the `TRIED` nearest of `nouns`, each with the concept's colours and texture.
        """
        texts = [describe(HELD_OUT_OBJECTS[self.name], noun) for noun in self.nearest_nouns(nouns)[:TRIED]]
        return max((self.of_text(text)[0], text) for text in texts)

    def nearest_nouns(self, nouns: tuple[str, ...]) -> list[str]:
        """`nouns`, sorted by the similarity of their shapes in the concept's colours; the nearest first."""
        look, shapes = HELD_OUT_OBJECTS[self.name], shapes_by_noun()
        drawn = [paint([replace(look, shape=shapes[noun])], "white", NO_STYLE, random.Random(0)) for noun in nouns]
        similarities = (self.dino.embed(drawn) @ self.real.T).mean(1)
        return [nouns[i] for i in similarities.argsort(descending=True).tolist()]


def measure_learning(pplus: pp.PPlus, folder: Path, name: str, seed: int) -> ConceptScores:
    """Learn a concept by XTI with default settings and measure pictures of it.

    `folder` keeps the learned concept and gets `NAME-SEED.png`: real pictures, then generated ones.
    """
    concept, task = ConceptSimilarity(pplus, name), Task(CONCEPTS / name, XTI, seed)
    with TrainingCache(pplus, "pocket", folder).pipeline_with_concept(task, XTI.steps[0]) as (_, token, _seconds):
        similarity, images = concept.of_text(f"a {token}", 1000 * seed)
    tile([*concept.pictures, *images[:SHOWN]], len(concept.pictures) + SHOWN).save(folder / f"{name}-{seed}.png")
    return {"similarity": round(similarity, 4), "recognised": concept.recognised(images)}


def measure_texts(pplus: pp.PPlus, name: str) -> TextScores:
    """Floor and ceiling of a concept, and the recovery of the best caption of a named and of a made-up noun."""
    concept, class_word = ConceptSimilarity(pplus, name), str(read_note(CONCEPTS / name).class_word)
    floor, ceiling = concept.of_text(with_article(class_word))[0], concept.ceiling()
    named, caption = concept.best_text(OBJECTS)
    made_up, noun = concept.best_text(MADE_UP)
    return {
        "class_word": class_word,
        "floor": round(floor, 4),
        "ceiling": round(ceiling, 4),
        "caption": caption,
        "noun": noun,
        "recognised": concept.recognised(concept.renders()),
        "r_words": round(recovered(named, floor, ceiling), 3),
        "r_noun": round(recovered(made_up, floor, ceiling), 3),
    }


def measure_mixing(pplus: pp.PPlus, folder: Path) -> dict[str, Interval]:
    """Share of mixes with the first concept's shape and the second one's appearance, with intervals over pairs.

    The concepts are those that `measure_learning` has learned into `folder`, in six pairs. Keys: the layers that have
    the first concept.
    """
    judge, cache = MixJudge(AttributeJudge.load(), REPORT), TrainingCache(pplus, "pocket", folder)
    learned = {name: cache.concept(Task(CONCEPTS / name, XTI, MIX_SEED), XTI.steps[0]) for name in REPORT}
    pairs = disjoint_pairs(REPORT)
    seeds = seeds_by_pair(len(pairs), MIX_PICTURES)
    table: dict[str, Interval] = {}
    for layers in MIX_LAYERS:
        shares: list[float] = []
        for (shape, looks), own in zip(pairs, seeds, strict=True):
            pictures = mix_pictures(pplus, learned[shape], learned[looks], pplus.layers.select(layers), own)
            shares.append(sum(seen == (shape, looks) for seen in judge.classify(pictures)) / len(pictures))
        table[layers] = rounded(mean_interval(shares))
    return table
