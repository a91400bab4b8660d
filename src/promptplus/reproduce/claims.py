"""The paper's claims, each beside what was measured and whether it holds: pure functions from studies to claims."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from promptplus.evaluation.comparison import compare
from promptplus.evaluation.grid import GridResult
from promptplus.evaluation.metrics import MIN_UNITS, Interval, mean_interval
from promptplus.experiments.study import Study
from promptplus.experiments.takeover_curves import PAPER, crossing
from promptplus.report.tables import Table
from promptplus.reproduce.comparisons import Comparison

Verdict = Literal["yes", "no", "undecided", "not measured"]


@dataclass(frozen=True)
class Claim:
    """One row of the report.

    Attributes:
        says: the claim.
        paper: what the paper says about it, in numbers where there are any.
        measured: our number with its 95 % interval, or what would be needed to measure it.
        holds: ``undecided`` where the interval includes the opposite.
    """

    says: str
    paper: str
    measured: str
    holds: Verdict


def table(claims: Sequence[Claim]) -> Table:
    """The claims as a table with the columns claim, paper, measured, holds."""
    names = {"says": "claim", "paper": "paper", "measured": "measured [95 %]", "holds": "holds?"}
    return {title: [getattr(claim, name) for claim in claims] for name, title in names.items()}


def verdict(*differences: Interval, units: int) -> Verdict:
    """Whether all differences are above zero.

    ``yes`` if all intervals are above zero, ``no`` if one is below zero, else ``undecided``. With fewer ``units`` than
    ``MIN_UNITS`` to resample, a bootstrap interval tells no more than their signs, and nothing is decided.
    """
    if units < MIN_UNITS:
        return "undecided"
    if any(difference.high < 0 for difference in differences):
        return "no"
    return "yes" if all(difference.low > 0 for difference in differences) else "undecided"


def not_measured(says: str, paper: str, needs: str) -> Claim:
    """A claim that this run did not measure; ``needs``: what would be needed."""
    return Claim(says, paper, f"not measured: needs {needs}", "not measured")


def layers(study: Study) -> list[Claim]:
    """Object before style before colour; and whether layers separate them better than denoising steps do."""
    claims, pairs, judges = [], study.values["pairs"], study.values["by_judge"]
    for early, late in (("object", "style"), ("style", "colour"), ("object", "colour")):
        says = f"Coarse to fine, layers decide the {early} before the {late}"
        later = crossing(np.array(PAPER[late])) - crossing(np.array(PAPER[early]))
        by_judge = {
            judge: interval for judge, own in judges.items() if (interval := _later(own, "halfway", early, late))
        }
        if by_judge:
            first, *others = by_judge.values()
            measured = f"{_short(first)} subsets later; {pairs} pairs" + _other_judges(list(by_judge)[1:], others)
            claims.append(Claim(says, f"{later:.1f} subsets later", measured, verdict(first, units=pairs)))
    return [*claims, _layers_or_steps(study, pairs), *_split(study)]


def _later(values: Mapping[str, Any], table: str, early: str, late: str) -> Interval | None:
    """How much later one attribute is halfway than another, in one judge's table; None where it was not measured."""
    numbers = values.get(table, {}).get(f"{early} < {late}")
    return Interval(*numbers) if numbers else None


def _other_judges(names: Sequence[str], intervals: Sequence[Interval]) -> str:
    """What the judges measured who do not decide."""
    return "".join(f"; judge {name}: {_short(one)}" for name, one in zip(names, intervals, strict=True))


