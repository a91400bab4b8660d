"""Metrics and statistics against worked examples and independent formulas."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from promptplus.evaluation.metrics import (
    Interval,
    frechet_distance,
    mean_interval,
    recovered,
    share,
    subject_similarity,
    text_similarity,
)


def unit(*degrees: float) -> Tensor:
    """Features ``[N, 2]`` of unit length at these angles."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_subject_similarity_is_the_mean_cosine_of_all_pairs() -> None:
    real, generated = unit(0, 90), unit(0, 60, 180)
    cosines = [math.cos(math.radians(a - b)) for a in (0, 90) for b in (0, 60, 180)]
    assert subject_similarity(real, generated) == pytest.approx(sum(cosines) / 6, abs=1e-6)
    assert subject_similarity(real, generated) == pytest.approx((0.5 + math.sqrt(3) / 2) / 6, abs=1e-6)
    assert subject_similarity(real, real) == pytest.approx(0.5)  # of n different pictures, each is its own pair too
    assert subject_similarity(generated, real) == pytest.approx(subject_similarity(real, generated))


def test_text_similarity_pairs_each_picture_with_its_text() -> None:
    pictures, texts = unit(0, 0, 30), unit(0, 90, 90)
    assert text_similarity(pictures, texts) == pytest.approx((1 + 0 + 0.5) / 3, abs=1e-6)
    assert text_similarity(pictures, texts.flip(0)) == pytest.approx((0 + 0 + math.sqrt(3) / 2) / 3, abs=1e-6)
    assert text_similarity(pictures, pictures) == pytest.approx(1)


def test_recovered_is_linear_between_floor_and_ceiling() -> None:
    assert recovered(0.3, floor=0.3, ceiling=0.7) == 0
    assert recovered(0.7, floor=0.3, ceiling=0.7) == 1
    assert recovered(0.4, floor=0.3, ceiling=0.7) == pytest.approx(0.25)
    assert recovered(0.2, floor=0.3, ceiling=0.7) == pytest.approx(-0.25)
    assert recovered(0.9, floor=0.3, ceiling=0.7) == pytest.approx(1.5)


def sample(mean: list[float], covariance: list[list[float]], count: int, seed: int) -> Tensor:
    """Rows whose sample mean and sample covariance are exactly these."""
    noise = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = noise - noise.mean(0)
    white = noise @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(noise.T))).T
    return white @ torch.linalg.cholesky(torch.tensor(covariance, dtype=torch.float64)).T + torch.tensor(mean)


def test_frechet_distance_of_gaussians_with_diagonal_covariances() -> None:
    """``|m1 - m2|² + Σ (σ1 - σ2)²``: (3, 4) apart, standard deviations (2, 3) against (1, 5)."""
    first = sample([1.0, 1.0], [[4.0, 0.0], [0.0, 9.0]], 50, seed=0)
    second = sample([4.0, 5.0], [[1.0, 0.0], [0.0, 25.0]], 80, seed=1)
    assert frechet_distance(first, second) == pytest.approx(25 + 1 + 4, abs=1e-8)
    assert frechet_distance(second, first) == pytest.approx(30, abs=1e-8)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(first, first + torch.tensor([3.0, 4.0])) == pytest.approx(25, abs=1e-8)


def test_frechet_distance_of_gaussians_with_any_covariances() -> None:
    """For 2 × 2 matrices ``tr √M = √(tr M + 2 √det M)``, here with M the product of the covariances."""
    first, second = [[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.3], [-0.3, 3.0]]
    product = np.array(first) @ np.array(second)
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    expected = 0.25 + np.trace(first) + np.trace(second) - 2 * root
    distance = frechet_distance(sample([0.0, 0.0], first, 40, seed=2), sample([0.5, 0.0], second, 60, seed=3))
    assert distance == pytest.approx(expected, abs=1e-8)


def test_frechet_distance_takes_single_precision_features() -> None:
    """It computes in double precision; more dimensions than rows are fine."""
    features = torch.randn(5, 16, generator=torch.Generator().manual_seed(4))
    assert frechet_distance(features, features + 1) == pytest.approx(16, rel=1e-4)


def binomial_quantile(count: int, chance: float, level: float) -> int:
    """The smallest k with P(X ≤ k) ≥ level."""
    total = 0.0
    for hits in range(count + 1):
        total += math.comb(count, hits) * chance**hits * (1 - chance) ** (count - hits)
        if total >= level:
            return hits
    return count


@pytest.mark.parametrize(("hits", "count"), [(1, 6), (2, 5), (3, 10)])
def test_mean_interval_is_the_percentile_bootstrap(hits: int, count: int) -> None:
    """Of zeros and ones the resampled sum is binomial, so both ends are known exactly."""
    values = [1.0] * hits + [0.0] * (count - hits)
    low, high = (binomial_quantile(count, hits / count, level) / count for level in (0.025, 0.975))
    interval = mean_interval(values)
    assert (interval.value, interval.low, interval.high) == pytest.approx((hits / count, low, high))


def test_mean_interval_of_many_values_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    half = 1.96 * values.std() / math.sqrt(len(values))
    interval = mean_interval(values.tolist())
    assert interval.value == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_mean_interval_moves_and_scales_with_its_values() -> None:
    values = [0.1, 0.5, 0.2, 0.9]
    base, other = mean_interval(values), mean_interval([3 * value + 1 for value in values])
    assert [other.value, other.low, other.high] == pytest.approx([3 * v + 1 for v in (base.value, base.low, base.high)])
    assert mean_interval(values) == base
    assert mean_interval([0.25]) == mean_interval([0.25] * 7) == Interval(0.25, 0.25, 0.25)
    assert str(Interval(0.5, 0.25, 1)) == "0.500 [0.250, 1.000]"


def test_share_is_the_wilson_interval() -> None:
    """8 of 10: (.490, .943), as in textbooks; of 0 and of all, one end is exact: n / (n + z²) is left."""
    assert share([True] * 8 + [False] * 2) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    z = 1.96
    assert share([False] * 10) == pytest.approx((0, 0, z**2 / (10 + z**2)))
    assert share([True] * 10) == pytest.approx((1, 10 / (10 + z**2), 1))


@pytest.mark.parametrize(("hits", "count"), [(1, 3), (8, 10), (70, 400)])
def test_the_ends_of_a_wilson_interval_solve_the_score_equation(hits: int, count: int) -> None:
    """``|p̂ - p| = z √(p (1 - p) / n)``."""
    measured, low, high = share([True] * hits + [False] * (count - hits))
    assert measured == hits / count
    for end in (low, high):
        assert abs(measured - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / count))
    assert low < measured < high
