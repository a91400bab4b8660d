"""The statistics of takeover curves, against worked examples."""

import numpy as np
import pytest

from promptplus.experiments.takeover_curves import bands, crossing, curve_numbers, intervals, relative

TWO_PAIRS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
"""One pair's curve jumps at the last takeover, the other's one earlier."""


def test_relative_curves_begin_at_0_and_end_at_1() -> None:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.normal(size=(5, 8)), axis=1)
    curve = relative(scores)
    mean = scores.sum(0) / 5
    assert curve == pytest.approx((mean - mean[0]) / (mean[-1] - mean[0]))
    assert relative(3 * scores + 2) == pytest.approx(curve), "no unit and no offset matters"
    assert relative(np.ones((2, 3))).tolist() == [0, 0, 0], "nothing changes: no division by zero"


def test_one_half_is_reached_as_interpolation_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        curve = relative(np.sort(rng.random((1, 8)), axis=1))
        assert crossing(curve) == pytest.approx(np.interp(0.5, curve, np.arange(8)))
    assert crossing(np.array([0, 0.5, 1])) == 1
    assert crossing(np.array([0, 0.6, 0.4, 1])) == pytest.approx(0.5 / 0.6), "the first time counts"
    assert crossing(np.array([0.7, 0.2, 1])) == 0, "it begins above"
    assert crossing(np.array([0, 0.1, 0.2])) == 2, "it stays below"


def test_the_band_of_two_pairs_spans_both() -> None:
    """A bootstrap of two draws one of them twice in half of the cases: the 95 % band ends at the two curves."""
    low, high = bands(TWO_PAIRS)
    assert low.tolist() == [0, 0, 1]
    assert high.tolist() == [0, 1, 1]
    low, high = bands(np.repeat(TWO_PAIRS[:1], 5, axis=0))
    assert low.tolist() == high.tolist() == [0, 0, 1], "equal pairs: no width"


def test_the_band_of_many_pairs_has_the_width_of_the_binomial_distribution() -> None:
    rng = np.random.default_rng(0)
    hits = (rng.random(400) < 0.3).astype(float)
    scores = np.stack([np.zeros(400), hits, np.ones(400)], axis=1)
    low, high = bands(scores)
    half = 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / 400)
    assert [low[1], high[1]] == pytest.approx([hits.mean() - half, hits.mean() + half], abs=0.01)


def test_differences_are_paired() -> None:
    """Both attributes get the same resampled pairs, so equal curves differ by nothing, however wide they are."""
    scores = {"object": TWO_PAIRS, "colour": TWO_PAIRS}
    scores["style"] = np.array([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    found = intervals(scores, [("object", "colour"), ("style", "object")])
    assert list(found) == ["object", "colour", "style", "object < colour", "style < object"]
    assert (found["object"].value, found["object"].low, found["object"].high) == (1, 0.5, 1.5)
    assert (found["style"].value, found["style"].low, found["style"].high) == (0.5, 0.5, 0.5)
    same, later = found["object < colour"], found["style < object"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert (later.value, later.low, later.high) == (0.5, 0, 1)


def test_numbers_of_a_curve() -> None:
    numbers = curve_numbers(TWO_PAIRS)
    assert numbers == {"score": [0, 0.5, 1], "relative": [0, 0.5, 1], "low": [0, 0, 1], "high": [0, 1, 1], "halfway": 1}
