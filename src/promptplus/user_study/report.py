"""The report of a study: preferences with intervals, tests, agreement, a figure, and all votes."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from promptplus.errors import StudyError
from promptplus.evaluation.metrics import Interval
from promptplus.experiments.study import Study
from promptplus.report import figures
from promptplus.report.figures import PreferenceBar
from promptplus.report.html import Figure, Section
from promptplus.report.tables import Table, from_rows
from promptplus.user_study.design import VOTES, Rules, StudyDesign, StudyKey, read_design, read_key
from promptplus.user_study.results import (
    ParticipantRecord,
    Preference,
    QuestionResult,
    ResolvedVote,
    question_results,
    resolve,
)
from promptplus.user_study.votes import Vote, read_votes

NAME = "people"
LEAD = (
    "People saw two pictures at a time, without knowing which method made which, and said which of them answers a "
    "question better, or that there is no difference. Sides, order and catch trials were drawn before the first vote."
)
PREFERENCE_TEXT = (
    "Share: the first method's votes, with ties as half votes; 95 % interval by bootstrap over participants and "
    "concepts. This interval decides, where there are at least six of both. Of decided votes: without ties, with the "
    "Wilson interval. Sign test: exact and two-sided. That over votes takes them as independent, which votes of one "
    "person are not; that over participants asks for which method each voted more often. No p-value is corrected for "
    "the number of tests."
)
STRENGTH_TEXT = (
    "Bradley–Terry: log strengths with mean 0, from all votes, with ties as half wins and one added tie between each "
    "two methods. The intervals are by bootstrap over participants and concepts."
)
AGREEMENT_TEXT = (
    "Krippendorff's alpha, for the answers A, B and no difference to the same question about the same pair: 1 is full "
    "agreement, 0 is chance."
)


def report(folder: Path) -> Study:
    """The result of the study in a folder, by the rules that it was built with.

    Raises StudyError where nobody has voted, or where the key is missing or was changed.
    """
    design = read_design(folder)
    return study_of(design, read_key(folder, design), read_votes(folder / VOTES, design))


def read_report(folder: Path) -> Study:
    """Read what ``Study.write`` wrote of a user study. Raises StudyError where there is no such report."""
    study = Study.read(folder, NAME)
    if study is None or not {"questions", "finished", "rules", "counted", "left_out", "methods"} <= set(study.values):
        raise StudyError(
            f"{folder} holds no report of a user study; make it with promptplus study report STUDY --out {folder}"
        )
    return study


def study_of(design: StudyDesign, key: StudyKey, votes: Sequence[Vote]) -> Study:
    """The result of votes, with figures, tables and all numbers."""
    resolved, participants = resolve(design, key, votes)
    results = question_results(design, key, resolved)
    people = _participants(participants, design)
    preferences = _preference_table(results)
    sections = [Section("Preferences", PREFERENCE_TEXT, _figures(results), preferences)]
    if any(result.strengths for result in results):
        sections.append(Section("Strengths", STRENGTH_TEXT, table=_strength_table(results)))
    sections.append(Section("Agreement", AGREEMENT_TEXT, table=_agreement_table(results)))
    rules = _rules_text(design.rules)
    sections.append(Section("Participants", f"{people} {rules}", table=_participant_table(participants)))
    finished = sum(one.finished for one in participants)
    values: dict[str, Any] = {
        "study": design.id,
        "methods": list(key.methods),
        "rules": design.rules.model_dump(),
        "finished": finished,
        "counted": sum(one.counted for one in participants),
        "left_out": sum(not one.counted for one in participants),
        "votes": len(votes),
        "questions": {result.name: _plain(result) for result in results},
    }
    early = "" if finished >= design.rules.participants else " Not finished yet: these numbers may change."
    tables = {"votes": _vote_table(resolved), "preferences": preferences}
    return Study(NAME, "What people prefer", f"{LEAD} {people}{early}", sections, values, tables, design.id)


def summary(study: Study) -> str:
    """The preferences in sentences, one a line."""
    lines = [
        f"{question}: {one['first']} over {one['second']} {Interval(**one['share'])}; {one['wins']} : {one['losses']}, "
        f"{one['ties']} ties; {one['participants']} participants"
        for question, result in study.values["questions"].items()
        for one in result["preferences"]
    ]
    return "\n".join(lines) or "no vote counts yet: nobody has finished, or all failed the catch trials"


def _plain(result: QuestionResult) -> dict[str, object]:
    record = asdict(result)
    del record["name"]
    return record


def _figures(results: Sequence[QuestionResult]) -> list[Figure]:
    groups = {result.name: [_bar(one) for one in result.preferences] for result in results}
    if not groups:
        return []
    caption = (
        "Left: votes for the first method; grey: no difference; right: votes for the second. Points: share, [95 %]."
    )
    return [Figure(figures.preferences(groups), caption, name="preferences")]


def _bar(one: Preference) -> PreferenceBar:
    count = one.wins + one.losses + one.ties
    shares = one.wins / count, one.ties / count, one.losses / count
    return PreferenceBar(one.first, one.second, *shares, one.share.value, (one.share.low, one.share.high))


def _preference_table(results: Sequence[QuestionResult]) -> Table:
    names = ("question", "first", "second", "share of the first", "of decided votes", "votes")
    rows = [
        (
            result.name,
            one.first,
            one.second,
            str(one.share),
            str(one.decided or ""),
            f"{one.wins} : {one.losses}, {one.ties} ties",
            _p(one.p_votes),
            f"{_p(one.p_participants)} ({one.participants})",
            one.concepts,
        )
        for result in results
        for one in result.preferences
    ]
    return from_rows((*names, "p, votes", "p, participants", "concepts"), rows)


def _strength_table(results: Sequence[QuestionResult]) -> Table:
    rows = [(r.name, method, str(one)) for r in results for method, one in (r.strengths or {}).items()]
    return from_rows(("question", "method", "log strength"), rows)


def _agreement_table(results: Sequence[QuestionResult]) -> Table:
    rows = [(r.name, "not defined" if r.alpha is None else f"{r.alpha:.3f}") for r in results]
    return from_rows(("question", "alpha"), rows)


def _participant_table(participants: Sequence[ParticipantRecord]) -> Table:
    names = ("participant", "answers", "finished", "catch trials", "wrong", "counted")
    rows = [
        (one.number, one.answers, _yes(one.finished), one.catch, one.wrong, _yes(one.counted)) for one in participants
    ]
    return from_rows(names, rows)


def _vote_table(votes: Sequence[ResolvedVote]) -> Table:
    names = [one.name for one in fields(ResolvedVote)]
    return from_rows(names, [[getattr(vote, name) for name in names] for vote in votes])


def _participants(participants: Sequence[ParticipantRecord], design: StudyDesign) -> str:
    finished = sum(one.finished for one in participants)
    careless = sum(one.wrong > design.rules.most_wrong for one in participants)
    counted = sum(one.counted for one in participants)
    return (
        f"{len(participants)} people voted, {finished} of {design.rules.participants} wanted have finished; the votes "
        f"of {counted} count, and {careless} failed the catch trials."
    )


def _rules_text(rules: Rules) -> str:
    return (
        f"Fixed before the first vote: the study closes when {rules.participants} have finished; who gives more than "
        f"{rules.most_wrong} wrong answers in catch trials is left out; the votes of who did not finish do not count."
    )


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
