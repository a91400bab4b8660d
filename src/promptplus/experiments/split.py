"""The split test (paper figure 2): the coarse layers' prompt names an object, the other layers' prompt a colour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptplus.evaluation.metrics import Interval, mean_interval
from promptplus.experiments.takeover import ClassifyFunction
from promptplus.generation import generate
from promptplus.pplus import PPlus

Case = tuple[str, str, int]
"""(object, colour of the other layers' prompt, seed) of a picture."""


@dataclass(frozen=True)
class SplitResult:
    """What one judge sees: shares of pictures, with intervals over objects.

    Attributes:
        pictures: the number of pictures.
        object: with the object of the coarse layers' prompt.
        colour: with the colour of the other layers' prompt.
        both: with both of these.
        leak: with the colour of the coarse layers' prompt.
        one_object, one_colour: with the object and the colour where one prompt for all layers names both. A split
            cannot be expected to do better.
    """

    pictures: int
    object: Interval
    colour: Interval
    both: Interval
    leak: Interval
    one_object: Interval
    one_colour: Interval


def measure_split(
    pplus: PPlus,
    judges: Mapping[str, ClassifyFunction],
    objects: Sequence[str],
    colours: Sequence[str],
    seeds: int,
    layers: str | None = None,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    progress: bool = False,
) -> dict[str, SplitResult]:
    """The split test's result by judge.

    Args:
        colours: the first one is in the prompt of ``layers``, with the object; the others take turns in the prompt of
            all other layers.
        seeds: the number of pictures of each object.
    """
    leaking, *others = colours
    layers = layers or pplus.layers.bands[0]
    cases = [
        (thing, others[(i + seed) % len(others)], seed) for i, thing in enumerate(objects) for seed in range(seeds)
    ]
    prompts = {
        "split": [f"a {colour} object || {layers}: a {leaking} {thing}" for thing, colour, _ in cases],
        "one prompt": [f"a {colour} {thing}" for thing, colour, _ in cases],
    }
    split, one = (
        generate(pplus, texts, [seed for *_, seed in cases], steps=steps, guidance=guidance, progress=progress and name)
        for name, texts in prompts.items()
    )
    return {name: _result(classify(split), classify(one), cases, leaking) for name, classify in judges.items()}


def _result(
    split: Mapping[str, Sequence[str]], one: Mapping[str, Sequence[str]], cases: Sequence[Case], leaking: str
) -> SplitResult:
    things, colours, _ = zip(*cases, strict=True)
    hits = {
        name: [a == b for a, b in zip(seen, wanted, strict=True)]
        for name, seen, wanted in (
            ("object", split["object"], things),
            ("colour", split["colour"], colours),
            ("one_object", one["object"], things),
            ("one_colour", one["colour"], colours),
        )
    }
    hits["both"] = [a and b for a, b in zip(hits["object"], hits["colour"], strict=True)]
    hits["leak"] = [seen == leaking for seen in split["colour"]]
    return SplitResult(len(cases), **{name: _share_by_object(things, each) for name, each in hits.items()})


def _share_by_object(things: Sequence[str], hits: Sequence[bool]) -> Interval:
    """The share of hits. An object's pictures are one unit of the bootstrap."""
    by_thing: dict[str, list[bool]] = {}
    for thing, hit in zip(things, hits, strict=True):
        by_thing.setdefault(thing, []).append(hit)
    return mean_interval([sum(own) / len(own) for own in by_thing.values()])
