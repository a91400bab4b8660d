"""The statistics of a study: pure functions of counts and votes, each with its source."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from promptplus.evaluation.metrics import RESAMPLES, Interval

ALPHA = 0.05  # the error of the first kind that tests allow
TOLERANCE = 1e-7  # of Bradley–Terry's strengths between two iterations
ITERATIONS = 10_000


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided sign test: how likely so uneven a split is where both outcomes are equally likely.

    Ties are left out before (Dixon and Mood, 1946). Without wins and losses it is 1.
    """
    count, fewer = wins + losses, min(wins, losses)
    tail = sum(itertools.islice(_binomials(count), fewer + 1))
    return min(1.0, 2 * tail / 2**count)


def smallest_decisive(count: int) -> int:
    """The least number of wins of ``count`` votes at which the sign test decides; more than ``count``: none does."""
    tails = itertools.accumulate(_binomials(count))
    return count - next(k for k, tail in enumerate(tails) if 2 * tail / 2**count > ALPHA) + 1


def sign_test_power(count: int, share: float) -> float:
    """How likely ``count`` independent votes decide for the method that a share of people prefer."""
    logs = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(_log_choose(count, k) + k * logs[0] + (count - k) * logs[1])
        for k in range(smallest_decisive(count), count + 1)
    )


def votes_needed(share: float, power: float = 0.8) -> int:
    """The least number of independent votes from which on the sign test decides with this power.

    Power does not grow evenly with the number of votes, so the numbers above are checked too: up to a tenth more.
    """
    count = lacking = 1
    while count <= lacking * 1.1 + 10:
        if sign_test_power(count, share) < power:
            lacking = count
        count += 1
    return lacking + 1


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Krippendorff's alpha for nominal values: 1 is full agreement, 0 is that of chance.

    Args:
        units: the values that each unit got; units with fewer than two say nothing and are left out.

    Returns None where no unit has two values, or all values are equal, so that agreement cannot be told from chance.
    Source: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C.
    """
    paired = [unit for unit in units if len(unit) > 1]
    totals: dict[str, int] = {}
    for unit in paired:
        for value in unit:
            totals[value] = totals.get(value, 0) + 1
    count = sum(totals.values())
    expected = count**2 - sum(n**2 for n in totals.values())
    if not expected:
        return None
    observed = sum((len(u) ** 2 - sum(u.count(v) ** 2 for v in set(u))) / (len(u) - 1) for u in paired)
    return 1 - (count - 1) * observed / expected


def bradley_terry(wins: Float[np.ndarray, "*studies methods methods"]) -> Float[np.ndarray, "*studies methods"]:
    """The log strengths of methods, with mean 0; method i beats j with probability ``1 / (1 + exp(s[j] - s[i]))``.

    Args:
        wins: how often the method of the row was preferred to that of the column; a tie is half a win for both. Every
            method must be connected with every other by wins and by losses (Hunter, assumption 1); otherwise the
            strengths grow without end, and are those after ``ITERATIONS`` steps.

    Source: the MM algorithm of Hunter (2004), MM algorithms for generalized Bradley–Terry models, equation 3.
    """
    played, won = wins + np.swapaxes(wins, -1, -2), wins.sum(-1)
    strengths = np.ones(won.shape)
    for _ in range(ITERATIONS):
        shares = played / (strengths[..., :, None] + strengths[..., None, :])
        new = won / shares.sum(-1)
        new /= np.exp(np.log(new).mean(-1, keepdims=True))
        done = np.abs(np.log(new / strengths)).max() < TOLERANCE
        strengths = new
        if done:
            break
    return np.log(strengths)


def resampling_weights(count: int, seed: int, resamples: int = RESAMPLES) -> Int[np.ndarray, "resamples count"]:
    """How often each of ``count`` units is in each bootstrap resample."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1 / count), size=resamples)


def crossed_bootstrap(
    scores: Float[np.ndarray, "participants concepts"],
    counts: Float[np.ndarray, "participants concepts"],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """A mean over votes, with its 95 % bootstrap interval over participants and concepts.

    Participants and concepts are drawn independently of each other, each with replacement; a vote counts as often as
    its participant times its concept. The interval is rather too wide than too narrow (Owen, 2007, The pigeonhole
    bootstrap).

    Args:
        scores: the sum of the votes' values of each participant on each concept.
        counts: the number of these votes.
        seed, resamples: of the resampling.
    """
    sums, numbers = (crossed_sums(values[..., None], seed, resamples)[:, 0] for values in (scores, counts))
    means = sums[numbers > 0] / numbers[numbers > 0]
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(scores.sum() / counts.sum()), float(low), float(high))


def crossed_sums(
    values: Float[np.ndarray, "participants concepts values"], seed: int = 0, resamples: int = RESAMPLES
) -> Float[np.ndarray, "resamples values"]:
    """The sums over participants and concepts in each resample of ``crossed_bootstrap``."""
    people = resampling_weights(values.shape[0], seed, resamples).astype(float)
    concepts = resampling_weights(values.shape[1], seed + 1, resamples).astype(float)
    return np.einsum("rp,pcv,rc->rv", people, values, concepts, optimize=True)


def _binomials(count: int) -> Iterator[int]:
    """The binomial coefficients of ``count``, from the first; one from the other, as each alone would take long."""
    value = 1
    for k in range(count + 1):
        yield value
        value = value * (count - k) // (k + 1)


def _log_choose(count: int, k: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
