"""Votes → results: whose pictures were preferred, by the rules that the study fixed beforehand."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from promptplus.evaluation.metrics import Interval, share
from promptplus.user_study.design import Pair, StudyDesign, StudyKey
from promptplus.user_study.statistics import (
    bradley_terry,
    crossed_bootstrap,
    crossed_sums,
    krippendorff_alpha,
    sign_test,
)
from promptplus.user_study.votes import Vote

TIE = "tie"
ADDED_TIES = 1.0  # between each two methods, so that one that never wins has a finite strength too (our choice)


@dataclass(frozen=True)
class ResolvedVote:
    """A vote with what the key says about its pair.

    Attributes:
        participant: a number; participant codes are in no result.
        a, b: the methods of the two pictures; "" in a catch trial.
        preferred: the preferred method, ``tie``; in a catch trial ``right`` or ``wrong``.
        counted: whether the rules count the votes of this participant.
    """

    participant: int
    pair: str
    question: str
    concept: str
    item: str
    prompt: str
    a: str
    b: str
    answer: str
    preferred: str
    catch: bool
    counted: bool


@dataclass(frozen=True)
class ParticipantRecord:
    """What the rules ask about a participant: answers in all, wrong answers in catch trials, and whether it counts."""

    number: int
    answers: int
    finished: bool
    catch: int
    wrong: int
    counted: bool


@dataclass(frozen=True)
class Preference:
    """How often the first of two methods was preferred, for one question.

    Attributes:
        wins, losses, ties: votes.
        decided: the share of wins among wins and losses, with its Wilson interval; None without any.
        share: the share of wins with ties as half wins, with the bootstrap interval over participants and concepts.
        p_votes: of the sign test over votes, as if they were independent.
        p_participants: of the sign test over participants: for which method each voted more often.
        participants, concepts: how many there are.
    """

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    decided: Interval | None
    share: Interval
    p_votes: float
    p_participants: float
    participants: int
    concepts: int


@dataclass(frozen=True)
class QuestionResult:
    """The result of one question.

    Attributes:
        preferences: for each two methods.
        strengths: Bradley–Terry log strengths by method; None with fewer than three methods.
        alpha: Krippendorff's alpha; None where it is not defined.
    """

    name: str
    preferences: tuple[Preference, ...]
    strengths: dict[str, Interval] | None
    alpha: float | None


def resolve(
    design: StudyDesign, key: StudyKey, votes: Sequence[Vote]
) -> tuple[list[ResolvedVote], list[ParticipantRecord]]:
    """The votes with their methods, and the participants with the rules applied to them."""
    pairs = {pair.id: pair for pair in design.pairs}
    catch = sum(len(pair.questions) for pair in design.pairs if pair.everyone)
    ordinary = [len(pair.questions) for pair in design.pairs if not pair.everyone]
    all_answers = catch + sum(ordinary[: design.rules.pairs_each])  # ordinary pairs have all questions
    by_participant: dict[int, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_participant[vote.participant].append(vote)
    records: dict[int, ParticipantRecord] = {}
    for number, own in sorted(by_participant.items()):
        trials = [vote for vote in own if key.pairs[vote.pair].right]
        wrong = sum(vote.answer != key.pairs[vote.pair].right for vote in trials)
        finished = len(own) >= all_answers
        counted = finished and wrong <= design.rules.most_wrong
        records[number] = ParticipantRecord(number, len(own), finished, len(trials), wrong, counted)
    resolved = [_resolve(vote, pairs[vote.pair], key, records[vote.participant].counted) for vote in votes]
    return resolved, list(records.values())


def question_results(design: StudyDesign, key: StudyKey, votes: Sequence[ResolvedVote]) -> list[QuestionResult]:
    """The result of each question that has counted votes."""
    counted = [vote for vote in votes if vote.counted and not vote.catch]
    results: list[QuestionResult] = []
    for question in design.questions:
        if own := [vote for vote in counted if vote.question == question.name]:
            by_pair: dict[str, list[str]] = defaultdict(list)
            for vote in own:
                by_pair[vote.pair].append(vote.answer)
            compared = (_preference(a, b, own) for a, b in combinations(key.methods, 2))
            preferences = tuple(one for one in compared if one)
            strengths = _strengths(key.methods, own) if len(key.methods) > 2 else None
            results.append(
                QuestionResult(question.name, preferences, strengths, krippendorff_alpha(list(by_pair.values())))
            )
    return results


def _resolve(vote: Vote, pair: Pair, key: StudyKey, counted: bool) -> ResolvedVote:
    one = key.pairs[vote.pair]
    if one.right:
        preferred = "right" if vote.answer == one.right else "wrong"
    else:
        preferred = {"A": one.a, "B": one.b, "tie": TIE}[vote.answer]
    return ResolvedVote(
        participant=vote.participant,
        pair=vote.pair,
        question=vote.question,
        concept=one.concept,
        item=one.item,
        prompt=pair.prompt,
        a=one.a,
        b=one.b,
        answer=vote.answer,
        preferred=preferred,
        catch=one.right is not None,
        counted=counted,
    )


def _preference(first: str, second: str, votes: Sequence[ResolvedVote]) -> Preference | None:
    """How two methods compare; None where there are no votes."""
    own = [vote for vote in votes if {vote.a, vote.b} == {first, second}]
    if not own:
        return None
    wins, losses = (sum(vote.preferred == method for vote in own) for method in (first, second))
    decided = Interval(*share([True] * wins + [False] * losses)) if wins + losses else None
    people, concepts = _units(own)
    scores, counts = np.zeros((2, len(people), len(concepts)))
    ahead = dict.fromkeys(people, 0)
    for vote in own:
        place = people[vote.participant], concepts[vote.concept]
        value = {first: 1.0, TIE: 0.5}.get(vote.preferred, 0.0)
        scores[place] += value
        counts[place] += 1
        ahead[vote.participant] += round(2 * value) - 1
    for_first, for_second = (sum(sign * count > 0 for count in ahead.values()) for sign in (1, -1))
    return Preference(
        first=first,
        second=second,
        wins=wins,
        losses=losses,
        ties=len(own) - wins - losses,
        decided=decided,
        share=crossed_bootstrap(scores, counts),
        p_votes=sign_test(wins, losses),
        p_participants=sign_test(for_first, for_second),
        participants=len(people),
        concepts=len(concepts),
    )


def _strengths(methods: Sequence[str], votes: Sequence[ResolvedVote]) -> dict[str, Interval]:
    """Bradley–Terry log strengths with bootstrap intervals over participants and concepts."""
    people, concepts = _units(votes)
    row = {method: number for number, method in enumerate(methods)}
    wins = np.zeros((len(people), len(concepts), len(methods), len(methods)))
    for vote in votes:
        a, b = row[vote.a], row[vote.b]
        value = {vote.a: 1.0, TIE: 0.5}.get(vote.preferred, 0.0)
        place = people[vote.participant], concepts[vote.concept]
        wins[(*place, a, b)] += value
        wins[(*place, b, a)] += 1 - value
    size = len(methods)
    added = ADDED_TIES / 2 * (1 - np.eye(size))
    strengths = bradley_terry(wins.sum((0, 1)) + added)
    resampled = crossed_sums(wins.reshape(len(people), len(concepts), size * size)).reshape(-1, size, size)
    low, high = np.percentile(bradley_terry(resampled + added), (2.5, 97.5), axis=0)
    return {m: Interval(float(strengths[i]), float(low[i]), float(high[i])) for m, i in row.items()}


def _units(votes: Sequence[ResolvedVote]) -> tuple[dict[int, int], dict[str, int]]:
    """Rows of participants and columns of concepts."""
    people = sorted({vote.participant for vote in votes})
    concepts = sorted({vote.concept for vote in votes})
    return {one: i for i, one in enumerate(people)}, {one: i for i, one in enumerate(concepts)}
