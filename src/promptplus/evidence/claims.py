"""The paper's claims, each beside what was measured and whether it holds. Pure functions from studies to rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from promptplus.analysis.curves import crossing
from promptplus.evaluation.comparison import compare
from promptplus.evaluation.matrix import Result
from promptplus.evaluation.metrics import RESAMPLES, Interval
from promptplus.evidence.attributes import PAPER
from promptplus.evidence.study import Study, Table

Verdict = Literal["yes", "no", "undecided", "not measured"]


@dataclass(frozen=True)
class Claim:
    """One row of the report.

    Attributes:
        paper: what the paper says, in numbers where there are any.
        measured: ours with its 95 % interval, or what it would need.
        holds: ``undecided`` where the interval includes the opposite.
    """

    says: str
    paper: str
    measured: str
    holds: Verdict


def table(claims: Sequence[Claim]) -> Table:
    """Columns: claim, paper, measured, holds?"""
    names = {"says": "claim", "paper": "paper", "measured": "measured [95 %]", "holds": "holds?"}
    return {title: [getattr(claim, name) for claim in claims] for name, title in names.items()}


def verdict(*differences: Interval) -> Verdict:
    """Whether all differences are above zero, as far as their intervals tell."""
    if any(found.high < 0 for found in differences):
        return "no"
    return "yes" if all(found.low > 0 for found in differences) else "undecided"


def not_measured(says: str, paper: str, needs: str) -> Claim:
    """A row that this run could not fill."""
    return Claim(says, paper, f"not measured: needs {needs}", "not measured")


def layers(study: Study) -> list[Claim]:
    """Object before style before colour; and whether denoising steps tell them apart as well as layers do."""
    claims = []
    for early, late in (("object", "style"), ("style", "colour"), ("object", "colour")):
        says = f"Coarse to fine, layers decide the {early} before the {late}"
        later = crossing(np.array(PAPER[late])) - crossing(np.array(PAPER[early]))
        found = _interval(study.values["halfway"].get(f"{early} < {late}"))
        if found:
            measured = f"{_short(found)} subsets later"
            claims.append(Claim(says, f"{later:.1f} subsets later", measured, verdict(found)))
    says = "Layers tell object from colour, denoising steps do not (asked by its reviewers)"
    by_layers = _interval(study.values["halfway"].get("object < colour"))
    by_steps = _interval(study.values.get("halfway_by_steps", {}).get("object < colour"))
    if by_layers and by_steps:
        apart = Interval(by_layers.value - by_steps.value, by_layers.low - by_steps.high, by_layers.high - by_steps.low)
        measured = f"by layers {_short(by_layers)} subsets apart, by steps {_short(by_steps)}"
        return [*claims, Claim(says, "not known", measured, verdict(apart))]
    return [*claims, not_measured(says, "not known", "--full")]


def attention(study: Study) -> list[Claim]:
    """Coarse layers look at the object's word more than fine ones do."""
    found = _interval(study.values["object_coarse_less_fine"])
    assert found is not None
    says = "Coarse layers look at the object's word more than fine layers do"
    return [Claim(says, "yes (figure)", f"share of the words' attention {_short(found)} larger", verdict(found))]


At = tuple[str, int]
"""A method's name and its steps."""


def better(says: str, paper: str, method: At, baseline: At, results: Sequence[Result]) -> Claim:
    """One method beats another in both similarities, which are never shown apart; paired by concept."""
    over = f"{baseline[0]} at {baseline[1]}"
    rows = {(row.method, row.steps): row for row in compare(results, baseline)}
    row = rows.get(method)
    if row is None or row.subject_gain is None or row.text_gain is None:
        return not_measured(says, paper, f"{method[0]} at {method[1]} steps and {over}; see --full")
    gains = f"subject {_short(row.subject_gain, '+.3f')}, text {_short(row.text_gain, '+.3f')}"
    measured = f"{method[0]} at {method[1]} over {over}: {gains}; {row.concepts} concepts"
    return Claim(says, paper, measured, verdict(row.subject_gain, row.text_gain))


def density(study: Study) -> list[Claim]:
    """Learned rows lie where words are sparse; XTI's less so than TI's."""
    found = study.values["log_density"]
    words, ti, xti = (found.get(name) for name in ("words", "TI rows", "XTI rows"))
    learned = "Learned rows lie at lower density than words"
    less = "XTI's rows lie at higher density than TI's"
    if not (ti and xti):
        return [
            not_measured(learned, "yes (figure)", "rows of both"),
            not_measured(less, "yes (figure)", "rows of both"),
        ]
    lower, higher = _difference(words, [*ti, *xti]), _difference(xti, ti)
    return [
        Claim(learned, "yes (figure)", f"mean log density {_short(lower)} lower", verdict(lower)),
        Claim(less, "yes (figure)", f"mean log density {_short(higher)} higher", verdict(higher)),
    ]


def mixing(study: Study) -> list[Claim]:
    """A mix has one concept's shape and the other's looks; with the regulariser more often."""
    success: dict[str, list[float]] = study.values["success"]
    ours, *others = success
    claims = []
    for rival in others:
        better_than = _difference(success[ours], success[rival], paired=True)
        says = f"“{ours}” gives the shape of one in the looks of the other more often than “{rival}”"
        means = f"{np.mean(success[ours]):.0%} against {np.mean(success[rival]):.0%}, {_short(better_than, '+.2f')}"
        claims.append(Claim(says, "shown in figures", means, verdict(better_than)))
    return claims


def _difference(first: Sequence[float], second: Sequence[float], paired: bool = False) -> Interval:
    """Mean of the first less that of the second, with a bootstrap interval."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    rng = np.random.default_rng(0)
    if paired:
        a, b = a - b, np.zeros(1)
    drawn = [rng.choice(a, len(a)).mean() - rng.choice(b, len(b)).mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(float(a.mean() - b.mean()), float(low), float(high))


def _interval(numbers: Any) -> Interval | None:
    return Interval(*numbers) if numbers else None


def _short(found: Interval, form: str = ".2f") -> str:
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"
