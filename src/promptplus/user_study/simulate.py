"""Simulated voters with known preferences: they test the statistics, and say what a study can decide."""

import math
from collections.abc import Mapping

import numpy as np

from promptplus.user_study.design import StudyDesign, StudyKey, draw_order
from promptplus.user_study.statistics import crossed_sums, smallest_decisive
from promptplus.user_study.votes import Vote

SPREAD = 0.5  # standard deviation of a participant's and of a concept's own preference, in logits: with 60 : 40 on the
# whole, two of three lie between 48 : 52 and 71 : 29 (our choice)
STUDIES = 200  # simulated studies for a power (our choice: its standard error is .03)
STUDY_RESAMPLES = 400  # of the bootstrap in each of them (our choice)


def simulated_votes(
    design: StudyDesign,
    key: StudyKey,
    strengths: Mapping[str, float],
    *,
    ties: float = 0.0,
    careless: int = 0,
    spread: float = 0.0,
    seed: int = 0,
) -> list[Vote]:
    """The votes of as many participants as a study wants.

    Args:
        design, key: the study.
        strengths: log strength of each method, as in Bradley–Terry.
        ties: the share of votes that are ties.
        careless: so many of the participants answer A, B or a tie by chance, also in catch trials.
        spread: standard deviation of a participant's and of a concept's own preference, in logits.
        seed: of all draws.
    """
    generator = np.random.default_rng(seed)
    ordinary = [pair.id for pair in design.pairs if not pair.everyone]
    trials = [pair.id for pair in design.pairs if pair.everyone]
    by_id = {pair.id: pair for pair in design.pairs}
    concepts = sorted({one.concept for one in key.pairs.values()})
    of_concept = {(c, m): generator.normal(0, spread) for c in concepts for m in key.methods}
    votes: list[Vote] = []
    for number in range(1, design.rules.participants + 1):
        of_person = {method: generator.normal(0, spread) for method in key.methods}
        begin = (number - 1) * design.rules.pairs_each
        mine = [ordinary[(begin + i) % len(ordinary)] for i in range(design.rules.pairs_each)]
        for pair in draw_order(design, str(number), [*mine, *trials]):
            one = key.pairs[pair]
            for question in by_id[pair].questions:
                if number <= careless:
                    answer = str(generator.choice(["A", "B", "tie"]))
                elif one.right:
                    answer = one.right
                elif generator.random() < ties:
                    answer = "tie"
                else:
                    a, b = (strengths[m] + of_person[m] + of_concept[one.concept, m] for m in (one.a, one.b))
                    answer = "A" if generator.random() < 1 / (1 + math.exp(b - a)) else "B"
                votes.append(Vote(number, pair, question, answer))  # pyright: ignore[reportArgumentType]
    return votes


def simulated_power(
    share: float, participants: int, concepts: int, per_concept: int, spread: float, seed: int = 0
) -> tuple[float, float]:
    """How often a study of two methods decides for the one that a share of people prefer.

    Args:
        share: on the whole.
        participants, concepts: how many there are; every participant votes ``per_concept`` times on each concept.
        spread: standard deviation of a participant's and of a concept's own preference, in logits.

    Returns:
        The power of the sign test over votes, and of the bootstrap interval over participants and concepts.
    """
    generator = np.random.default_rng(seed)
    middle = math.log(share / (1 - share))
    people = generator.normal(0, spread, (participants, 1, STUDIES))
    things = generator.normal(0, spread, (1, concepts, STUDIES))
    wins = generator.binomial(per_concept, 1 / (1 + np.exp(-(middle + people + things)))).astype(float)
    count = participants * concepts * per_concept
    low = np.percentile(crossed_sums(wins, seed, STUDY_RESAMPLES) / count, 2.5, axis=0)  # as crossed_bootstrap does
    by_votes = wins.sum((0, 1)) >= smallest_decisive(count)
    return float(by_votes.mean()), float((low > 0.5).mean())
