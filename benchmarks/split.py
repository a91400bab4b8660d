"""The split test (paper figure 2): object from the coarse layers' prompt, colour from the prompt of all others.

``python -m benchmarks.split [--seeds 32] [--layers coarse] [--out split.json]``. The judge is a classifier trained on
renders only; ``--layers coarse,medium`` shows how much of the shape the middle layers add.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import promptplus as pp
from promptplus.evaluation.judges import AttributeJudge
from promptplus.evaluation.metrics import share
from promptplus.generation import generate
from promptplus.pocket.world import COLOURS, OBJECTS

COARSE_COLOUR = "red"  # in the coarse prompt; never the other prompt's colour


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval."""

    share: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: list[bool]) -> "Share":
        """Of true answers."""
        return cls(*share(hits))

    def __str__(self) -> str:
        return f"{self.share:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class SplitResult:
    """Split: object and colour as asked of their layers, and the coarse prompt's colour leaking. One: one prompt."""

    pictures: int
    object: Share
    colour: Share
    leak: Share
    one_object: Share
    one_colour: Share


def measure(pplus: pp.PPlus, judge: AttributeJudge, seeds: int, layers: str = "coarse") -> SplitResult:
    """Every object × ``seeds``, the object's prompt in ``layers``; colours take turns."""
    colours = [c for c in COLOURS if c != COARSE_COLOUR]
    cases = [
        (thing, colours[(i + seed) % len(colours)], seed) for i, thing in enumerate(OBJECTS) for seed in range(seeds)
    ]
    numbers = [seed for *_, seed in cases]
    split = [f"a {colour} object || {layers}: a {COARSE_COLOUR} {thing}" for thing, colour, _ in cases]
    one = [f"a {colour} {thing}" for thing, colour, _ in cases]
    seen = judge.classify(generate(pplus, split, numbers, progress="split"))
    plain = judge.classify(generate(pplus, one, numbers, progress="one prompt"))
    return SplitResult(
        pictures=len(cases),
        object=Share.of([a == c[0] for a, c in zip(seen["object"], cases, strict=True)]),
        colour=Share.of([a == c[1] for a, c in zip(seen["colour"], cases, strict=True)]),
        leak=Share.of([a == COARSE_COLOUR for a in seen["colour"]]),
        one_object=Share.of([a == c[0] for a, c in zip(plain["object"], cases, strict=True)]),
        one_colour=Share.of([a == c[1] for a, c in zip(plain["colour"], cases, strict=True)]),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--layers", default="coarse", help="those of the object's prompt")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with pp.PPlus(pp.load("pocket")) as pplus:
        result = measure(pplus, AttributeJudge.load(), options.seeds, options.layers)
    print(f"{result.pictures} pictures each, {len(OBJECTS)} objects × {options.seeds} seeds; share [95 % interval]")
    print(f"object from its layers' prompt  {result.object}   in one prompt {result.one_object}")
    print(f"colour from the other prompt    {result.colour}   in one prompt {result.one_colour}")
    print(f"colour from the object's prompt {result.leak}")
    if options.out:
        options.out.write_text(json.dumps(asdict(result), indent=2) + "\n")


if __name__ == "__main__":
    main()
