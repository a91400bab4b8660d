"""Verdicts and claims, against worked examples."""

from typing import Any

import pytest

from promptplus.evaluation.metrics import Interval, mean_interval
from promptplus.experiments.study import Study
from promptplus.reproduce import claims
from promptplus.reproduce.claims import MIN_UNITS, Verdict

ABOVE, BELOW, ACROSS = Interval(2, 1, 3), Interval(-2, -3, -1), Interval(1, -1, 3)
AT_ZERO = Interval(1, 0, 2)


@pytest.mark.parametrize(
    ("differences", "holds"),
    [
        ((ABOVE,), "yes"),
        ((BELOW,), "no"),
        ((ACROSS,), "undecided"),
        ((AT_ZERO,), "undecided"),
        ((ABOVE, ABOVE), "yes"),
        ((ABOVE, ACROSS), "undecided"),
        ((ABOVE, BELOW), "no"),
        ((ACROSS, BELOW), "no"),
    ],
)
def test_a_claim_holds_where_all_differences_are_above_zero(differences: tuple[Interval, ...], holds: Verdict) -> None:
    assert claims.verdict(*differences, units=MIN_UNITS) == holds
    assert claims.verdict(*differences, units=MIN_UNITS - 1) == "undecided"


def test_six_equal_signs_are_as_rare_as_a_claim_may_be_wrong() -> None:
    """Two-sided sign test: the smallest number of units whose equal signs come by chance in less than 5 %."""
    assert 2 * 0.5**MIN_UNITS < 0.05 <= 2 * 0.5 ** (MIN_UNITS - 1)


def study_of(values: dict[str, Any]) -> Study:
    return Study("", "", "", [], values)


def test_attention_is_judged_by_the_interval_of_coarse_less_fine() -> None:
    values = {
        "prompts": ["a"] * 32,
        "coarse_less_fine": {"object": [-0.2, -0.3, -0.1], "after the object": [0.1, 0.05, 0.2]},
    }
    word, after = claims.attention(study_of(values))
    assert (word.holds, word.measured) == (
        "no",
        "share of the words' attention -0.20 [-0.30, -0.10] larger; 32 prompts",
    )
    assert (after.holds, after.measured[-27:]) == ("yes", "[0.05, 0.20] larger; 32 prompts"[-27:])


def test_layers_separate_better_where_even_the_farthest_steps_are_nearer() -> None:
    """Layers: 3 [2, 4]. Steps: the sign does not matter, and an interval across zero is at least 0 away."""
    for steps, holds in (
        ([1, 0.5, 1.5], "yes"),  # 2 - 1.5 > 0
        ([-1, -1.5, -0.5], "yes"),
        ([0, -2.5, 1], "undecided"),  # 2 - 2.5 < 0, 4 - 0 > 0
        ([6, 5, 7], "no"),  # 4 - 5 < 0
    ):
        own = {"halfway": {"object < colour": [3, 2, 4]}, "halfway_by_steps": {"object < colour": steps}}
        found = claims.layers(study_of({"by_judge": {"one": own}, "pairs": 64, "seeds": 1}))[-1]
        assert found.holds == holds, steps


def test_most_pictures_are_more_than_half_of_them_in_units_of_objects() -> None:
    own = {"split": {"both": [0.7, 0.6, 0.8], "pictures": 20}}
    values = {"by_judge": {"one": own}, "pairs": 64, "seeds": 4}
    assert claims.layers(study_of(values))[-1].holds == "undecided", "five objects, four seeds: too few units"
    assert claims.layers(study_of({**values, "seeds": 2}))[-1].holds == "yes"


def test_gains_of_mixes_are_paired() -> None:
    """Pairs differ widely, but the gain is the same in each: no width."""
    success = {"XTI mix": [0.1, 0.3, 0.5, 0.7, 0.9, 0.2], "TI": [0.0, 0.2, 0.4, 0.6, 0.8, 0.1]}
    (found,) = claims.mixing(study_of({"success": success, "roles": {"XTI mix": "ours", "TI": "rival"}}))
    assert (found.holds, found.measured) == ("yes", "45% against 35%: +0.10 [+0.10, +0.10]; 6 pairs")
    unpaired = mean_interval(success["XTI mix"])
    assert unpaired.high - unpaired.low > 0.3


def test_densities_are_compared_with_the_words_mean() -> None:
    names = "abcdef"
    values = {
        "log_density": {"words": [1.0, 2.0, 3.0]},
        "by_concept": {"TI rows": dict.fromkeys(names, -8.0), "XTI rows": {**dict.fromkeys(names, -3.0), "g": 99.0}},
    }
    lower, less = claims.density(study_of(values))
    assert lower.measured == "log density lower by: TI 10.0 [10.0, 10.0], XTI 5.0 [5.0, 5.0]; 6 concepts"
    assert less.measured == "5.0 [5.0, 5.0] higher; 6 concepts"
    values["by_concept"].pop("TI rows")
    assert [claim.holds for claim in claims.density(study_of(values))] == ["not measured"] * 2
