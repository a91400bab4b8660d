"""The study of two concepts in one prompt: how similar pictures are to each, how often both are there (our choice)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from promptplus.concept import Concept
from promptplus.evaluation.metrics import mean_interval, text_similarity
from promptplus.evaluation.scoring import Scorer
from promptplus.experiments.mixing import Concepts, seeds_by_pair
from promptplus.experiments.study import Study
from promptplus.generation import generate
from promptplus.pplus import PPlus
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

BOTH_PROMPT, SINGLE_PROMPT = "a {} and a {}", "a {}"
TOKENS = ("<one>", "<other>")  # while they are judged: two concepts may have learned the same token
LEAD = (
    f"The prompt is “{BOTH_PROMPT.format('A', 'B')}”. Similarity to a concept: the mean cosine of the judge DINO's "
    "features of generated and real pictures. The table gives the mean of both concepts. Text similarity: by the judge "
    "CLIP, with class words in the concepts' places (on the pocket, “thing”). A picture shows both concepts if its "
    "similarity to each is above a threshold. A concept's threshold is halfway between the similarity of its real "
    "pictures to the other concept's and their similarity to each other. It is strict, and the same for all methods. "
    "No concept is in two pairs, and no two pairs share noise. Intervals: 95 %, bootstrap over pairs."
)
SHOWN = 8  # pictures of each pair; our choice
COLUMNS = {
    "both": "share that shows both",
    "together": "similarity, both in the prompt",
    "alone": "similarity, this one alone in the prompt",
    "other": "similarity, the other one alone in the prompt",
    "text": "text similarity",
}


@dataclass(frozen=True)
class TwoConceptScores:
    """The scores of one pair. Similarity to a concept: mean cosine to its real pictures (DINO); mean of both concepts.

    Attributes:
        together: similarity of pictures whose prompt names both concepts.
        alone: similarity of pictures whose prompt names this concept alone; the first cannot be expected to exceed it.
        other: similarity of pictures whose prompt names the other concept alone: the level without this concept.
        both: the share of the first pictures that are above both thresholds. The thresholds are strict: on the pocket,
            .48 of drawings of both concepts are above both, and none of drawings of two others
            (``benchmarks/pairs.py``).
        text: the text similarity of the first pictures and their prompt with class words (CLIP).
        count: the number of pictures of each prompt.
    """

    together: float
    alone: float
    other: float
    both: float
    text: float
    count: int


def study(
    pplus: PPlus,
    concepts: Mapping[str, Concepts],
    real: Mapping[str, Sequence[Image.Image]],
    pairs: Sequence[tuple[str, str]],
    count: int,
    scorer: Scorer,
) -> Study:
    """A table with a row for each method, and a grid of pictures.

    Args:
        concepts: for each method, the same concepts by name.
        real: each concept's own pictures, by name.
        pairs: names of concepts. No concept is in two pairs.
        count: the number of pictures of each prompt.
    """
    scores: dict[str, list[TwoConceptScores]] = {method: [] for method in concepts}
    shown: dict[str, list[Image.Image]] = {}
    for pair, seeds in zip(pairs, seeds_by_pair(len(pairs), count), strict=True):
        for method, by_name in concepts.items():
            both, pictures_of_both = [by_name[name] for name in pair], [real[name] for name in pair]
            numbers, pictures = score_pair(pplus, both, pictures_of_both, seeds, scorer)
            scores[method].append(numbers)
            shown[f"{pair[0]} and {pair[1]}, {method}"] = pictures[:SHOWN]
    table: Table = {"method": list(scores)}
    for name, title in COLUMNS.items():
        table |= {f"{title} [95 %]": [str(mean_interval([getattr(t, name) for t in own])) for own in scores.values()]}
    table |= {"pairs × seeds": [f"{len(pairs)} × {count}"] * len(scores)}
    grid = labelled_grid(list(shown.values()), row_labels=list(shown), cell=96)
    sections = [
        Section("Both in one prompt", table=table),
        Section("Pictures", figures=[Figure(grid, name="pictures")]),
    ]
    values = {
        "pairs": [list(pair) for pair in pairs],
        "by_method": {method: [vars(one) for one in own] for method, own in scores.items()},
    }
    return Study("two-concepts", "Two concepts in one prompt", LEAD, sections, values, {"both": table})


def score_pair(
    pplus: PPlus,
    concepts: Sequence[Concept],
    real: Sequence[Sequence[Image.Image]],
    seeds: Sequence[int],
    scorer: Scorer,
) -> tuple[TwoConceptScores, list[Image.Image]]:
    """The scores of two concepts, and the pictures whose prompt names both. ``real``: each concept's own pictures."""
    texts = [BOTH_PROMPT.format(*TOKENS), *(SINGLE_PROMPT.format(token) for token in TOKENS)]
    renamed = [replace(concept, token=token) for concept, token in zip(concepts, TOKENS, strict=True)]
    with pplus.added(renamed):
        drawn = [generate(pplus, [text] * len(seeds), seeds) for text in texts]
    features = [scorer.dino.embed(pictures) for pictures in real]
    similarity = similarity_to_concepts([scorer.dino.embed(pictures) for pictures in drawn], features)
    reference = BOTH_PROMPT.format(*(scorer.reference_noun or concept.class_word for concept in concepts))
    text = text_similarity(scorer.clip.embed(drawn[0]), scorer.clip.embed_texts([reference] * len(seeds)))
    numbers = compare_prompts(similarity, thresholds(features))
    return TwoConceptScores(**numbers, text=text, count=len(seeds)), drawn[0]


def similarity_to_concepts(
    drawn: Sequence[Float[Tensor, "pictures features"]], real: Sequence[Float[Tensor, "_ features"]]
) -> Float[Tensor, "prompts pictures concepts"]:
    """Each picture's mean cosine to each concept's real pictures, from features of unit length."""
    return torch.stack([torch.stack([(one @ own.T).mean(1) for own in real], dim=1) for one in drawn])


def thresholds(real: Sequence[Float[Tensor, "_ features"]]) -> Float[Tensor, " concepts"]:
    """The similarity above which a picture shows each of two concepts, from their real pictures' features."""
    across = (real[0] @ real[1].T).mean()
    return torch.stack([(_similarity_within(own) + across) / 2 for own in real])


def _similarity_within(features: Float[Tensor, "pictures features"]) -> Float[Tensor, ""]:
    """The mean cosine of different pictures of a concept; 1 where there is one picture."""
    n = len(features)
    return (features @ features.T).sum().sub(n).div(n * (n - 1)) if n > 1 else torch.ones(())


def compare_prompts(
    similarity: Float[Tensor, "prompts pictures concepts"], thresholds: Float[Tensor, " concepts"]
) -> dict[str, float]:
    """The similarities and the share that shows both, by their names in ``TwoConceptScores``.

    ``similarity``: of the pictures of three prompts: both concepts, the first alone, the second alone.
    """
    both, *single = similarity
    other = torch.stack([single[1][:, 0], single[0][:, 1]], dim=1)
    alone = torch.stack([single[0][:, 0], single[1][:, 1]], dim=1)
    there = (both > thresholds).all(1)
    values = {"together": both, "alone": alone, "other": other, "both": there.float()}
    return {name: float(each.mean()) for name, each in values.items()}
