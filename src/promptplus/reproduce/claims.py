"""The paper's claims, each beside what was measured and whether it holds. Pure functions from studies to rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from promptplus.evaluation.comparison import compare
from promptplus.evaluation.grid import GridResult
from promptplus.evaluation.metrics import Interval, mean_interval
from promptplus.experiments.study import Study
from promptplus.experiments.takeover_curves import PAPER, crossing
from promptplus.report.tables import Table

LEAST = 6  # units that an interval may decide by: six of one sign come by chance once in 32 (two-sided)
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


def verdict(*differences: Interval, units: int) -> Verdict:
    """Whether all differences are above zero, as far as their intervals tell; ``units``: what they are resampled over.

    A bootstrap of few units says what their signs say: below ``LEAST`` nothing is decided.
    """
    if units < LEAST:
        return "undecided"
    if any(found.high < 0 for found in differences):
        return "no"
    return "yes" if all(found.low > 0 for found in differences) else "undecided"


def not_measured(says: str, paper: str, needs: str) -> Claim:
    """A row that this run could not fill."""
    return Claim(says, paper, f"not measured: needs {needs}", "not measured")


def layers(study: Study) -> list[Claim]:
    """Object before style before colour; and whether denoising steps tell them apart as well as layers do."""
    claims, pairs, judges = [], study.values["pairs"], study.values["by_judge"]
    for early, late in (("object", "style"), ("style", "colour"), ("object", "colour")):
        says = f"Coarse to fine, layers decide the {early} before the {late}"
        later = crossing(np.array(PAPER[late])) - crossing(np.array(PAPER[early]))
        said = {judge: found for judge, own in judges.items() if (found := _found(own, "halfway", early, late))}
        if said:
            first, *others = said.values()
            measured = f"{_short(first)} subsets later; {pairs} pairs" + _others(list(said)[1:], others)
            claims.append(Claim(says, f"{later:.1f} subsets later", measured, verdict(first, units=pairs)))
    return [*claims, _layers_or_steps(study, pairs), *_split(study)]


def _found(own: Mapping[str, Any], way: str, early: str, late: str) -> Interval | None:
    return _interval(own.get(way, {}).get(f"{early} < {late}"))


def _others(names: Sequence[str], found: Sequence[Interval]) -> str:
    """What the judges say who do not decide."""
    return "".join(f"; judge {name}: {_short(one)}" for name, one in zip(names, found, strict=True))


def _split(study: Study) -> list[Claim]:
    """Whether more than half of the pictures have both what their layers were asked; by the first judge."""
    judges = {judge: own["split"] for judge, own in study.values["by_judge"].items() if "split" in own}
    if not judges:
        return []
    says = "Most pictures have the object of the coarse layers' prompt in the colour of the others' prompt"
    both = {judge: Interval(*own["both"]) for judge, own in judges.items()}
    (name, first), *_ = both.items()
    above = Interval(first.value - 0.5, first.low - 0.5, first.high - 0.5)
    pictures = judges[name]["pictures"]
    measured = f"share {_short(first)}; {pictures} pictures" + _others(list(both)[1:], list(both.values())[1:])
    return [Claim(says, "shown in a figure", measured, verdict(above, units=pictures // study.values["seeds"]))]


def _layers_or_steps(study: Study, pairs: int) -> Claim:
    says = "Layers tell object from colour better than denoising steps do (asked by the reviewers)"
    own = next(iter(study.values["by_judge"].values()))
    by_layers, by_steps = (_found(own, way, "object", "colour") for way in ("halfway", "halfway_by_steps"))
    if by_layers is None or by_steps is None:
        return not_measured(says, "not known", "--full")
    near, far = sorted(map(abs, (by_steps.low, by_steps.high)))
    near = 0.0 if by_steps.low < 0 < by_steps.high else near
    better = Interval(by_layers.value - abs(by_steps.value), by_layers.low - far, by_layers.high - near)
    measured = f"apart by {_short(by_layers)} of 7 subsets, by {_short(by_steps)} of 7 parts of the steps"
    return Claim(says, "not known", f"{measured}; {pairs} pairs", verdict(better, units=pairs))


LOOKS = {
    "object": ("the object's word", "yes (figure)"),
    "after the object": ("the token after it", "not in the paper"),
}


def attention(study: Study) -> list[Claim]:
    """Coarse layers look at the object's word, or at the token that follows it, more than fine ones do."""
    prompts, claims = len(study.values["prompts"]), []
    for kind, (words, paper) in LOOKS.items():
        found = Interval(*study.values["coarse_less_fine"][kind])
        measured = f"share of the words' attention {_short(found)} larger; {prompts} prompts"
        says = f"Coarse layers look at {words} more than fine layers do"
        claims.append(Claim(says, paper, measured, verdict(found, units=prompts)))
    return claims


