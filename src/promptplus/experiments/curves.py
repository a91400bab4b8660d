"""Takeover curves: how far prompt 2 has come, where it is halfway, and how sure that is."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from promptplus.evaluation.metrics import RESAMPLES, Interval

HALF = 0.5


def relative(scores: np.ndarray) -> np.ndarray:
    """Mean over pairs of ``[pairs, subsets]``, scaled so that the first (none) is 0 and the last (all) is 1."""
    curve = scores.mean(0)
    return (curve - curve[0]) / max(curve[-1] - curve[0], 1e-9)


def crossing(curve: np.ndarray) -> float:
    """Where a relative curve first reaches one half: a subset index, linear between two; the last if it never does."""
    above = np.flatnonzero(curve >= HALF)
    if not len(above) or above[0] == 0:
        return float(above[0]) if len(above) else float(len(curve) - 1)
    after = int(above[0])
    return after - 1 + (HALF - curve[after - 1]) / (curve[after] - curve[after - 1])


def bands(scores: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % bootstrap band of a relative curve, over pairs: (low, high) ``[subset]``."""
    drawn = [relative(scores[rows]) for rows in _resampled(len(scores), seed)]
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    return low, high


def intervals(scores: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]], seed: int = 0) -> dict[str, Interval]:
    """Half crossings of each attribute, and differences (second minus first) of each of ``pairs`` under "a < b".

    Prompt pairs are resampled with replacement, the same ones for every attribute.
    """
    count = len(next(iter(scores.values())))

    def crossings(rows: np.ndarray) -> dict[str, float]:
        found = {name: crossing(relative(table[rows])) for name, table in scores.items()}
        return found | {f"{a} < {b}": found[b] - found[a] for a, b in pairs}

    drawn = [crossings(rows) for rows in _resampled(count, seed)]
    exact = crossings(np.arange(count))
    ends = {name: np.percentile([sample[name] for sample in drawn], (2.5, 97.5)) for name in exact}
    return {name: Interval(value, float(ends[name][0]), float(ends[name][1])) for name, value in exact.items()}


def _resampled(count: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, count, count) for _ in range(RESAMPLES))
