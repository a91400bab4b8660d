"""The study of editing: do texts by layers keep more of a picture than a new prompt for the whole network?

Every method is tried from gentle to strong. Of each case and method, the *gentlest success* counts: the edit with the
largest share of steps left out in which the judge sees the target. So methods are compared at equal success.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from PIL import Image

from promptplus.evaluation.metrics import mean_interval, share
from promptplus.experiments.edit_cases import EditCase, EditJudge, EditScores, edit_cases
from promptplus.experiments.edit_methods import BY_LAYERS, LAYERS, MISMATCHED, RIVALS, SKIPS, STEPS, edited
from promptplus.experiments.study import Study
from promptplus.pplus import PPlus
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

TITLE = "Editing a picture by layers"
LEAD = (
    "Drawn pictures are edited in one attribute, and the true result is known. Every method is tried from gentle to "
    "strong; the gentlest edit in which the attribute judge sees the target counts. Intervals: 95 %."
)
MEASURES = {
    "truth": "error to the true result",
    "rest": "error where nothing should change",
    "structure": "DINO structure distance",
    "kept": "other attributes kept",
    "direction": "CLIP direction",
}
BETTER_IF_LESS = ("truth", "rest", "structure")
SHOWN, CELL = 2, 96  # cases of each attribute in the figure; pixels of a picture there
Scores = Mapping[str, Mapping[float, Sequence[EditScores]]]
"""Scores by method and by share of the steps left out, one for each case."""


def study(pplus: PPlus, count: int) -> Study:
    """Edit ``count`` reported cases of each attribute with every method."""
    cases = edit_cases("report", count)
    pictures, judge = edited(pplus, cases), EditJudge(cases)
    scores: Scores = {
        name: {skip: judge.scores(own) for skip, own in by_skip.items()} for name, by_skip in pictures.items()
    }
    attributes = list(dict.fromkeys(case.attribute for case in cases))
    best = {name: gentlest(own) for name, own in scores.items()}
    table, differences = summary(cases, best, attributes), compare(cases, best, attributes)
    shown = _figure(cases, pictures, best, attributes)
    sections = [
        Section("Every method at its gentlest success", table=table),
        Section(f"{BY_LAYERS} against whole prompts", _explain(), table=differences_table(differences)),
        Section("Pictures", figures=[Figure(shown, "The gentlest success, or the strongest edit", name="grid")]),
    ]
    values: dict[str, Any] = {
        "cases": len(cases),
        "steps": STEPS,
        "skips": list(SKIPS),
        "layers": LAYERS,
        "mismatched": MISMATCHED,
        "differences": differences,
        "by_skip": _by_skip(cases, scores, attributes),
    }
    return Study("editing", TITLE, LEAD, sections, values, {"success": table})


def gentlest(by_skip: Mapping[float, Sequence[EditScores]]) -> list[tuple[float, EditScores] | None]:
    """For each case the largest share of left-out steps with success, and its scores; None without any success."""
    found: list[tuple[float, EditScores] | None] = []
    for i in range(len(next(iter(by_skip.values())))):
        successes = [(skip, own[i]) for skip, own in by_skip.items() if own[i].success]
        found.append(max(successes, key=lambda one: one[0]) if successes else None)
    return found


Best = Mapping[str, Sequence[tuple[float, EditScores] | None]]


def summary(cases: Sequence[EditCase], best: Best, attributes: Sequence[str]) -> Table:
    """A row for each attribute and method: share of cases with a success, and the means over them."""
    rows: list[list[str]] = []
    for attribute in attributes:
        for name, own in best.items():
            mine = [one for case, one in zip(cases, own, strict=True) if case.attribute == attribute]
            done = [one[1] for one in mine if one]
            value, low, high = share([one is not None for one in mine])
            measured = [_mean([getattr(scores, measure) for scores in done]) for measure in MEASURES]
            skipped = _mean([one[0] for one in mine if one])
            rows.append([attribute, name, f"{value:.2f} [{low:.2f}, {high:.2f}]", skipped, *measured])
    columns = ["attribute", "method", "success", "steps left out", *MEASURES.values()]
    return {column: [row[i] for row in rows] for i, column in enumerate(columns)}


def _mean(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return f"{sum(finite) / len(finite):.3f}" if finite else "–"


def compare(cases: Sequence[EditCase], best: Best, attributes: Sequence[str]) -> dict[str, Any]:
    """Differences of texts by layers to each whole-prompt method, over the cases that both edit with success.

    Returns:
        ``[attribute][rival][measure]`` → {"value", "low", "high", "cases"}; below zero: texts by layers have less.
    """
    table: dict[str, Any] = {}
    for attribute in attributes:
        table[attribute] = {}
        for rival in RIVALS:
            both = [
                (ours[1], theirs[1])
                for case, ours, theirs in zip(cases, best[BY_LAYERS], best[rival], strict=True)
                if case.attribute == attribute and ours and theirs
            ]
            table[attribute][rival] = {
                measure: _interval([getattr(a, measure) - getattr(b, measure) for a, b in both]) for measure in MEASURES
            }
    return table


def _interval(differences: Sequence[float]) -> dict[str, Any] | None:
    """The mean difference with its interval; None without values."""
    finite = [value for value in differences if math.isfinite(value)]
    return {**asdict(mean_interval(finite)), "cases": len(finite)} if finite else None


def differences_table(differences: Mapping[str, Any]) -> Table:
    """``compare``'s result as text."""
    rows = [
        [attribute, rival, *(_short(measured[measure]) for measure in MEASURES), _cases(measured)]
        for attribute, by_rival in differences.items()
        for rival, measured in by_rival.items()
    ]
    columns = ["attribute", "minus", *MEASURES.values(), "cases"]
    return {column: [row[i] for row in rows] for i, column in enumerate(columns)}


