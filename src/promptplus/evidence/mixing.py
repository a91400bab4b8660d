"""One concept's shape with another's looks: where the split should be, and how often it works (paper section 5)."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from promptplus import figures
from promptplus.analysis.mixing import MixJudge, mixed, splits
from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.evaluation.judges import DinoJudge
from promptplus.evaluation.metrics import mean_interval
from promptplus.evidence.study import Study, Table
from promptplus.figures import Curve
from promptplus.generation import generate
from promptplus.report import Figure, Section, labelled_grid

LEAD = (
    "Whose shape, whose looks: a picture counts for the combination of the two concepts' shapes and looks whose fresh "
    "renders it is nearest to, in the judge DINO's eyes. Success: the first one's shape in the second one's looks. "
    "95 % intervals by bootstrap over pairs."
)
PROMPT = "a photo of a {}"
TOKEN = "<mix>"

Drawer = Callable[[str, str, Sequence[int]], list[Image.Image]]
"""Pictures of a pair of concepts, by name: (shape, looks, seeds)."""


@dataclass(frozen=True)
class Pair:
    """Two concepts of unseen objects, by their objects' names."""

    shape: str
    looks: str


def study(
    pplus: PPlus,
    concepts: Mapping[str, Concept],
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    rivals: Mapping[str, Drawer],
) -> Study:
    """The sweep over splits, the success of the default split and of its rivals, and a grid of mixes.

    Args:
        concepts: learned concepts by their object's name.
        rivals: other ways to ask for the same, by name.
    """
    judges = {pair: MixJudge(DinoJudge.load(), pair.shape, pair.looks) for pair in pairs}
    names = [str(len(split)) for split in splits(pplus.layers)]
    shapes, looks = ([[0.0] * len(names) for _ in pairs] for _ in range(2))
    shown: dict[Pair, list[Image.Image]] = defaultdict(list)
    for row, pair in enumerate(pairs):
        for column, split in enumerate(splits(pplus.layers)):
            images = mix_pictures(pplus, concepts[pair.shape], concepts[pair.looks], split, seeds)
            seen = judges[pair].seen(images)
            shapes[row][column] = sum(shape == pair.shape for shape, _ in seen) / len(seen)
            looks[row][column] = sum(look == pair.looks for _, look in seen) / len(seen)
            shown[pair].append(images[0])
    success = {"XTI mix, coarse layers": _success(pplus, concepts, judges, pplus.layers.group("coarse"), seeds)}
    for name, draw in rivals.items():
        success[name] = [_share(judges[p].seen(draw(p.shape, p.looks, seeds)), p) for p in pairs]
    sweep = {"the first one's shape": _curve(shapes), "the second one's looks": _curve(looks)}
    drawn = figures.curves(sweep, names, xlabel="layers that the shape decides, coarse to fine", ylabel="share")
    grid = labelled_grid(
        list(shown.values()),
        row_labels=[f"{pair.shape} in {pair.looks}" for pair in pairs],
        column_labels=[f"{name} layers" for name in names],
        cell=96,
    )
    table: Table = {
        "way": list(success),
        "success [95 %]": [str(mean_interval(shares)) for shares in success.values()],
        "pairs × seeds": [f"{len(pairs)} × {len(seeds)}"] * len(success),
    }
    sections = [
        Section("Where shape hands over to looks", figures=[Figure(drawn)]),
        Section("Success", table=table),
        Section("Mixes", "From all looks to all shape.", [Figure(grid)]),
    ]
    values = {
        "pairs": [vars(pair) for pair in pairs],
        "seeds": list(seeds),
        "splits": names,
        "shape": shapes,
        "looks": looks,
        "success": success,
    }
    return Study("mixing", "One's shape, another's looks", LEAD, sections, values, {"success": table})


def mix_pictures(
    pplus: PPlus, shape: Concept, looks: Concept, split: Sequence[int], seeds: Sequence[int]
) -> list[Image.Image]:
    """Pictures of a mix that gives ``split`` to the shape."""
    pplus.add(mixed(shape, looks, TOKEN, split))
    try:
        return generate(pplus, [PROMPT.format(TOKEN)] * len(seeds), seeds)
    finally:
        pplus.forget(TOKEN)


def _success(
    pplus: PPlus,
    concepts: Mapping[str, Concept],
    judges: Mapping[Pair, MixJudge],
    split: Sequence[int],
    seeds: Sequence[int],
) -> list[float]:
    return [
        _share(judge.seen(mix_pictures(pplus, concepts[p.shape], concepts[p.looks], split, seeds)), p)
        for p, judge in judges.items()
    ]


def _share(seen: Sequence[tuple[str, str]], pair: Pair) -> float:
    return sum(found == (pair.shape, pair.looks) for found in seen) / len(seen)


def _curve(shares: Sequence[Sequence[float]]) -> Curve:
    found = [mean_interval(column) for column in zip(*shares, strict=True)]
    return Curve([i.value for i in found], [i.low for i in found], [i.high for i in found])
