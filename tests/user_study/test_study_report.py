"""From votes to the report: simulated preferences come back, and the rules are applied as they were fixed."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptplus.errors import StudyError
from promptplus.evaluation.metrics import Interval
from promptplus.experiments.study import Study
from promptplus.reproduce import claims
from promptplus.user_study.design import StudyDesign, StudyKey
from promptplus.user_study.power import power_of
from promptplus.user_study.report import read_report, study_of, summary
from promptplus.user_study.results import question_results, resolve
from promptplus.user_study.simulate import simulated_votes
from promptplus.user_study.statistics import sign_test
from promptplus.user_study.votes import Vote
from tests.pages import figures
from tests.user_study.studies import make_study

THREE = ("xti@500", "ti@500", "word@0")
STRENGTHS = {"xti@500": 0.7, "ti@500": 0.0, "word@0": -0.7}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyDesign, StudyKey]:
    folder = tmp_path_factory.mktemp("study") / "study"
    return make_study(folder, THREE, concepts=6, count=2, participants=30, pairs_each=36)


def share_of(first: str, second: str, strengths: Mapping[str, float]) -> float:
    return 1 / (1 + float(np.exp(strengths[second] - strengths[first])))


def test_known_preferences_come_back_within_their_intervals(three: tuple[StudyDesign, StudyKey]) -> None:
    """12 simulated studies: 95 % intervals hold the truth in about 95 % of cases or more."""
    inside: dict[str, list[bool]] = {"wilson": [], "bootstrap": [], "strengths": []}
    for seed in range(12):
        votes = simulated_votes(*three, STRENGTHS, seed=seed)
        for result in question_results(*three, resolve(*three, votes)[0]):
            for one in result.preferences:
                truth = share_of(one.first, one.second, STRENGTHS)
                assert one.decided
                inside["wilson"].append(one.decided.low <= truth <= one.decided.high)
                inside["bootstrap"].append(one.share.low <= truth <= one.share.high)
            assert result.strengths
            inside["strengths"] += [one.low <= STRENGTHS[m] <= one.high for m, one in result.strengths.items()]
    assert np.mean(inside["wilson"]) == pytest.approx(0.95, abs=0.05)  # 72 intervals
    assert np.mean(inside["bootstrap"]) >= 0.93  # rather too wide
    assert np.mean(inside["strengths"]) >= 0.93
    assert len(inside["bootstrap"]) == 72


def test_where_people_and_concepts_differ_only_the_bootstrap_holds(three: tuple[StudyDesign, StudyKey]) -> None:
    inside: dict[str, list[bool]] = {"wilson": [], "bootstrap": []}
    for seed in range(12):
        votes = simulated_votes(*three, dict.fromkeys(THREE, 0.0), spread=0.6, seed=seed)
        for result in question_results(*three, resolve(*three, votes)[0])[:1]:
            for one in result.preferences:
                assert one.decided
                inside["wilson"].append(one.decided.low <= 0.5 <= one.decided.high)
                inside["bootstrap"].append(one.share.low <= 0.5 <= one.share.high)
    assert np.mean(inside["bootstrap"]) >= 0.8
    assert np.mean(inside["wilson"]) < np.mean(inside["bootstrap"]) - 0.15


def test_numbers_are_those_of_counting_by_hand(three: tuple[StudyDesign, StudyKey]) -> None:
    design, key = three
    votes = simulated_votes(design, key, STRENGTHS, ties=0.2, seed=3)
    result = question_results(design, key, resolve(design, key, votes)[0])[0]
    for one in result.preferences:
        wins = losses = ties = 0
        for vote in votes:
            pair = key.pairs[vote.pair]
            if vote.question == "subject" and {pair.a, pair.b} == {one.first, one.second}:
                chosen = {"A": pair.a, "B": pair.b}.get(vote.answer)
                wins, losses, ties = wins + (chosen == one.first), losses + (chosen == one.second), ties + (not chosen)
        assert (one.wins, one.losses, one.ties) == (wins, losses, ties)
        assert one.share.value == pytest.approx((wins + ties / 2) / (wins + losses + ties))
        assert one.p_votes == sign_test(wins, losses)
        assert (one.participants, one.concepts) == (30, 6)
    assert result.alpha is not None
    assert 0 < result.alpha < 0.5


def test_careless_participants_are_left_out_by_the_rule(three: tuple[StudyDesign, StudyKey]) -> None:
    design, key = three
    votes = simulated_votes(design, key, STRENGTHS, careless=10, seed=1)
    _, people = resolve(design, key, votes)
    for one in people:
        own = [vote for vote in votes if vote.participant == one.number and key.pairs[vote.pair].right]
        wrong = sum(vote.answer != key.pairs[vote.pair].right for vote in own)
        assert (one.wrong, one.catch) == (wrong, 6)
        assert one.counted == (wrong <= design.rules.most_wrong)
    assert [one.counted for one in people[10:]] == [True] * 20
    assert sum(one.counted for one in people[:10]) <= 3  # by chance: 2 % each
    with_them, without = (
        question_results(design, key, resolve(design, key, chosen)[0])[0].preferences
        for chosen in (votes, [vote for vote in votes if people[vote.participant - 1].counted])
    )
    assert with_them == without


def test_who_has_not_finished_does_not_count(three: tuple[StudyDesign, StudyKey]) -> None:
    design, key = three
    votes = simulated_votes(design, key, STRENGTHS, seed=1)
    last = max(i for i, vote in enumerate(votes) if vote.participant == 7)
    resolved, people = resolve(design, key, votes[:last] + votes[last + 1 :])
    assert [one.number for one in people if not one.finished] == [7]
    assert {vote.participant for vote in resolved if not vote.counted} == {7}


def test_the_report_releases_every_vote_and_can_be_read_again(
    three: tuple[StudyDesign, StudyKey], tmp_path: Path
) -> None:
    design, key = three
    votes = simulated_votes(design, key, STRENGTHS, ties=0.1, careless=2, seed=2)
    study = study_of(design, key, votes)
    page = study.write(tmp_path).read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "people-votes.csv").read_text())))
    assert [(int(r["participant"]), r["pair"], r["question"], r["answer"]) for r in rows] == [
        (v.participant, v.pair, v.question, v.answer) for v in votes
    ]
    ordinary = [row for row in rows if row["catch"] == "False"]
    assert {row["preferred"] for row in ordinary} == {*THREE, "tie"}
    assert list(figures(page)) == ["Preferences"]
    assert "Not finished" not in page
    again = read_report(tmp_path)
    assert again.values["questions"].keys() == {"subject", "text"}
    assert summary(again) == summary(study)
    assert "subject: xti@500 over ti@500 0." in summary(study)
    with pytest.raises(StudyError, match="holds no report of a user study"):
        read_report(tmp_path / "nothing")


def test_a_study_that_runs_says_so_and_decides_nothing(three: tuple[StudyDesign, StudyKey]) -> None:
    design, key = three
    votes = [vote for vote in simulated_votes(design, key, STRENGTHS) if vote.participant < 10]
    study = study_of(design, key, votes)
    assert "Not finished yet" in study.lead
    claim = claims.people(study, "XTI", "TI")
    assert (claim.holds, claim.measured) == (
        "not measured",
        "not measured: needs people: 9 of 30 participants have finished",
    )
    nothing = study_of(design, key, votes[:3])
    assert "no vote counts yet" in summary(nothing)


@pytest.mark.parametrize(("lead", "holds"), [(1.2, "yes"), (-1.2, "no"), (0.0, "undecided")])
def test_the_claim_follows_the_votes(three: tuple[StudyDesign, StudyKey], lead: float, holds: str) -> None:
    strengths = {"xti@500": lead, "ti@500": 0.0, "word@0": 0.0}
    study = study_of(*three, simulated_votes(*three, strengths, seed=4))
    claim = claims.people(study, "XTI", "TI")
    assert claim.holds == holds
    assert "subject (xti@500 over ti@500)" in claim.measured
    assert claim.says == "People prefer XTI's pictures"


def values_of(first: str, second: str, share: tuple[float, float, float], units: int = 8) -> dict[str, Any]:
    interval = dict(zip(("value", "low", "high"), share, strict=True))
    one = {"first": first, "second": second, "share": interval, "participants": units, "concepts": units}
    record = {"finished": 9, "rules": {"participants": 9}, "counted": 8, "left_out": 1, "methods": [first, second]}
    return {**record, "questions": {"subject": {"preferences": [one]}}}


@pytest.mark.parametrize(
    ("first", "second", "holds"),
    [
        ("paper-xti@500", "paper-ti@500", "yes"),
        ("ti", "XTI", "no"),  # the other way round
        ("xtinct", "ti", "not measured"),  # a word inside a word is none
        ("dreambooth", "ti", "not measured"),
    ],
)
def test_the_claim_finds_its_methods_by_name(first: str, second: str, holds: str) -> None:
    study = Study("people", "", "", [], values_of(first, second, (0.7, 0.6, 0.8)))
    assert claims.people(study, "XTI", "TI").holds == holds


def test_the_claim_turns_the_interval_round_and_needs_enough_people_and_concepts() -> None:
    study = Study("people", "", "", [], values_of("ti", "xti", (0.3, 0.2, 0.4)))
    claim = claims.people(study, "XTI", "TI")
    assert (claim.holds, "subject (xti over ti) 0.70 [0.60, 0.80]" in claim.measured) == ("yes", True)
    few = Study("people", "", "", [], values_of("xti", "ti", (0.7, 0.6, 0.8), claims.MIN_UNITS - 1))
    assert claims.people(few, "XTI", "TI").holds == "undecided"
    assert "--people" in claims.people(None, "XTI", "TI").measured


def test_a_method_that_never_wins_has_a_finite_strength(three: tuple[StudyDesign, StudyKey]) -> None:
    design, key = three
    votes: list[Vote] = []
    for vote in simulated_votes(design, key, STRENGTHS):
        one = key.pairs[vote.pair]
        order = {"xti@500": 0, "ti@500": 1, "word@0": 2}
        answer = vote.answer if one.right else ("A" if order[one.a] < order[one.b] else "B")
        votes.append(Vote(vote.participant, vote.pair, vote.question, answer))
    strengths = question_results(design, key, resolve(design, key, votes)[0])[0].strengths
    assert strengths
    best, middle, worst = (strengths[name] for name in THREE)
    assert best.low > middle.high
    assert middle.low > worst.high
    assert all(isinstance(one, Interval) and np.isfinite([one.low, one.high]).all() for one in strengths.values())


def test_the_power_of_a_study_is_said_for_independent_and_for_clustered_votes(
    three: tuple[StudyDesign, StudyKey],
) -> None:
    power = power_of(*three)
    assert (power.pairs, power.votes) == (12, 360)
    assert power.clustered < 0.9 < power.independent
    assert "independent votes decide a 60 : 40 preference" in str(power)