def _short(interval: Mapping[str, float] | None) -> str:
    return "–" if interval is None else "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**interval)


def _cases(measured: Mapping[str, Any]) -> str:
    return str(measured["truth"]["cases"]) if measured["truth"] else "0"


def _explain() -> str:
    less = ", ".join(MEASURES[name] for name in BETTER_IF_LESS)
    return f"Differences over the cases that both methods edit with success. Less is better for: {less}."


def _by_skip(cases: Sequence[EditCase], scores: Scores, attributes: Sequence[str]) -> dict[str, Any]:
    """Mean scores by method, attribute and share of the steps left out."""
    result: dict[str, Any] = {}
    for name, by_skip in scores.items():
        for attribute in attributes:
            for skip, own in by_skip.items():
                mine = [one for case, one in zip(cases, own, strict=True) if case.attribute == attribute]
                means = {
                    one.name: _mean([float(getattr(score, one.name)) for score in mine]) for one in fields(EditScores)
                }
                result.setdefault(name, {}).setdefault(attribute, {})[str(skip)] = means
    return result


def _figure(
    cases: Sequence[EditCase],
    pictures: Mapping[str, Mapping[float, Sequence[Image.Image]]],
    best: Best,
    attributes: Sequence[str],
) -> Image.Image:
    """A row for each shown case: the picture, each method's gentlest success, the true result."""
    rows: list[list[Image.Image]] = []
    labels: list[str] = []
    for attribute in attributes:
        numbers = [i for i, case in enumerate(cases) if case.attribute == attribute][:SHOWN]
        for i in numbers:
            made = [own[_shown(best[name][i])][i] for name, own in pictures.items()]
            rows.append([cases[i].picture, *made, cases[i].truth])
            labels.append(attribute)
    return labelled_grid(rows, row_labels=labels, column_labels=["picture", *pictures, "true result"], cell=CELL)


def _shown(best: tuple[float, EditScores] | None) -> float:
    """The share of the gentlest success; without one, that of the strongest edit."""
    return best[0] if best else min(SKIPS)
