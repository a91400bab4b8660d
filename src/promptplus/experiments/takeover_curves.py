"""Takeover curves: how much of prompt 2 shows, where that is one half, and how certain both are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from promptplus.evaluation.metrics import RESAMPLES, Interval
from promptplus.report import figures
from promptplus.report.figures import Curve

PAPER = {
    "object": (0.00, 0.33, 0.79, 0.92, 0.93, 0.98, 0.99, 1.00),
    "style": (0.00, 0.12, 0.49, 0.60, 0.82, 0.84, 0.90, 1.00),
    "colour": (0.00, 0.00, 0.01, 0.11, 0.30, 0.36, 0.64, 1.00),
}
"""Share of prompt 2 by subset of layers, read off the paper's figure to two decimals."""
HALF = 0.5


def relative(scores: Float[np.ndarray, "pairs takeovers"]) -> Float[np.ndarray, " takeovers"]:
    """The mean score over pairs, scaled so that the first takeover (none) is 0 and the last (all) is 1."""
    curve = scores.mean(0)
    return (curve - curve[0]) / max(curve[-1] - curve[0], 1e-9)


def crossing(curve: Float[np.ndarray, " takeovers"]) -> float:
    """Where a relative curve first reaches one half, as an index; linear between two takeovers.

    The last index if the curve stays below one half.
    """
    above = np.flatnonzero(curve >= HALF)
    if not len(above) or above[0] == 0:
        return float(above[0]) if len(above) else float(len(curve) - 1)
    after = int(above[0])
    return after - 1 + (HALF - curve[after - 1]) / (curve[after] - curve[after - 1])


def bands(
    scores: Float[np.ndarray, "pairs takeovers"], seed: int = 0
) -> tuple[Float[np.ndarray, " takeovers"], Float[np.ndarray, " takeovers"]]:
    """The 95 % bootstrap band of a relative curve: its lower and upper ends. Pairs are resampled."""
    curves = [relative(scores[rows]) for rows in resampled(len(scores), seed)]
    low, high = np.percentile(curves, (2.5, 97.5), axis=0)
    return low, high


def intervals(
    scores: Mapping[str, Float[np.ndarray, "pairs takeovers"]], orders: Sequence[tuple[str, str]], seed: int = 0
) -> dict[str, Interval]:
    """Where each attribute's curve reaches one half, and how much later one does than another.

    Args:
        scores: by attribute.
        orders: pairs of attributes (a, b); their difference b - a is returned under the name "a < b".

    Returns the values with 95 % bootstrap intervals. Prompt pairs are resampled, the same ones for all attributes.
    """
    count = len(next(iter(scores.values())))

    def crossings(rows: Int[np.ndarray, " rows"]) -> dict[str, float]:
        at_half = {name: crossing(relative(table[rows])) for name, table in scores.items()}
        return at_half | {f"{a} < {b}": at_half[b] - at_half[a] for a, b in orders}

    samples = [crossings(rows) for rows in resampled(count, seed)]
    exact = crossings(np.arange(count))
    ends = {name: np.percentile([sample[name] for sample in samples], (2.5, 97.5)) for name in exact}
    return {name: Interval(value, float(ends[name][0]), float(ends[name][1])) for name, value in exact.items()}


def takeover_figure(
    scores: Mapping[str, Float[np.ndarray, "pairs takeovers"]],
    ticks: Sequence[str],
    xlabel: str,
    paper: Mapping[str, Sequence[float]] | None,
) -> Image.Image:
    """A figure of relative curves with bands, one for each attribute; also the paper's, where they are as long."""
    curves = {}
    for name, table in scores.items():
        low, high = bands(table)
        curves[name] = Curve(relative(table).tolist(), low.tolist(), high.tolist())
    same = paper if paper and len(ticks) == len(next(iter(paper.values()))) else None
    return figures.curves(curves, ticks, xlabel=xlabel, ylabel="share of prompt 2", reference=same)


def curve_numbers(scores: Float[np.ndarray, "pairs takeovers"]) -> dict[str, Any]:
    """A curve as plain numbers, for JSON."""
    low, high = bands(scores)
    curve = relative(scores)
    raw = {"score": scores.mean(0), "relative": curve, "low": low, "high": high}
    return {name: [round(float(v), 4) for v in row] for name, row in raw.items()} | {"halfway": crossing(curve)}


def resampled(count: int, seed: int) -> Iterator[Int[np.ndarray, " count"]]:
    """Rows drawn with replacement, once for each bootstrap sample."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, count, count) for _ in range(RESAMPLES))
