"""A comparison against one worked by hand: means over seeds, then over concepts; gains paired by concept."""

import pytest

from promptplus.evaluation.comparison import compare
from promptplus.evaluation.grid import GridResult


def result(concept: str, method: str, seed: int, subject: float, text: float, seconds: float = 1.0) -> GridResult:
    return GridResult(concept, method, seed, 500, subject, text, seconds, {})


TI = [
    result("cat", "ti", 0, 0.4, 0.6, 10),
    result("cat", "ti", 1, 0.6, 0.4, 30),
    result("dog", "ti", 0, 0.1, 0.5, 50),
    result("cup", "ti", 0, 0.3, 0.7, 20),
]
"""Means over seeds: cat .5 / .5, dog .1 / .5, cup .3 / .7."""
XTI = [
    result("cat", "xti", 0, 0.7, 0.5),
    result("dog", "xti", 0, 0.2, 0.4, 3),
    result("dog", "xti", 1, 0.4, 0.4, 2),
    result("key", "xti", 0, 0.9, 0.9),
]
"""Means over seeds: cat .7 / .5, dog .3 / .4, key .9 / .9, which the baseline has not."""


def test_scores_are_means_over_concepts_of_means_over_seeds() -> None:
    baseline, ours = compare([*TI, *XTI], ("ti", 500))
    assert (baseline.method, baseline.steps, baseline.concepts, baseline.runs) == ("ti", 500, 3, 4)
    assert baseline.subject.value == pytest.approx((0.5 + 0.1 + 0.3) / 3)
    assert baseline.text.value == pytest.approx((0.5 + 0.5 + 0.7) / 3)
    assert (ours.method, ours.concepts, ours.runs) == ("xti", 3, 4)
    assert ours.subject.value == pytest.approx((0.7 + 0.3 + 0.9) / 3)
    assert ours.text.value == pytest.approx((0.5 + 0.4 + 0.9) / 3)


def test_gains_are_over_the_concepts_that_both_have() -> None:
    baseline, ours = compare([*TI, *XTI], ("ti", 500))
    assert (baseline.subject_gain, baseline.text_gain, baseline.paired) == (None, None, 3)
    assert ours.paired == 2
    assert ours.subject_gain is not None
    assert ours.text_gain is not None
    # cat .7 - .5 = .2, dog .3 - .1 = .2; cat .5 - .5 = 0, dog .4 - .5 = -.1
    assert ours.subject_gain.value == pytest.approx(0.2)
    assert (ours.subject_gain.low, ours.subject_gain.high) == pytest.approx((0.2, 0.2))
    assert ours.text_gain.value == pytest.approx(-0.05)
    assert (ours.text_gain.low, ours.text_gain.high) == pytest.approx((-0.1, 0))  # the ends of two resampled values


def test_seconds_are_medians_over_trainings() -> None:
    baseline, ours = compare([*TI, *XTI], ("ti", 500))
    assert baseline.seconds == 25  # of 10, 20, 30, 50
    assert ours.seconds == 1.5  # of 1, 1, 2, 3


def test_without_its_baseline_a_method_has_no_gains() -> None:
    rows = compare([*XTI, result("cat", "fast", 0, 0.1, 0.1)], ("ti", 500))
    assert [row.method for row in rows] == ["xti", "fast"]
    assert [(row.subject_gain, row.text_gain, row.paired) for row in rows] == [(None, None, 0)] * 2


def test_step_counts_are_rows_of_their_own() -> None:
    early = GridResult("cat", "ti", 0, 100, 0.2, 0.9, 5.0, {})
    rows = compare([early, *TI], ("ti", 100))
    assert [(row.method, row.steps) for row in rows] == [("ti", 100), ("ti", 500)]
    assert rows[1].subject_gain is not None
    assert rows[1].subject_gain.value == pytest.approx(0.5 - 0.2)
    assert rows[1].paired == 1