def _split(study: Study) -> list[Claim]:
    """Whether more than half of the pictures show both what the layers' two prompts name; the first judge decides."""
    judges = {judge: own["split"] for judge, own in study.values["by_judge"].items() if "split" in own}
    if not judges:
        return []
    says = "Most pictures show the object of the coarse layers' prompt in the colour of the other layers' prompt"
    both = {judge: Interval(*own["both"]) for judge, own in judges.items()}
    (name, first), *_ = both.items()
    above = Interval(first.value - 0.5, first.low - 0.5, first.high - 0.5)
    pictures = judges[name]["pictures"]
    measured = f"share {_short(first)}; {pictures} pictures" + _other_judges(list(both)[1:], list(both.values())[1:])
    return [Claim(says, "shown in a figure", measured, verdict(above, units=pictures // study.values["seeds"]))]


def _layers_or_steps(study: Study, pairs: int) -> Claim:
    """Whether object and colour are farther apart by layers than by steps; the first judge decides."""
    says = "Layers separate object and colour better than denoising steps do (a question of the paper's reviewers)"
    own = next(iter(study.values["by_judge"].values()))
    by_layers, by_steps = (_later(own, table, "object", "colour") for table in ("halfway", "halfway_by_steps"))
    if by_layers is None or by_steps is None:
        return not_measured(says, "not known", "--full")
    near, far = sorted(map(abs, (by_steps.low, by_steps.high)))
    near = 0.0 if by_steps.low < 0 < by_steps.high else near
    better = Interval(by_layers.value - abs(by_steps.value), by_layers.low - far, by_layers.high - near)
    measured = f"distance: {_short(by_layers)} of 7 subsets, {_short(by_steps)} of 7 parts of the steps; {pairs} pairs"
    return Claim(says, "not known", measured, verdict(better, units=pairs))


ATTENTION = {
    "object": ("the object's word", "yes (figure)"),
    "after the object": ("the token after the object's word", "not in the paper"),
}


def attention(study: Study) -> list[Claim]:
    """Coarse layers look at the object's word, or at the next token, more than fine layers do."""
    prompts, claims = len(study.values["prompts"]), []
    for kind, (words, paper) in ATTENTION.items():
        difference = Interval(*study.values["coarse_less_fine"][kind])
        measured = f"share of the words' attention {_short(difference)} larger; {prompts} prompts"
        says = f"Coarse layers look at {words} more than fine layers do"
        claims.append(Claim(says, paper, measured, verdict(difference, units=prompts)))
    return claims


def better(comparison: Comparison, results: Sequence[GridResult]) -> Claim:
    """Whether a method beats a baseline in both similarities; paired by concept."""
    method, baseline = comparison.method, comparison.baseline
    over = f"{baseline[0]} at {baseline[1]}"
    rows = {(row.method, row.steps): row for row in compare(results, baseline)}
    row = rows.get(method)
    if row is None or row.subject_gain is None or row.text_gain is None:
        needs = f"{method[0]} at {method[1]} steps and {over}; see --full"
        return not_measured(comparison.says, comparison.paper, needs)
    gains = f"subject {_short(row.subject_gain, '+.3f')}, text {_short(row.text_gain, '+.3f')}"
    measured = f"{method[0]} at {method[1]} over {over}: {gains}; {row.paired} concepts"
    holds = verdict(row.subject_gain, row.text_gain, units=row.paired)
    return Claim(comparison.says, comparison.paper, measured, holds)


def density(study: Study) -> list[Claim]:
    """Learned rows lie where words are rare, XTI's less so than TI's. The unit is a concept: the mean of its rows."""
    groups, words = study.values["by_concept"], float(np.mean(study.values["log_density"]["words"]))
    ti, xti = groups.get("TI rows", {}), groups.get("XTI rows", {})
    lower, less = "Learned rows lie at lower density than words", "XTI's rows lie at higher density than TI's"
    both = [token for token in xti if token in ti]
    if not both:
        return [not_measured(says, "yes (figure)", "rows of XTI and of TI") for says in (lower, less)]
    below = {
        name: mean_interval([words - group[token] for token in both]) for name, group in (("TI", ti), ("XTI", xti))
    }
    higher = mean_interval([xti[token] - ti[token] for token in both])
    numbers = ", ".join(f"{name} {_short(interval, '.1f')}" for name, interval in below.items())
    count, units = f"{len(both)} concepts", len(both)
    return [
        Claim(
            lower, "yes (figure)", f"log density lower by: {numbers}; {count}", verdict(*below.values(), units=units)
        ),
        Claim(less, "yes (figure)", f"{_short(higher, '.1f')} higher; {count}", verdict(higher, units=units)),
    ]


MIX = "A mix has one concept's shape and another's appearance"
REGULARISED = "The density regulariser makes more mixes succeed"
REGULARISER_HELPS = "yes (the density term helps)"
MIXING = {
    "regularised": ("“{}” succeeds more often than “{}”", REGULARISER_HELPS),
    "rival": ("“{1}” succeeds more often than “{0}”", "shown in figures"),
    "words": ("“{1}” succeeds more often than “{0}” for the nearest named shape and colours", "not in the paper"),
}
"""By role: the claim about (the other method, mixes of plain XTI), and what the paper says."""


def mixing(study: Study) -> list[Claim]:
    """Whether mixes of XTI, with and without the regulariser, succeed more often than other methods."""
    success: dict[str, list[float]] = study.values["success"]
    roles: dict[str, str] = study.values["roles"]
    (ours,) = (method for method, role in roles.items() if role == "ours")
    claims = []
    for method, role in roles.items():
        if role == "ours":
            continue
        says, paper = MIXING[role]
        first, second = (method, ours) if role == "regularised" else (ours, method)
        gain = mean_interval([a - b for a, b in zip(success[first], success[second], strict=True)])
        shares = f"{np.mean(success[first]):.0%} against {np.mean(success[second]):.0%}"
        measured = f"{shares}: {_short(gain, '+.2f')}; {len(success[ours])} pairs"
        claims.append(Claim(says.format(method, ours), paper, measured, verdict(gain, units=len(success[ours]))))
    return claims


TWO_CONCEPTS = "Pictures of two concepts in one prompt are more similar to both with {} than with {}"


def two_concepts(study: Study, ours: str, rival: str) -> Claim:
    """Whether pictures of two concepts are more similar to both of them with one method than with another."""
    scores = study.values["by_method"]
    gain = mean_interval([a["together"] - b["together"] for a, b in zip(scores[ours], scores[rival], strict=True)])
    shares = [f"{np.mean([one['both'] for one in scores[method]]):.0%}" for method in (ours, rival)]
    pairs = len(scores[ours])
    measured = f"similarity {_short(gain, '+.3f')}; both are seen in {shares[0]} against {shares[1]}; {pairs} pairs"
    return Claim(TWO_CONCEPTS.format(ours, rival), "not in the paper", measured, verdict(gain, units=pairs))


PEOPLE = "People prefer {}'s pictures"


def people(study: Study | None, ours: str, rival: str) -> Claim:
    """Whether people prefer one method's pictures to another's, in all questions of a user study.

    A method of the study is meant where its name has the word, as ``paper-xti@500`` has XTI. The unit is a participant
    or a concept, whichever are fewer. A study that is not finished decides nothing.
    """
    says, paper = PEOPLE.format(ours), "yes"
    if study is None:
        return not_measured(says, paper, "people (promptplus study; then --people with its report)")
    finished, wanted = study.values["finished"], study.values["rules"]["participants"]
    if finished < wanted:
        return not_measured(says, paper, f"people: {finished} of {wanted} participants have finished")
    shares: list[Interval] = []
    said: list[str] = []
    units: list[int] = []
    for question, result in study.values["questions"].items():
        for one in result["preferences"]:
            value = Interval(**one["share"])
            names = [one["first"], one["second"]]
            if _is(names[1], ours) and _is(names[0], rival):
                names, value = names[::-1], Interval(1 - value.value, 1 - value.high, 1 - value.low)
            if _is(names[0], ours) and _is(names[1], rival):
                shares.append(Interval(value.value - 0.5, value.low - 0.5, value.high - 0.5))
                said.append(f"{question} ({names[0]} over {names[1]}) {_short(value)}")
                units.append(min(one["participants"], one["concepts"]))
    if not shares:
        methods = ", ".join(study.values["methods"])
        return not_measured(says, paper, f"people who compare {ours} with {rival}: the study compares {methods}")
    counted = f"{study.values['counted']} participants, {study.values['left_out']} left out"
    return Claim(says, paper, f"share of votes: {', '.join(said)}; {counted}", verdict(*shares, units=min(units)))


def _is(name: str, method: str) -> bool:
    """Whether a method of a study is one of the claims: its name has the word."""
    return method.lower() in re.split(r"[^a-z0-9]+", name.lower())


def _short(interval: Interval, form: str = ".2f") -> str:
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


EDITING = "Editing by layers keeps more of the rest than a new prompt for all layers, at equal success"
REST = {"colour": "rest", "texture": "rest", "style": "structure"}
"""What measures the rest of a picture, by edited attribute; a style changes every pixel, so its structure counts."""


def editing(study: Study) -> Claim:
    """Whether edits by layers change less of the rest than every whole-prompt method, in all attributes of REST."""
    found: list[Interval] = []
    said: list[str] = []
    units: list[int] = []
    for attribute, measure in REST.items():
        by_rival = study.values["differences"][attribute]
        measured = {rival: values[measure] for rival, values in by_rival.items() if values[measure]}
        if not measured:
            return not_measured(EDITING, "not in the paper", "more cases that both methods edit with success")
        less = {r: Interval(-one["value"], -one["high"], -one["low"]) for r, one in measured.items()}
        worst = min(less, key=lambda rival: less[rival].low)
        found += less.values()
        units += [one["cases"] for one in measured.values()]
        said.append(f"{attribute}: {_short(less[worst], '+.3f')} less than {worst}")
    return Claim(EDITING, "not in the paper", "; ".join(said), verdict(*found, units=min(units)))


ONE_ATTRIBUTE = (
    "A concept learned in one attribute's layers, with the rest described, brings it alone more often than {}"
)


def single_attribute(study: Study) -> list[Claim]:
    """Whether more pictures have the attribute and nothing else of the thing than with other ways to learn it."""
    things = len(study.values["things"])
    claims: list[Claim] = []
    for rival, by_attribute in study.values["differences"].items():
        gain = Interval(**by_attribute["all four"])
        measured = f"share {_short(gain, '+.2f')} larger; {things} things, four attributes each"
        claims.append(
            Claim(ONE_ATTRIBUTE.format(f"“{rival}”"), "not in the paper", measured, verdict(gain, units=things))
        )
    return claims
