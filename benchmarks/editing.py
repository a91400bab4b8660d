"""What inversion keeps of a picture: error of an edit that changes nothing, by method, steps, guidance and skip.

``python -m benchmarks.editing [--cases 16]``. The error is the mean absolute difference of pixels, of 1, over drawn
pictures that no setting was chosen on; beside it that of the autoencoder alone. ``--layers`` prints the success of
candidate layers for each attribute instead, on the dev cases; ``experiments.edit_methods.LAYERS`` was chosen by it.
"""

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

import promptplus as pp
from promptplus.editing.edit import denoise_inversion, to_pictures
from promptplus.evaluation.metrics import mean_interval
from promptplus.experiments.edit_cases import EditCase, EditJudge, edit_cases, pixel_errors
from promptplus.experiments.edit_methods import SKIPS, Batch, choose_layers
from promptplus.experiments.editing import gentlest
from promptplus.pocket.world import ATTRIBUTES

CANDIDATES = ("coarse", "medium", "fine", "coarse,medium", "medium,fine", "coarse,fine", "coarse,medium,fine")
TRIED = (("noise-maps", 20, None), ("noise-maps", 50, None), ("ddim", 20, None), ("ddim", 50, None), ("ddim", 50, 1.0))
"""(method, steps, guidance on the way back; None: the model's). DDIM inversion itself never has guidance."""
SKIPPED = (0.0, 0.15, 0.4)


def errors(made: Sequence[Image.Image], cases: Sequence[EditCase]) -> str:
    """The mean error with its interval."""
    return str(mean_interval([pixel_errors(a, case.picture).mean() for a, case in zip(made, cases, strict=True)]))


def reconstruction(pplus: pp.PPlus, count: int) -> None:
    """Print the errors of edits that change nothing."""
    cases = edit_cases("report", -(-count // len(ATTRIBUTES)))[:count]
    batch = Batch(pplus, cases)
    texts = batch.sources()
    print(f"the autoencoder alone: {errors(to_pictures(pplus.pipe, batch.latents()), cases)}", flush=True)
    for method, steps, guidance in TRIED:
        inversion = batch.invert(texts, method, steps)
        for skip in SKIPPED:
            made = denoise_inversion(pplus, inversion.skipping(skip), texts, guidance)
            scale = "the model's guidance" if guidance is None else f"guidance {guidance:g}"
            print(f"{method}, {steps} steps, {scale}, skip {skip}: {errors(made, cases)}", flush=True)


def score(cases: Sequence[EditCase], made: Mapping[float, Sequence[Image.Image]]) -> str:
    """How many cases succeed, and the mean scores of their gentlest success."""
    judge = EditJudge(cases)
    best = [one for one in gentlest({skip: judge.scores(own) for skip, own in made.items()}) if one]
    means = {
        name: np.nanmean([getattr(scores, name) for _, scores in best]) if best else float("nan")
        for name in ("truth", "rest", "structure", "kept")
    }
    return f"{len(best)} of {len(cases)}; " + ", ".join(f"{name} {value:.4f}" for name, value in means.items())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--layers", action="store_true", help="compare layers instead, on CASES dev cases each")
    options = parser.parse_args()
    with pp.PPlus(pp.load("pocket")) as pplus:
        if not options.layers:
            reconstruction(pplus, options.cases)
            return
        found = choose_layers(pplus, edit_cases("dev", options.cases), CANDIDATES, score)
        for attribute, by_layers in found.items():
            for layers, text in by_layers.items():
                print(f"{attribute}, {layers}: {text}")
    print(f"shares of the steps left out: {SKIPS}")


if __name__ == "__main__":
    main()
