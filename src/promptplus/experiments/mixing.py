"""The study of mixing: one concept's shape with another's appearance, and pictures between two concepts (section 5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from PIL import Image

from promptplus.concept import Concept
from promptplus.evaluation.metrics import mean_interval
from promptplus.evaluation.scoring import SEED_STRIDE
from promptplus.evaluation.training_cache import TrainingCache
from promptplus.experiments.mix_judge import Combination, MixJudge, describe, mix_at, splits
from promptplus.experiments.study import Study
from promptplus.generation import generate
from promptplus.mixing import InterpolationPath, interpolate
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.held_out import HELD_OUT_OBJECTS
from promptplus.pplus import PPlus
from promptplus.report import figures
from promptplus.report.figures import Curve
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

TITLE = "One concept's shape with another's appearance"
LEAD = (
    "Every concept's shape is rendered with every concept's colours and texture. A picture counts for the combination "
    "whose renders it is nearest to, by the attribute judge's features. Success: the first concept's shape with the "
    "second concept's appearance. No two pairs share noise. Intervals: 95 %, bootstrap over pairs."
)
ORDER = "From left to right, more layers have the first concept."
SHARED = " Some pairs share a concept, so the intervals are too narrow."
PROMPT, STYLE_PROMPT = "a photo of a {}", "a photo of a {} in the style of {}"
TOKEN = "<mix>"
PLAIN, ADDED = "plain words", "DreamBooth-LoRA, two files, “S1 in the style of S2”"
SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)  # of the second concept, when interpolating; our choice
ROWS: tuple[tuple[InterpolationPath, str | None], ...] = tuple(
    (path, layers) for layers in (None, "coarse") for path in get_args(InterpolationPath)
)
"""(path, the layers that are interpolated; None: all)."""

Concepts = Mapping[str, Concept]
"""Learned concepts by the name of what they show."""
DrawFunction = Callable[[str, str, Sequence[int]], list[Image.Image]]
"""(the concept with the shape, the concept with the appearance, seeds) → pictures, by another method than mixing."""


@dataclass(frozen=True)
class ConceptPair:
    """Two concepts by name: the one with the shape, and the one with the appearance (``looks``)."""

    shape: str
    looks: str


SeedsByPair = Mapping[ConceptPair, range]
"""The seeds of each pair's pictures, the same ones for every method."""


def seeds_by_pair(pairs: int, count: int) -> list[range]:
    """``count`` seeds for each pair, so that no two pairs share one."""
    distance = max(SEED_STRIDE, count)
    return [range(distance * number, distance * number + count) for number in range(pairs)]


def study(
    pplus: PPlus,
    concepts: Mapping[str, Concepts],
    pairs: Sequence[ConceptPair],
    count: int,
    rivals: Mapping[str, DrawFunction],
) -> Study:
    """The sweep over splits, the success of the default split and of other methods, and a grid of mixes.

    Args:
        concepts: the same concepts by name, for each way to train them. The first way's are swept and shown; the others
            are trained with a regulariser.
        pairs: the intervals take them for independent, which holds if no concept is in two of them.
        count: the number of pictures of each pair, for each method.
        rivals: other methods by name. ``PLAIN`` names the class word and the nearest colours.
    """
    names = [name for pair in pairs for name in (pair.shape, pair.looks)]
    lead = LEAD + (SHARED if len(set(names)) < len(names) else "")
    judge = MixJudge(AttributeJudge.load(), names)
    seeds = dict(zip(pairs, seeds_by_pair(len(pairs), count), strict=True))
    swept = next(iter(concepts.values()))
    coarse = pplus.layers.group(pplus.layers.bands[0])
    success = {
        f"{way} mix, coarse layers": _success(pplus, by_name, judge, coarse, seeds) for way, by_name in concepts.items()
    }
    for name, draw in rivals.items():
        success[name] = [_share(judge.classify(draw(p.shape, p.looks, own)), p) for p, own in seeds.items()]
    roles = ["ours", *["regularised"] * (len(concepts) - 1), *["words" if n == PLAIN else "rival" for n in rivals]]
    sweep, shown = _sweep(pplus, swept, judge, seeds)
    sizes = [str(len(split)) for split in splits(pplus.layers)]
    table: Table = {
        "method": list(success),
        "success [95 %]": [str(mean_interval(shares)) for shares in success.values()],
        "pairs × seeds": [f"{len(pairs)} × {count}"] * len(success),
    }
    chance = f"By chance: {judge.chance:.3f} (1 of {len(judge.combinations)} combinations)."
    sections = [
        Section("Shape and appearance by split", figures=[_sweep_figure(sweep, sizes)]),
        Section("Success", chance, table=table),
        Section("Mixes", ORDER, [Figure(grid(pplus, pairs, shown), name="grid")]),
    ]
    values = {
        "pairs": [vars(pair) for pair in pairs],
        "seeds": [list(own) for own in seeds.values()],
        "chance": judge.chance,
        "splits": sizes,
        "sweep": sweep,
        "success": success,
        "roles": dict(zip(success, roles, strict=True)),
    }
    return Study("mixing", TITLE, lead, sections, values, {"success": table})


