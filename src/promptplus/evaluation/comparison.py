"""Comparison of methods: results of an experiment grid as one row per method and step count, paired by concept."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from promptplus.evaluation.grid import GridResult
from promptplus.evaluation.metrics import Interval, mean_interval
from promptplus.report.tables import Table, from_rows


@dataclass(frozen=True)
class ComparisonRow:
    """One method at one step count.

    Attributes:
        concepts: number of concepts; ``runs``: number of trainings.
        subject: subject similarity, ``text``: text similarity: means over concepts of the means over seeds. Intervals
            are over concepts.
        subject_gain: mean difference to the baseline, paired by concept; ``text_gain``: the same. None for the
            baseline itself, and where no concept is shared with it.
        paired: number of concepts that the gains are over.
        seconds: median duration of a training.
    """

    method: str
    steps: int
    concepts: int
    runs: int
    subject: Interval
    text: Interval
    subject_gain: Interval | None
    text_gain: Interval | None
    paired: int
    seconds: float


def compare(results: Sequence[GridResult], baseline: tuple[str, int]) -> list[ComparisonRow]:
    """One row per (method, steps), in the order of the results.

    Args:
        baseline: (method, steps) of what gains are measured over.
    """
    groups: dict[tuple[str, int], list[GridResult]] = defaultdict(list)
    for result in results:
        groups[result.method, result.steps].append(result)
    base = {name: _by_concept(groups.get(baseline, []), name) for name in ("subject", "text")}
    rows = []
    for (method, steps), group in groups.items():
        scores = {name: _by_concept(group, name) for name in ("subject", "text")}
        gains = {name: [s - base[name][c] for c, s in scores[name].items() if c in base[name]] for name in scores}
        without_gain = (method, steps) == baseline or not gains["subject"]
        rows.append(
            ComparisonRow(
                method=method,
                steps=steps,
                concepts=len(scores["subject"]),
                runs=len(group),
                subject=mean_interval(list(scores["subject"].values())),
                text=mean_interval(list(scores["text"].values())),
                subject_gain=None if without_gain else mean_interval(gains["subject"]),
                text_gain=None if without_gain else mean_interval(gains["text"]),
                paired=len(gains["subject"]),
                seconds=median(result.seconds for result in group),
            )
        )
    return rows


def comparison_table(rows: Sequence[ComparisonRow]) -> Table:
    """The rows as a table with rounded numbers."""
    names = ("method", "steps", "subject similarity", "text similarity", "subject gain", "text gain", "seconds", "runs")
    return from_rows(names, [_cells(row) for row in rows])


def _cells(row: ComparisonRow) -> tuple[object, ...]:
    gains = [gain or "" for gain in (row.subject_gain, row.text_gain)]
    runs = f"{row.concepts} × {row.runs // row.concepts}"
    return (row.method, row.steps, row.subject, row.text, *gains, f"{row.seconds:.0f}", runs)


def _by_concept(results: Sequence[GridResult], name: str) -> dict[str, float]:
    """The mean of a score over the seeds of each concept."""
    values: dict[str, list[float]] = defaultdict(list)
    for result in results:
        values[result.concept].append(getattr(result, name))
    return {concept: mean(scores) for concept, scores in values.items()}
