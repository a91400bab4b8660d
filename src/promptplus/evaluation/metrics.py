"""Pure functions from judges' answers to numbers."""

import math
from collections.abc import Sequence

from torch import Tensor

Z95 = 1.96  # of the normal distribution: a 95 % interval


def subject_similarity(real: Tensor, generated: Tensor) -> float:
    """Mean pairwise cosine of unit-length features ``[N, D]`` and ``[M, D]`` (paper section 4, with DINO there)."""
    return float((real @ generated.T).mean())


def share(hits: Sequence[bool]) -> tuple[float, float, float]:
    """Share of true answers and its 95 % Wilson interval: (share, low, high)."""
    n, p = len(hits), sum(hits) / len(hits)
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return p, centre - half, centre + half
