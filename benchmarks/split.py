"""The split test (paper figure 2): object from the coarse layers' prompt, colour from the prompt of all others.

``python -m benchmarks.split [--seeds 32] [--layers coarse] [--out split.json]``. The judge is a classifier trained on
renders only; ``--layers coarse,medium`` shows how much of the shape the middle layers add.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import promptplus as pp
from promptplus.experiments.split import SplitResult, measure_split
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import COLOURS, OBJECTS


def measure(pplus: pp.PPlus, judge: AttributeJudge, seeds: int, layers: str = "coarse") -> SplitResult:
    """Every object × ``seeds``, the object's prompt in ``layers``; colours take turns."""
    judges = {"classifier": judge.classify}
    return measure_split(pplus, judges, OBJECTS, tuple(COLOURS), seeds, layers, progress=True)["classifier"]


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