def study_without_judge(pplus: PPlus, concepts: Concepts, pairs: Sequence[ConceptPair], count: int) -> Study:
    """The grids of mixes alone, for concepts whose true mixes cannot be drawn."""
    seeds = seeds_by_pair(len(pairs), count)
    drawn = [
        sweep_pictures(pplus, concepts[pair.shape], concepts[pair.looks], own)
        for pair, own in zip(pairs, seeds, strict=True)
    ]
    shown = [
        Figure(grid(pplus, pairs, [[images[i] for images in row] for row in drawn]), name="grid") for i in range(count)
    ]
    values = {"pairs": [vars(pair) for pair in pairs], "seeds": [list(own) for own in seeds]}
    lead = "Not judged: true mixes of these concepts cannot be drawn."
    return Study("mixing", TITLE, lead, [Section("Mixes", f"{ORDER} A grid for each seed.", shown)], values)


def _sweep(
    pplus: PPlus, concepts: Concepts, judge: MixJudge, seeds: SeedsByPair
) -> tuple[dict[str, list[list[float]]], list[list[Image.Image]]]:
    """Shares ``[pair][split]`` of pictures with the first's shape and with the second's appearance; a picture each."""
    shapes: list[list[float]] = []
    looks: list[list[float]] = []
    shown: list[list[Image.Image]] = []
    for pair, own in seeds.items():
        drawn = sweep_pictures(pplus, concepts[pair.shape], concepts[pair.looks], own)
        seen = [judge.classify(images) for images in drawn]
        shapes.append([sum(shape == pair.shape for shape, _ in each) / len(each) for each in seen])
        looks.append([sum(look == pair.looks for _, look in each) / len(each) for each in seen])
        shown.append([images[0] for images in drawn])
    return {"the first one's shape": shapes, "the second one's looks": looks}, shown


def sweep_pictures(pplus: PPlus, shape: Concept, looks: Concept, seeds: Sequence[int]) -> list[list[Image.Image]]:
    """Pictures of the mix at every split, from no layer to all layers for the shape."""
    return [mix_pictures(pplus, shape, looks, split, seeds) for split in splits(pplus.layers)]


def mix_pictures(
    pplus: PPlus, shape: Concept, looks: Concept, split: Sequence[int], seeds: Sequence[int]
) -> list[Image.Image]:
    """Pictures of a mix whose ``split`` layers have the shape's rows."""
    with pplus.added([mix_at(shape, looks, TOKEN, split)]):
        return generate(pplus, [PROMPT.format(TOKEN)] * len(seeds), seeds)


