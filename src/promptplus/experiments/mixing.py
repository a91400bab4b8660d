"""One concept's shape with another's looks: where the split should be, and how often it works (paper section 5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from promptplus.concept import Concept
from promptplus.evaluation.metrics import mean_interval
from promptplus.evaluation.scoring import SEEDS_APART
from promptplus.evaluation.training_cache import TrainingCache
from promptplus.experiments.mix_judge import MixJudge, in_words, mixed, splits
from promptplus.experiments.study import Study
from promptplus.generation import generate
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import UNSEEN_OBJECTS
from promptplus.pplus import PPlus
from promptplus.report import figures
from promptplus.report.figures import Curve
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

LEAD = (
    "Whose shape, whose looks: every concept's shape is rendered in every concept's looks, and a picture counts for "
    "the combination whose renders it is nearest to, in the attribute judge's features. Success: the first one's shape "
    "in the second one's looks. No two pairs share noise; 95 % intervals by bootstrap over pairs."
)
ENTANGLED = " Some pairs share a concept, so that the intervals are too narrow."
PROMPT, STYLED = "a photo of a {}", "a photo of a {} in the style of {}"
TOKEN, PLAIN, ADDED = "<mix>", "plain words", "DreamBooth-LoRA, two files, “S1 in the style of S2”"

Concepts = Mapping[str, Concept]
"""Learned concepts by the name of what they show."""
Drawer = Callable[[str, str, Sequence[int]], list[Image.Image]]
"""Pictures of a pair of concepts, by name: (shape, looks, seeds)."""


@dataclass(frozen=True)
class Pair:
    """Two concepts by name: whose shape, whose looks."""

    shape: str
    looks: str


Noises = Mapping[Pair, range]
"""Seeds of each pair's pictures; every way to draw a pair gets the same ones."""


def noises_of(pairs: int, count: int) -> list[range]:
    """As many seeds for each pair, none of them in two pairs."""
    apart = max(SEEDS_APART, count)
    return [range(apart * number, apart * number + count) for number in range(pairs)]


def study(
    pplus: PPlus,
    learned: Mapping[str, Concepts],
    pairs: Sequence[Pair],
    count: int,
    rivals: Mapping[str, Drawer],
) -> Study:
    """The sweep over splits, the success of the default split and of its rivals, and a grid of mixes.

    Args:
        pairs: where no concept is in two of them they are independent, which the intervals take for granted.
        count: pictures of each pair, in every way.
        learned: the same concepts, trained in one way or another; the first way's are swept and shown, the others
            are regularised.
        rivals: other ways to ask for the same, by name; ``PLAIN`` says the class word and the nearest colours.
    """
    names = [name for pair in pairs for name in (pair.shape, pair.looks)]
    lead = LEAD + (ENTANGLED if len(set(names)) < len(names) else "")
    judge = MixJudge(AttributeJudge.load(), names)
    noises = dict(zip(pairs, noises_of(len(pairs), count), strict=True))
    swept = next(iter(learned.values()))
    coarse = pplus.layers.group("coarse")
    success = {
        f"{way} mix, coarse layers": _success(pplus, found, judge, coarse, noises) for way, found in learned.items()
    }
    for name, draw in rivals.items():
        success[name] = [_share(judge.seen(draw(p.shape, p.looks, seeds)), p) for p, seeds in noises.items()]
    others = ["words" if name == PLAIN else "rival" for name in rivals]
    sweep, shown = _sweep(pplus, swept, judge, noises)
    sizes = [str(len(split)) for split in splits(pplus.layers)]
    drawn = figures.curves(
        {name: _curve(shares) for name, shares in sweep.items()},
        sizes,
        xlabel="layers that the shape decides, coarse to fine",
        ylabel="share of pictures",
    )
    table: Table = {
        "way": list(success),
        "success [95 %]": [str(mean_interval(shares)) for shares in success.values()],
        "pairs × seeds": [f"{len(pairs)} × {count}"] * len(success),
    }
    sections = [
        Section("Where shape hands over to looks", figures=[Figure(drawn)]),
        Section(
            "Success", f"By chance: {judge.chance:.3f} (1 of {len(judge.combinations)} combinations).", table=table
        ),
        Section("Mixes", "From all looks to all shape.", [Figure(grid(pplus, pairs, shown))]),
    ]
    values = {
        "pairs": [vars(pair) for pair in pairs],
        "seeds": [list(seeds) for seeds in noises.values()],
        "chance": judge.chance,
        "splits": sizes,
        "sweep": sweep,
        "success": success,
        "roles": dict(zip(success, ["ours", *["regularised"] * (len(learned) - 1), *others], strict=True)),
    }
    return Study("mixing", "One's shape, another's looks", lead, sections, values, {"success": table})


