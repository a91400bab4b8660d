"""Places between two concepts, as pictures: in a straight line and along the arc, all layers or the coarse ones."""

from collections.abc import Sequence
from typing import get_args

from PIL import Image

from promptplus.concept import Concept
from promptplus.experiments.mixing import PROMPT, Concepts, Pair, noises_of
from promptplus.generation import generate
from promptplus.mixing import InterpolationPath, interpolate
from promptplus.pplus import PPlus
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid

SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)  # of the second concept; our choice
ROWS: tuple[tuple[InterpolationPath, str | None], ...] = tuple(
    (path, layers) for layers in (None, "coarse") for path in get_args(InterpolationPath)
)
"""(path, the layers that go)."""


def section(pplus: PPlus, concepts: Concepts, pairs: Sequence[Pair]) -> Section:
    """A grid for each pair: from its first concept to its second, all pictures from one noise."""
    seeds = [noise[0] for noise in noises_of(len(pairs), 1)]
    drawn = [
        Figure(grid(pplus, concepts[pair.shape], concepts[pair.looks], seed), f"from {pair.shape} to {pair.looks}")
        for pair, seed in zip(pairs, seeds, strict=True)
    ]
    return Section("Between two concepts", "Share of the second concept's rows, from the left to the right.", drawn)


def grid(pplus: PPlus, first: Concept, second: Concept, seed: int) -> Image.Image:
    """A row for each path and choice of layers, a column for each share."""
    rows = [
        _pictures(
            pplus,
            [interpolate(first, second, f"<mix-{i}>", share, path, layers=layers) for i, share in enumerate(SHARES)],
            seed,
        )
        for path, layers in ROWS
    ]
    names = [f"{path}, {layers or 'all'} layers" for path, layers in ROWS]
    return labelled_grid(rows, row_labels=names, column_labels=[f"{share:.0%}" for share in SHARES], cell=96)


def _pictures(pplus: PPlus, concepts: Sequence[Concept], seed: int) -> list[Image.Image]:
    """One of each concept, all from one noise."""
    with pplus.added(concepts):
        return generate(pplus, [PROMPT.format(concept.token) for concept in concepts], [seed] * len(concepts))
