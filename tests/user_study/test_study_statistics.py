"""The statistics of a study against published examples and independent sums."""

import itertools
import math

import numpy as np
import pytest

from promptplus.user_study.simulate import simulated_power
from promptplus.user_study.statistics import (
    bradley_terry,
    crossed_bootstrap,
    krippendorff_alpha,
    sign_test,
    sign_test_power,
    smallest_decisive,
    votes_needed,
)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (8, 2), (2, 8), (5, 5), (6, 0), (9, 3)])
def test_the_sign_test_counts_all_outcomes_that_are_as_uneven(wins: int, losses: int) -> None:
    count = wins + losses
    outcomes = list(itertools.product((0, 1), repeat=count))
    uneven = sum(abs(2 * sum(one) - count) >= abs(wins - losses) for one in outcomes)
    assert sign_test(wins, losses) == pytest.approx(uneven / len(outcomes))


def test_the_sign_test_of_a_textbook() -> None:
    """8 of 10: p = .109 (Siegel, Nonparametric Statistics, table D: one-sided .055)."""
    assert sign_test(8, 2) == pytest.approx(0.109375)


@pytest.mark.parametrize("count", [1, 5, 6, 10, 37, 200])
def test_the_least_number_of_wins_that_decides(count: int) -> None:
    least = smallest_decisive(count)
    assert all((sign_test(wins, count - wins) <= 0.05) == (wins >= least) for wins in range(-(-count // 2), count + 1))


@pytest.mark.parametrize(("count", "share"), [(6, 0.9), (20, 0.6), (57, 0.7), (5, 0.99)])
def test_power_is_the_sum_of_the_binomial_distribution_where_the_test_decides(count: int, share: float) -> None:
    decisive = (k for k in range(count + 1) if k > count / 2 and sign_test(k, count - k) <= 0.05)
    power = sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in decisive)
    assert sign_test_power(count, share) == pytest.approx(power, abs=1e-12)


@pytest.mark.parametrize("share", [0.6, 0.75])
def test_with_as_many_votes_as_needed_or_more_the_power_is_enough(share: float) -> None:
    needed = votes_needed(share)
    assert sign_test_power(needed - 1, share) < 0.8
    assert all(sign_test_power(count, share) >= 0.8 for count in range(needed, 3 * needed))


def test_votes_needed_are_near_the_normal_approximation() -> None:
    """n = ((1.96 · .5 + .8416 · √(.6 · .4)) / .1)² = 194, and some more for an exact test whose power goes in steps."""
    assert 194 <= votes_needed(0.6) <= 194 * 1.1


def test_krippendorffs_own_example() -> None:
    """Four observers, twelve units, missing values: alpha = .743 (Krippendorff, 2011, example C)."""
    rows = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    units = [[row[i] for row in rows if row[i] != "."] for i in range(12)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_one_in_agreement_and_about_zero_by_chance() -> None:
    assert krippendorff_alpha([["A", "A"], ["B", "B", "B"]]) == 1
    generator = np.random.default_rng(0)
    units = [[str(v) for v in generator.integers(0, 3, 5)] for _ in range(400)]
    assert krippendorff_alpha(units) == pytest.approx(0, abs=0.03)
    assert krippendorff_alpha([["A"], []]) is None
    assert krippendorff_alpha([["A", "A"]]) is None


def test_bradley_terry_of_the_american_league() -> None:
    """Baseball 1987 (Agresti, Categorical Data Analysis, section 10.6): log strengths relative to Baltimore."""
    names = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
    wins = [
        *([0, 7, 9, 7, 7, 9, 11], [6, 0, 7, 5, 11, 9, 9], [4, 6, 0, 7, 7, 8, 12], [6, 8, 6, 0, 6, 7, 10]),
        *([6, 2, 6, 7, 0, 7, 12], [4, 4, 5, 6, 6, 0, 6], [2, 4, 1, 3, 1, 7, 0]),
    ]
    strengths = bradley_terry(np.array(wins, float))
    published = (1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0)
    assert dict(zip(names, (strengths - strengths[-1]).round(3), strict=True)) == dict(
        zip(names, published, strict=True)
    )
    assert strengths.mean() == pytest.approx(0)


def test_bradley_terry_of_two_methods_is_the_log_odds_and_of_many_studies_each_ones_own() -> None:
    several = np.array([[[0, 30], [10, 0]], [[0, 5], [20, 0]]], float)
    strengths = bradley_terry(several)
    assert strengths[:, 0] - strengths[:, 1] == pytest.approx(np.log([3, 0.25]))


def test_the_crossed_bootstrap_is_that_of_loops() -> None:
    """Against drawing participants and concepts one by one, as Owen (2007) describes it."""
    generator = np.random.default_rng(5)
    counts = generator.integers(0, 4, (9, 7)).astype(float)
    scores = generator.binomial(counts.astype(int), 0.6).astype(float)
    interval = crossed_bootstrap(scores, counts)
    means = []
    for _ in range(4000):
        people, concepts = generator.integers(0, 9, 9), generator.integers(0, 7, 7)
        means.append(scores[people][:, concepts].sum() / counts[people][:, concepts].sum())
    low, high = np.percentile(means, (2.5, 97.5))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.015)
    assert interval.value == scores.sum() / counts.sum()
    assert crossed_bootstrap(scores, counts) == interval


def test_votes_of_one_person_are_not_independent() -> None:
    """Without a preference, the sign test over votes decides far too often; the interval over people does not."""
    by_votes, by_bootstrap = simulated_power(0.5, participants=20, concepts=8, per_concept=3, spread=0.5)
    assert by_votes > 0.1  # of 2.5 % for one side
    assert by_bootstrap <= 0.06
    alone, _ = simulated_power(0.6, participants=20, concepts=8, per_concept=3, spread=0)
    assert alone == pytest.approx(sign_test_power(480, 0.6), abs=0.03)
