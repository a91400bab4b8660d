"""Two concepts in one prompt: how like each of them the pictures are, and how often both are there (our choice)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from promptplus.concept import Concept
from promptplus.evaluation.metrics import text_similarity
from promptplus.evaluation.scoring import Scorer
from promptplus.generation import generate
from promptplus.pplus import PPlus

TOGETHER, ALONE = "a {} and a {}", "a {}"
TOKENS = ("<one>", "<other>")  # while they are judged: two concepts may have learned the same token


@dataclass(frozen=True)
class TwoConceptScores:
    """Of one pair. A likeness is a mean of both concepts, of mean pairwise DINO cosines to a concept's pictures.

    Attributes:
        text: CLIP cosine of the first pictures and their prompt with class words.
        together: of pictures whose prompt names both.
        alone: of pictures whose prompt names this one alone; what the first can reach at most.
        other: of pictures whose prompt names the other one alone; what likeness there is without being there.
        both: share of the first pictures that are above the bar of either concept: halfway from what the other one's
            own pictures score to what its own do among each other. The bars are the same for all methods, and high:
            on the pocket .48 of drawings of both are above either, none of two others (``benchmarks/pairs.py``).
        count: pictures of each prompt.
    """

    together: float
    alone: float
    other: float
    both: float
    text: float
    count: int


def two_in_one(
    pplus: PPlus,
    concepts: Sequence[Concept],
    real: Sequence[Sequence[Image.Image]],
    seeds: Sequence[int],
    scorer: Scorer,
) -> tuple[TwoConceptScores, list[Image.Image]]:
    """Two concepts in one prompt and each by itself; also the pictures of the former. ``real``: each one's own."""
    texts = [TOGETHER.format(*TOKENS), *(ALONE.format(token) for token in TOKENS)]
    with pplus.added([replace(concept, token=token) for concept, token in zip(concepts, TOKENS, strict=True)]):
        drawn = [generate(pplus, [text] * len(seeds), seeds) for text in texts]
    features = [scorer.dino.embed(own) for own in real]
    likeness = likeness_of([scorer.dino.embed(one) for one in drawn], features)
    said = TOGETHER.format(*(scorer.says or concept.class_word for concept in concepts))
    fit = text_similarity(scorer.clip.embed(drawn[0]), scorer.clip.embed_texts([said] * len(seeds)))
    return TwoConceptScores(**compare_likeness(likeness, bars(features)), text=fit, count=len(seeds)), drawn[0]


def likeness_of(drawn: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean cosine of each picture to each concept's own: unit features → ``[prompt, picture, concept]``."""
    return torch.stack([torch.stack([(found @ own.T).mean(1) for own in real], dim=1) for found in drawn])


def bars(real: Sequence[Tensor]) -> Tensor:
    """How like each of two concepts a picture must be to show it: ``[concept]``, from their pictures' features."""
    across = (real[0] @ real[1].T).mean()
    return torch.stack([(_among(own) + across) / 2 for own in real])


def _among(own: Tensor) -> Tensor:
    """Mean cosine of different pictures; a single one is like itself."""
    n = len(own)
    return (own @ own.T).sum().sub(n).div(n * (n - 1)) if n > 1 else torch.ones(())


def compare_likeness(likeness: Tensor, bars: Tensor) -> dict[str, float]:
    """``[prompt, picture, concept]`` of the prompts (both, the first alone, the second alone) → numbers by name."""
    both, *single = likeness
    other = torch.stack([single[1][:, 0], single[0][:, 1]], dim=1)
    alone = torch.stack([single[0][:, 0], single[1][:, 1]], dim=1)
    there = (both > bars).all(1)
    found = {"together": both, "alone": alone, "other": other, "both": there.float()}
    return {name: float(values.mean()) for name, values in found.items()}
