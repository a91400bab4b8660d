"""Strength curves: where a part takes over, between which strengths it is useful, and where the rest breaks."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from promptplus.evaluation.metrics import Interval, mean_interval
from promptplus.experiments.takeover_curves import resampled
from promptplus.report.figures import Curve

HALF = 0.5

Scores = Float[np.ndarray, "pairs strengths"]
"""For each prompt pair and strength a share of its pictures."""


def curve_of(scores: Scores) -> Curve:
    """The mean over pairs at each strength, with its 95 % bootstrap interval."""
    ends = [mean_interval(column.tolist()) for column in scores.T]
    return Curve([end.value for end in ends], [end.low for end in ends], [end.high for end in ends])


def halfway(scores: Scores, strengths: Sequence[float]) -> Interval | None:
    """The strength from 0 on at which the mean share first reaches one half; linear between two strengths.

    Returns it with its 95 % bootstrap interval over pairs; None where it never does. A sample that never does counts
    as the largest strength.
    """
    above = [i for i, strength in enumerate(strengths) if strength >= 0]
    values = [strengths[i] for i in above]

    def where(curve: Float[np.ndarray, " strengths"]) -> float | None:
        reached = np.flatnonzero(curve >= HALF)
        if not len(reached):
            return None
        after = int(reached[0])
        if after == 0:
            return values[0]
        return float(np.interp(HALF, curve[after - 1 : after + 1], values[after - 1 : after + 1]))

    exact = where(scores[:, above].mean(0))
    if exact is None:
        return None
    samples = [where(scores[rows][:, above].mean(0)) for rows in resampled(len(scores), seed=0)]
    low, high = np.percentile([values[-1] if sample is None else sample for sample in samples], (2.5, 97.5))
    return Interval(exact, float(low), float(high))


def clearly_below(scores: Scores, column: int, other: int) -> bool:
    """Whether the share at one strength is below that at another: the 95 % interval of the paired difference."""
    return mean_interval((scores[:, column] - scores[:, other]).tolist()).high < 0


def useful(scores: Scores, strengths: Sequence[float]) -> tuple[float, float, float]:
    """The best strength, and the lowest and highest one around it with a share that is not clearly below the best."""
    best = int(scores.mean(0).argmax())
    low = high = best
    while low > 0 and not clearly_below(scores, low - 1, best):
        low -= 1
    while high + 1 < len(strengths) and not clearly_below(scores, high + 1, best):
        high += 1
    return strengths[best], strengths[low], strengths[high]


def breaks(scores: Scores, strengths: Sequence[float]) -> Mapping[str, float | None]:
    """The first strength below 0 and the first above 0 at which a share is clearly below that at 0; None: no one."""
    zero = strengths.index(0)

    def first(columns: Iterable[int]) -> float | None:
        return next((strengths[i] for i in columns if clearly_below(scores, i, zero)), None)

    return {"below 0": first(range(zero - 1, -1, -1)), "above 0": first(range(zero + 1, len(strengths)))}
