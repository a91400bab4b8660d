"""Results → a table: methods side by side, paired by concept."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from promptplus.evaluation.grid import Result
from promptplus.evaluation.metrics import Interval, mean_interval
from promptplus.report.tables import Table, from_rows


@dataclass(frozen=True)
class Row:
    """One method at one step count.

    Attributes:
        concepts, runs: how many it was measured on.
        subject, text: similarities, means over concepts of the means over seeds, with intervals over concepts.
        subject_gain, text_gain: over the baseline, paired by concept; on the ``paired`` concepts that both have.
        seconds: median of a training's.
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


def compare(results: Sequence[Result], baseline: tuple[str, int]) -> list[Row]:
    """A row for each (method, steps), in the results' order; ``baseline``: the (method, steps) that gains are over."""
    groups: dict[tuple[str, int], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.method, result.steps].append(result)
    base = {name: _by_concept(groups.get(baseline, []), name) for name in ("subject", "text")}
    rows = []
    for (method, steps), found in groups.items():
        scores = {name: _by_concept(found, name) for name in ("subject", "text")}
        gains = {name: [s - base[name][c] for c, s in scores[name].items() if c in base[name]] for name in scores}
        same = (method, steps) == baseline or not gains["subject"]
        rows.append(
            Row(
                method,
                steps,
                len(scores["subject"]),
                len(found),
                mean_interval(list(scores["subject"].values())),
                mean_interval(list(scores["text"].values())),
                None if same else mean_interval(gains["subject"]),
                None if same else mean_interval(gains["text"]),
                len(gains["subject"]),
                median(result.seconds for result in found),
            )
        )
    return rows


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table for people."""
    names = ("method", "steps", "subject similarity", "text similarity", "subject gain", "text gain", "seconds", "runs")
    return from_rows(names, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[object, ...]:
    gains = [gain or "" for gain in (row.subject_gain, row.text_gain)]
    runs = f"{row.concepts} × {row.runs // row.concepts}"
    return (row.method, row.steps, row.subject, row.text, *gains, f"{row.seconds:.0f}", runs)


def _by_concept(results: Sequence[Result], name: str) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for result in results:
        values[result.concept].append(getattr(result, name))
    return {concept: mean(scores) for concept, scores in values.items()}
