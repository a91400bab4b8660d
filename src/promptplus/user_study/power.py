"""What a study can decide, said before the first vote."""

from dataclasses import dataclass

from promptplus.evaluation.metrics import MIN_UNITS
from promptplus.user_study.design import StudyDesign, StudyKey
from promptplus.user_study.simulate import SPREAD, simulated_power
from promptplus.user_study.statistics import ALPHA, sign_test_power, votes_needed

PREFERENCE = 0.6  # the preference that a study should be able to decide
WANTED = 0.8  # the usual power (Cohen, 1988)
TRIED = (10, 20, 40, 80, 160, 320)  # participants


@dataclass(frozen=True)
class Power:
    """The power of a study to decide a preference of 60 : 40 between two methods, for one question, without ties.

    Attributes:
        needed: independent votes with which the sign test decides with a power of .8.
        pairs: of the two methods that each participant compares.
        votes: that the study collects.
        concepts: that these are about.
        independent: the power if all votes are independent.
        clustered: the power of the interval over participants and concepts, if these differ by ``SPREAD``.
        participants: how many give ``clustered`` a power of .8; None: more than were tried, or more concepts.
    """

    needed: int
    pairs: float
    votes: int
    concepts: int
    independent: float
    clustered: float
    participants: int | None

    def __str__(self) -> str:
        percent = f"{PREFERENCE:.0%} : {1 - PREFERENCE:.0%}".replace("%", "")
        people = -(-self.needed // max(1, round(self.pairs)))
        enough = f"{self.participants} participants" if self.participants else "more concepts"
        if self.concepts < MIN_UNITS:
            clustered = (
                f"with fewer than {MIN_UNITS} concepts ({self.concepts}), the interval over both decides nothing"
            )
        else:
            clustered = (
                f"if people and concepts differ (standard deviation {SPREAD} in logits), the interval over both "
                f"decides in {self.clustered:.0%} of simulated studies of this size; {enough} would reach {WANTED:.0%}"
            )
        return (
            f"power: {self.needed} independent votes decide a {percent} preference between two methods: {people} "
            f"participants × {self.pairs:g} pairs (exact sign test, {ALPHA:.0%}, power {WANTED:.0%}, no ties). "
            f"This study collects {self.votes}: power {self.independent:.0%}.\n"
            f"Votes of one person, or on one concept, are not independent: {clustered}."
        )


def power_of(design: StudyDesign, key: StudyKey) -> Power:
    """The power of a study, from its numbers of participants, pairs, concepts and methods."""
    methods = len(key.methods)
    concepts = len({one.concept for one in key.pairs.values() if one.right is None})
    pairs = design.rules.pairs_each / (methods * (methods - 1) // 2)
    votes = round(design.rules.participants * pairs)
    per_concept = max(1, round(pairs / concepts))

    def clustered(participants: int) -> float:
        if min(participants, concepts) < MIN_UNITS:  # an interval over so few decides nothing
            return 0.0
        return simulated_power(PREFERENCE, participants, concepts, per_concept, SPREAD)[1]

    enough = next((people for people in TRIED if clustered(people) >= WANTED), None)
    independent = sign_test_power(votes, PREFERENCE)
    return Power(
        votes_needed(PREFERENCE, WANTED),
        pairs,
        votes,
        concepts,
        independent,
        clustered(design.rules.participants),
        enough,
    )
