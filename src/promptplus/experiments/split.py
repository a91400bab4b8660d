"""The split test (paper figure 2): object from the coarse layers' prompt, colour from the prompt of all others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptplus.evaluation.metrics import Interval, mean_interval
from promptplus.experiments.takeover import Names
from promptplus.generation import generate
from promptplus.pplus import PPlus


@dataclass(frozen=True)
class SplitResult:
    """One judge's answers: shares of pictures, with intervals over objects.

    Attributes:
        object, colour: as asked of their layers; ``both``: of one picture.
        leak: with the colour of the object's prompt.
        one_object, one_colour: as asked where one prompt says both; what a split can reach at most.
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
    judges: Mapping[str, Names],
    objects: Sequence[str],
    colours: Sequence[str],
    seeds: int,
    layers: str = "coarse",
    *,
    steps: int | None = None,
    guidance: float | None = None,
    progress: bool = False,
) -> dict[str, SplitResult]:
    """Every object × ``seeds``, in the object's prompt with the first colour, the others taking turns; by judge."""
    leaking, *others = colours
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
    return {judge: _result(names(split), names(one), cases, leaking) for judge, names in judges.items()}


def _result(
    split: Mapping[str, Sequence[str]],
    one: Mapping[str, Sequence[str]],
    cases: Sequence[tuple[str, str, int]],
    leaking: str,
) -> SplitResult:
    things, colours, _ = zip(*cases, strict=True)
    hits = {
        name: [a == b for a, b in zip(seen, asked, strict=True)]
        for name, seen, asked in (
            ("object", split["object"], things),
            ("colour", split["colour"], colours),
            ("one_object", one["object"], things),
            ("one_colour", one["colour"], colours),
        )
    }
    hits["both"] = [a and b for a, b in zip(hits["object"], hits["colour"], strict=True)]
    hits["leak"] = [seen == leaking for seen in split["colour"]]
    return SplitResult(len(cases), **{name: _over(things, found) for name, found in hits.items()})


def _over(things: Sequence[str], hits: Sequence[bool]) -> Interval:
    """The share of hits; an object's pictures are one unit."""
    by_thing: dict[str, list[bool]] = {}
    for thing, hit in zip(things, hits, strict=True):
        by_thing.setdefault(thing, []).append(hit)
    return mean_interval([sum(found) / len(found) for found in by_thing.values()])