def _sweep(
    pplus: PPlus, concepts: Concepts, judge: MixJudge, noises: Noises
) -> tuple[dict[str, list[list[float]]], list[list[Image.Image]]]:
    """Shares ``[pair][split]`` of pictures with the one's shape and with the other's looks; a picture of each."""
    shapes: list[list[float]] = []
    looks: list[list[float]] = []
    shown: list[list[Image.Image]] = []
    for pair, seeds in noises.items():
        drawn = sweep_pictures(pplus, concepts[pair.shape], concepts[pair.looks], seeds)
        seen = [judge.seen(images) for images in drawn]
        shapes.append([sum(shape == pair.shape for shape, _ in found) / len(found) for found in seen])
        looks.append([sum(look == pair.looks for _, look in found) / len(found) for found in seen])
        shown.append([images[0] for images in drawn])
    return {"the first one's shape": shapes, "the second one's looks": looks}, shown


def sweep_pictures(pplus: PPlus, shape: Concept, looks: Concept, seeds: Sequence[int]) -> list[list[Image.Image]]:
    """Pictures of the mix at every split, from all looks to all shape."""
    return [mix_pictures(pplus, shape, looks, split, seeds) for split in splits(pplus.layers)]


def grid(pplus: PPlus, pairs: Sequence[Pair], rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """A row for each pair, a column for each split."""
    return labelled_grid(
        rows,
        row_labels=[f"{pair.shape} in {pair.looks}" for pair in pairs],
        column_labels=[f"{len(split)} layers" for split in splits(pplus.layers)],
        cell=96,
    )


def unjudged(pplus: PPlus, concepts: Concepts, pairs: Sequence[Pair], count: int) -> Study:
    """The grids alone, where nobody can say what a mix should look like."""
    noises = noises_of(len(pairs), count)
    drawn = [
        sweep_pictures(pplus, concepts[pair.shape], concepts[pair.looks], seeds)
        for pair, seeds in zip(pairs, noises, strict=True)
    ]
    shown = [Figure(grid(pplus, pairs, [[images[i] for images in row] for row in drawn])) for i in range(count)]
    sections = [Section("Mixes", "From all looks to all shape; a grid for each seed.", shown)]
    values = {"pairs": [vars(pair) for pair in pairs], "seeds": [list(seeds) for seeds in noises]}
    return Study("mixing", "One's shape, another's looks", "Not judged: there is no ground truth.", sections, values)


def rivals(pplus: PPlus, tied: Concepts) -> dict[str, Drawer]:
    """Other ways to ask: textual inversions in one prompt, and the class word in the nearest named colours.

    ``tied``: concepts learned by TI.
    """

    def inversions(shape: str, looks: str, seeds: Sequence[int]) -> list[Image.Image]:
        both = [tied[shape], tied[looks]]
        with pplus.added(both):
            return generate(pplus, [STYLED.format(both[0].token, both[1].token)] * len(seeds), seeds)

    def words(shape: str, looks: str, seeds: Sequence[int]) -> list[Image.Image]:
        text = in_words(UNSEEN_OBJECTS[looks], tied[shape].class_word)
        return generate(pplus, [f"a photo of {text}"] * len(seeds), seeds)

    return {"TI, “S1 in the style of S2”": inversions, PLAIN: words}


def added(learner: TrainingCache, loras: Mapping[str, tuple[Path, str]]) -> Drawer:
    """Both concepts' LoRAs added up, both subjects in one prompt."""

    def draw(shape: str, looks: str, seeds: Sequence[int]) -> list[Image.Image]:
        (first, one), (second, other) = loras[shape], loras[looks]
        with learner.adapted([first, second]) as pplus:
            return generate(pplus, [STYLED.format(one, other)] * len(seeds), seeds)

    return draw


def mix_pictures(
    pplus: PPlus, shape: Concept, looks: Concept, split: Sequence[int], seeds: Sequence[int]
) -> list[Image.Image]:
    """Pictures of a mix that gives ``split`` to the shape."""
    with pplus.added([mixed(shape, looks, TOKEN, split)]):
        return generate(pplus, [PROMPT.format(TOKEN)] * len(seeds), seeds)


def _success(pplus: PPlus, concepts: Concepts, judge: MixJudge, split: Sequence[int], noises: Noises) -> list[float]:
    return [
        _share(judge.seen(mix_pictures(pplus, concepts[p.shape], concepts[p.looks], split, seeds)), p)
        for p, seeds in noises.items()
    ]


def _share(seen: Sequence[tuple[str, str]], pair: Pair) -> float:
    return sum(found == (pair.shape, pair.looks) for found in seen) / len(seen)


def _curve(shares: Sequence[Sequence[float]]) -> Curve:
    found = [mean_interval(column) for column in zip(*shares, strict=True)]
    return Curve([i.value for i in found], [i.low for i in found], [i.high for i in found])
