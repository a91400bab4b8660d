"""Pure functions from judges' answers to numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Z95 = 1.96  # of the normal distribution: a 95 % interval
RESAMPLES = 2000  # of the bootstrap; our choice


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def subject_similarity(real: Tensor, generated: Tensor) -> float:
    """Mean pairwise cosine of unit-length features ``[N, D]`` and ``[M, D]`` (paper section 4, with DINO there)."""
    return float((real @ generated.T).mean())


def text_similarity(pictures: Tensor, texts: Tensor) -> float:
    """Mean cosine of unit-length picture and text features ``[N, D]``, row by row (paper section 4, CLIP)."""
    return float((pictures * texts).sum(1).mean())


def recovered(similarity: float, floor: float, ceiling: float) -> float:
    """How much of the way from ``floor`` to ``ceiling`` a similarity covers: 0 nothing, 1 all (our choice)."""
    return (similarity - floor) / (ceiling - floor)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of two sets of features ``[N, D]``, taken as Gaussians (Heusel et al., 2017)."""
    a, b = a.double(), b.double()
    means = (a.mean(0) - b.mean(0)).square().sum()
    first, second = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return float(means + first.trace() + second.trace() - 2 * roots)


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean of independent values, such as one for each concept, and its bootstrap interval (percentiles)."""
    array = np.asarray(values, float)
    drawn = array[np.random.default_rng(seed).integers(0, len(array), (RESAMPLES, len(array)))].mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(float(array.mean()), float(low), float(high))


def share(hits: Sequence[bool]) -> tuple[float, float, float]:
    """Share of true answers and its 95 % Wilson interval: (share, low, high)."""
    n, p = len(hits), sum(hits) / len(hits)
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return p, centre - half, centre + half
