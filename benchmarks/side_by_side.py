"""Several concepts in shared batches: seconds per concept and step, against one alone.

``python -m benchmarks.side_by_side [--counts 1 4 16] [--rounds 5] [--micro 16]``. Contestants take turns in one run.
All train at batch 8 per concept. ``--micro``: pictures that go through the denoiser at once, the same for all.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import promptplus as pp
from benchmarks.xti_step import WORD, in_turns
from promptplus.concept import Concept
from promptplus.datasets import load_pictures
from promptplus.models import picture_size
from promptplus.pictures import to_pixels
from promptplus.pocket import CONCEPTS
from promptplus.training.batches import LatentCache
from promptplus.training.first_rows import initial_rows
from promptplus.training.settings import InversionSettings, Templates
from promptplus.training.step import TrainingStep
from promptplus.training.token_rows import RowsTrainable, rows_step
from promptplus.training.trainable import frozen


def step_of(pplus: pp.PPlus, count: int, templates: Templates, micro: int) -> TrainingStep[RowsTrainable]:
    """``count`` concepts that learn side by side; the bundled ones take turns."""
    settings = InversionSettings(templates=templates, micro_batch=micro)
    folders = sorted(path for path in CONCEPTS.iterdir() if path.is_dir())
    size = picture_size(pplus.pipe)
    caches = [LatentCache.encode(pplus.pipe.vae, to_pixels(load_pictures(f), size)) for f in folders[:count]]
    rows = initial_rows(pplus, WORD, settings).expand(len(pplus.layers), -1, -1)
    blank = Concept(token="<x>", rows=rows, layers=pplus.layers)
    concepts = [(replace(blank, token=f"<x{number}>"), caches[number % len(caches)]) for number in range(count)]
    return rows_step(pplus, concepts, settings)


def print_per_concept(pplus: pp.PPlus, counts: Sequence[int], templates: Templates, micro: int, rounds: int) -> None:
    """Seconds per concept and step for each number of concepts, and their ratio to the first."""
    calls = {n: step_of(pplus, n, templates, micro).advance for n in counts}
    medians = {n: seconds / n for n, seconds in in_turns(calls, rounds).items()}
    for count, seconds in medians.items():
        ratio = seconds / medians[counts[0]]
        print(f"  {templates:<8} {count:>3} concepts   {seconds:.4f} s per concept   {ratio:.3f} of one")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--micro", type=int, default=16)
    options = parser.parse_args()
    with pp.PPlus(pp.load("pocket")) as pplus, frozen(pplus.pipe.unet, pplus.pipe.text_encoder, pplus.pipe.vae):
        for templates in get_args(Templates):
            print_per_concept(pplus, options.counts, templates, options.micro, options.rounds)


if __name__ == "__main__":
    main()
