"""The split test (paper figure 2): object from the coarse layers' prompt, colour from the prompt of all others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptplus.analysis.attributes import Names
from promptplus.conditioning import PPlus
from promptplus.evaluation.metrics import share
from promptplus.generation import generate


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval (Wilson, over pictures)."""

    share: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: Sequence[bool]) -> "Share":
        """Of true answers."""
        return cls(*share(hits))

    def __str__(self) -> str:
        return f"{self.share:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class SplitResult:
    """One judge's answers: shares of pictures.

    Attributes:
        object, colour: as asked of their layers; ``both``: of one picture.
        leak: with the colour of the object's prompt.
        one_object, one_colour: as asked where one prompt says both; what a split can reach at most.
    """

    pictures: int
    object: Share
    colour: Share
    both: Share
    leak: Share
    one_object: Share
    one_colour: Share


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
    return SplitResult(len(cases), **{name: Share.of(found) for name, found in hits.items()})