def grid(pplus: PPlus, pairs: Sequence[ConceptPair], rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """A row for each pair, a column for each split."""
    return labelled_grid(
        rows,
        row_labels=[f"{pair.shape} in {pair.looks}" for pair in pairs],
        column_labels=[f"{len(split)} layers" for split in splits(pplus.layers)],
        cell=96,
    )


def other_methods(pplus: PPlus, inversions: Concepts) -> dict[str, DrawFunction]:
    """Methods that need no mix: two textual inversions in one prompt; the class word in the nearest named colours.

    ``inversions``: the concepts as learned by TI.
    """

    def two_inversions(shape: str, looks: str, seeds: Sequence[int]) -> list[Image.Image]:
        both = [inversions[shape], inversions[looks]]
        with pplus.added(both):
            return generate(pplus, [STYLE_PROMPT.format(both[0].token, both[1].token)] * len(seeds), seeds)

    def plain_words(shape: str, looks: str, seeds: Sequence[int]) -> list[Image.Image]:
        text = describe(HELD_OUT_OBJECTS[looks], inversions[shape].class_word)
        return generate(pplus, [f"a photo of {text}"] * len(seeds), seeds)

    return {"TI, “S1 in the style of S2”": two_inversions, PLAIN: plain_words}


def added_loras(cache: TrainingCache, loras: Mapping[str, tuple[Path, str]]) -> DrawFunction:
    """The method that adds up both concepts' LoRAs and names both subjects in one prompt.

    ``loras``: each concept's file and what prompts call its subject.
    """

    def draw(shape: str, looks: str, seeds: Sequence[int]) -> list[Image.Image]:
        (first, one), (second, other) = loras[shape], loras[looks]
        with cache.adapted([first, second]) as pplus:
            return generate(pplus, [STYLE_PROMPT.format(one, other)] * len(seeds), seeds)

    return draw


def _success(
    pplus: PPlus, concepts: Concepts, judge: MixJudge, split: Sequence[int], seeds: SeedsByPair
) -> list[float]:
    """Each pair's share of pictures with the first's shape and the second's appearance."""
    return [
        _share(judge.classify(mix_pictures(pplus, concepts[p.shape], concepts[p.looks], split, own)), p)
        for p, own in seeds.items()
    ]


def _share(seen: Sequence[Combination], pair: ConceptPair) -> float:
    return sum(each == (pair.shape, pair.looks) for each in seen) / len(seen)


def _sweep_figure(sweep: Mapping[str, Sequence[Sequence[float]]], sizes: Sequence[str]) -> Figure:
    """The mean share of pictures at each split, with its band over pairs."""
    curves = {}
    for name, shares in sweep.items():
        ends = [mean_interval(column) for column in zip(*shares, strict=True)]
        curves[name] = Curve([i.value for i in ends], [i.low for i in ends], [i.high for i in ends])
    xlabel = "layers with the first concept (shape), coarse to fine"
    return Figure(figures.curves(curves, sizes, xlabel=xlabel, ylabel="share of pictures"), name="shape-by-split")


def interpolation_section(pplus: PPlus, concepts: Concepts, pairs: Sequence[ConceptPair]) -> Section:
    """A grid for each pair, from its first concept to its second. All pictures of a grid have the same noise."""
    seeds = [own[0] for own in seeds_by_pair(len(pairs), 1)]
    drawn = [
        Figure(
            interpolation_grid(pplus, concepts[pair.shape], concepts[pair.looks], seed),
            f"from {pair.shape} to {pair.looks}",
        )
        for pair, seed in zip(pairs, seeds, strict=True)
    ]
    return Section("Between two concepts", "Each column's number is the share of the second concept's rows.", drawn)


def interpolation_grid(pplus: PPlus, first: Concept, second: Concept, seed: int) -> Image.Image:
    """A row for each path and choice of layers, a column for each share of the second concept."""
    rows = []
    for path, layers in ROWS:
        between = [interpolate(first, second, f"<mix-{i}>", s, path, layers=layers) for i, s in enumerate(SHARES)]
        with pplus.added(between):
            prompts = [PROMPT.format(concept.token) for concept in between]
            rows.append(generate(pplus, prompts, [seed] * len(between)))
    names = [f"{path}, {layers or 'all'} layers" for path, layers in ROWS]
    return labelled_grid(rows, row_labels=names, column_labels=[f"{share:.0%}" for share in SHARES], cell=96)
