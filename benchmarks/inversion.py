"""XTI against TI at equal steps: subject similarity by concept, method and seed.

``python -m benchmarks.inversion [--steps 500] [--seeds 0 1 2] [--concepts robot teapot] [--out inversion.json]``.
The judge is a classifier trained on renders only; floor: the initializer's word, ceiling: fresh renders of the concept.
Results are appended to ``--out`` run by run, and runs that are there already are not repeated.
"""

import argparse
import json
import statistics
from pathlib import Path

from torch import Tensor

import promptplus as pp
from promptplus.evaluation.judges import AttributeJudge
from promptplus.evaluation.metrics import subject_similarity
from promptplus.generation import generate
from promptplus.inversion.images import load_pictures, read_note
from promptplus.inversion.run import Method
from promptplus.pocket import CONCEPTS
from promptplus.pocket.world import BACKGROUNDS, render_object_concept

PICTURES = 16
FRESH_SEED = 900_000_000  # of the ceiling's renders: no training or bundled picture has it
METHODS: tuple[Method, ...] = ("ti", "xti")


class Scorer:
    """Subject similarity to one concept's pictures."""

    def __init__(self, pplus: pp.PPlus, name: str) -> None:
        self.pplus, self.name, self.judge = pplus, name, AttributeJudge.load()
        self.real = self.judge.embed(load_pictures(CONCEPTS / name))

    def of_prompt(self, word: str, seed: int = 0) -> float:
        """Of pictures generated for "a photo of a WORD"."""
        pictures = generate(self.pplus, [f"a photo of a {word}"] * PICTURES, range(seed, seed + PICTURES))
        return self._similarity(self.judge.embed(pictures))

    def of_renders(self) -> float:
        """Of fresh renders of the concept, over all backgrounds: the ceiling."""
        places = [BACKGROUNDS[i % len(BACKGROUNDS)] for i in range(PICTURES)]
        renders = [render_object_concept(self.name, place, FRESH_SEED + i) for i, place in enumerate(places)]
        return self._similarity(self.judge.embed(renders))

    def of_inversion(self, method: Method, steps: int, seed: int) -> float:
        """Of pictures of a concept learned now."""
        concept = pp.invert(self.pplus, CONCEPTS / self.name, method=method, steps=steps, seed=seed)
        self.pplus.add(concept)
        score = self.of_prompt(concept.token, 1000 * seed)
        self.pplus.forget(concept.token)
        return score

    def _similarity(self, embedded: Tensor) -> float:
        return subject_similarity(self.real, embedded)


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--concepts", nargs="+", default=["robot", "teapot"])
    parser.add_argument("--out", type=Path, default=Path("build/inversion.json"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, float] = json.loads(options.out.read_text()) if options.out.exists() else {}

    def measured(key: str, score: float) -> None:
        results[key] = score
        options.out.write_text(json.dumps(results, indent=2) + "\n")

    with pp.PPlus(pp.load("pocket")) as pplus:
        for name in options.concepts:
            scorer = Scorer(pplus, name)
            if f"{name}/ceiling" not in results:
                word = read_note(CONCEPTS / name).initializer
                assert word
                measured(f"{name}/floor", scorer.of_prompt(word))
                measured(f"{name}/ceiling", scorer.of_renders())
            for seed in options.seeds:
                for method in METHODS:
                    key = f"{name}/{method}/{options.steps}/{seed}"
                    if key not in results:
                        measured(key, scorer.of_inversion(method, options.steps, seed))
    for name in options.concepts:
        ends = f"floor {results[f'{name}/floor']:.3f}   ceiling {results[f'{name}/ceiling']:.3f}"
        for method in METHODS:
            scores = [results[f"{name}/{method}/{options.steps}/{seed}"] for seed in options.seeds]
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            print(f"{name:<10} {method:<4} {statistics.mean(scores):.3f} ± {spread:.3f}   {ends}")


if __name__ == "__main__":
    main()
