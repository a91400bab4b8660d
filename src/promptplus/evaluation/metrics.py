"""Metrics and statistics: pure functions of features and of lists of numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Z95 = 1.96  # quantile of the normal distribution for a 95 % interval
RESAMPLES = 2000  # of the bootstrap (our choice)
MIN_UNITS = 6  # that an interval may decide by: six of one sign come by chance once in 32 (two-sided)


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def subject_similarity(real: Float[Tensor, "real width"], generated: Float[Tensor, "generated width"]) -> float:
    """Mean cosine over all pairs of a real and a generated picture (paper section 4, with DINO features).

    Args:
        real: features of unit length of the concept's pictures; ``generated``: the same of generated ones.
    """
    return float((real @ generated.T).mean())


def text_similarity(pictures: Float[Tensor, "pictures width"], texts: Float[Tensor, "pictures width"]) -> float:
    """Mean cosine of each picture and its text (paper section 4, with CLIP features).

    Args:
        pictures: picture features of unit length; ``texts``: text features of unit length, one for each picture.
    """
    return float((pictures * texts).sum(1).mean())


def recovered(similarity: float, floor: float, ceiling: float) -> float:
    """A similarity on the scale where ``floor`` is 0 and ``ceiling`` is 1 (our choice); it may lie outside."""
    return (similarity - floor) / (ceiling - floor)


def frechet_distance(a: Float[Tensor, "first width"], b: Float[Tensor, "second width"]) -> float:
    """Squared Fréchet distance of two sets of features, each taken as a Gaussian (Heusel et al., 2017)."""
    a, b = a.double(), b.double()
    means = (a.mean(0) - b.mean(0)).square().sum()
    first, second = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return float(means + first.trace() + second.trace() - 2 * roots)


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean of independent values, such as one per concept, with its percentile bootstrap interval.

    Args:
        values: at least one.
        seed: of the resampling; equal values give equal intervals.
    """
    array = np.asarray(values, float)
    means = array[np.random.default_rng(seed).integers(0, len(array), (RESAMPLES, len(array)))].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(array.mean()), float(low), float(high))


def share(hits: Sequence[bool]) -> tuple[float, float, float]:
    """The share of true values with its 95 % Wilson interval: (share, low, high)."""
    n, p = len(hits), sum(hits) / len(hits)
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return p, centre - half, centre + half
