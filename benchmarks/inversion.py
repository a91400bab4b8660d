"""XTI against TI at equal steps: subject similarity by concept, method and seed.

``python -m benchmarks.inversion [--steps 500] [--seeds 3] [--concepts robot teapot] [--out inversion.json]``. The judge
is a classifier trained on renders only; floor: the initializer's word, ceiling: fresh renders of the concept.
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
from promptplus.pocket import CONCEPTS
from promptplus.pocket.world import BACKGROUNDS, render_concept

PICTURES = 16
FRESH_SEED = 900_000  # of the ceiling's renders: no training or bundled picture has it


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--concepts", nargs="+", default=["robot", "teapot"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    judge = AttributeJudge.load()
    rows = []
    with pp.PPlus(pp.load("pocket")) as pplus:
        for name in options.concepts:
            real = judge.embed(load_pictures(CONCEPTS / name))

            def similarity(word: str, seed: int, real: Tensor = real) -> float:
                pictures = generate(pplus, [f"a photo of a {word}"] * PICTURES, range(seed, seed + PICTURES))
                return subject_similarity(real, judge.embed(pictures))

            fresh = [render_concept(name, BACKGROUNDS[i % len(BACKGROUNDS)], FRESH_SEED + i) for i in range(PICTURES)]
            note = read_note(CONCEPTS / name)
            assert note.initializer
            base = {
                "floor": similarity(note.initializer, 0),
                "ceiling": subject_similarity(real, judge.embed(fresh)),
            }
            for method in ("ti", "xti"):
                scores = []
                for seed in range(options.seeds):
                    learned = pp.invert(pplus, CONCEPTS / name, method=method, steps=options.steps, seed=seed)
                    pplus.add(learned)
                    scores.append(similarity(learned.token, 1000 * seed))
                    pplus.forget(learned.token)
                rows.append({"concept": name, "method": method, "steps": options.steps, "scores": scores, **base})
                spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
                print(
                    f"{name:<10} {method:<4} {statistics.mean(scores):.3f} ± {spread:.3f}   "
                    f"floor {base['floor']:.3f}   ceiling {base['ceiling']:.3f}",
                    flush=True,
                )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