At = tuple[str, int]
"""A method's name and its steps."""


def better(says: str, paper: str, method: At, baseline: At, results: Sequence[GridResult]) -> Claim:
    """One method beats another in both similarities, which are never shown apart; paired by concept."""
    over = f"{baseline[0]} at {baseline[1]}"
    rows = {(row.method, row.steps): row for row in compare(results, baseline)}
    row = rows.get(method)
    if row is None or row.subject_gain is None or row.text_gain is None:
        return not_measured(says, paper, f"{method[0]} at {method[1]} steps and {over}; see --full")
    gains = f"subject {_short(row.subject_gain, '+.3f')}, text {_short(row.text_gain, '+.3f')}"
    measured = f"{method[0]} at {method[1]} over {over}: {gains}; {row.paired} concepts"
    return Claim(says, paper, measured, verdict(row.subject_gain, row.text_gain, units=row.paired))


def density(study: Study) -> list[Claim]:
    """Learned rows lie where words are sparse; XTI's less so than TI's. A concept is one number: its rows' mean."""
    found, words = study.values["by_concept"], float(np.mean(study.values["log_density"]["words"]))
    ti, xti = found.get("TI rows", {}), found.get("XTI rows", {})
    lower, less = "Learned rows lie at lower density than words", "XTI's rows lie at higher density than TI's"
    both = [token for token in xti if token in ti]
    if not both:
        return [not_measured(says, "yes (figure)", "rows of XTI and of TI") for says in (lower, less)]
    below = {
        name: mean_interval([words - group[token] for token in both]) for name, group in (("TI", ti), ("XTI", xti))
    }
    higher = mean_interval([xti[token] - ti[token] for token in both])
    told = ", ".join(f"{name} {_short(interval, '.1f')}" for name, interval in below.items())
    count = f"{len(both)} concepts"
    return [
        Claim(
            lower, "yes (figure)", f"log density lower by: {told}; {count}", verdict(*below.values(), units=len(both))
        ),
        Claim(less, "yes (figure)", f"{_short(higher, '.1f')} higher; {count}", verdict(higher, units=len(both))),
    ]


HELPS = "yes (the density term helps)"
MIXING = {
    "regularised": ("“{}” succeeds more often than “{}”", HELPS),
    "rival": ("“{1}” succeeds more often than “{0}”", "shown in figures"),
    "words": ("“{1}” succeeds more often than “{0}” of the nearest named shape and colours", "not in the paper"),
}
"""By role: what is claimed of (the other, plain XTI), and what the paper says."""


def mixing(study: Study) -> list[Claim]:
    """Whether mixes of XTI, with and without the regulariser, have one's shape and the other's looks."""
    success: dict[str, list[float]] = study.values["success"]
    roles: dict[str, str] = study.values["roles"]
    (ours,) = (way for way, role in roles.items() if role == "ours")
    claims = []
    for way, role in roles.items():
        if role == "ours":
            continue
        says, paper = MIXING[role]
        first, second = (way, ours) if role == "regularised" else (ours, way)
        gain = mean_interval([a - b for a, b in zip(success[first], success[second], strict=True)])
        shares = f"{np.mean(success[first]):.0%} against {np.mean(success[second]):.0%}"
        measured = f"{shares}: {_short(gain, '+.2f')}; {len(success[ours])} pairs"
        claims.append(Claim(says.format(way, ours), paper, measured, verdict(gain, units=len(success[ours]))))
    return claims


def several(study: Study, ours: str, rival: str) -> list[Claim]:
    """Whether pictures of two concepts are more like both of them with one method than with the other."""
    found = study.values["by_method"]
    gain = mean_interval([a["together"] - b["together"] for a, b in zip(found[ours], found[rival], strict=True)])
    shares = [f"{np.mean([one['both'] for one in found[method]]):.0%}" for method in (ours, rival)]
    pairs = len(found[ours])
    measured = f"likeness {_short(gain, '+.3f')}; both are seen in {shares[0]} against {shares[1]}; {pairs} pairs"
    says = f"Two concepts in one prompt are more like themselves with {ours} than with {rival}"
    return [Claim(says, "not in the paper", measured, verdict(gain, units=pairs))]


def _interval(numbers: Any) -> Interval | None:
    return Interval(*numbers) if numbers else None


def _short(found: Interval, form: str = ".2f") -> str:
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"
