"""The study of methods: subject and text similarity, their trade-off, and how fast each converges (paper section 4)."""

from collections import defaultdict
from collections.abc import Sequence

from PIL import Image

from promptplus.datasets import load_pictures
from promptplus.evaluation.comparison import ComparisonRow, compare
from promptplus.evaluation.grid import ExperimentGrid, GridResult
from promptplus.evaluation.training_cache import Task
from promptplus.experiments.study import Study
from promptplus.report import figures
from promptplus.report.figures import TradeOffPoint
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

LEAD = (
    "Subject similarity: the mean cosine of the judge DINO's features of generated and real pictures. Text similarity: "
    "the cosine of picture and prompt by the judge CLIP, with the class word in the concept's place (on the pocket, "
    "“thing”, because its concepts have no name). All numbers are means over concepts; a concept's number is the mean "
    "over its seeds. Intervals: 95 %, bootstrap over concepts. Gains are paired by concept."
)
CELL = 96  # pixels
EVERY = 2  # a gallery shows every second prompt (our choice: it stays legible)


def gallery(grid: ExperimentGrid, tasks: Sequence[Task]) -> Image.Image | None:
    """Pictures of the first concept: a row for each method at its last step count, a real picture on the left.

    None where no pictures were kept.
    """
    concept, prompts = tasks[0].concept, grid.scorer.prompts[::EVERY]
    first: dict[str, Task] = {}
    for task in tasks:
        if task.concept == concept:
            first.setdefault(task.method.name, task)
    (real, *_) = load_pictures(concept)
    last = {name: task.method.steps[-1] for name, task in first.items()}
    rows = {f"{name} ({last[name]})": grid.pictures(task, last[name])[::EVERY] for name, task in first.items()}
    shown = {name: [real, *row] for name, row in rows.items() if row}
    if not shown:
        return None
    columns = ["a real one", *(prompt.format("S") for prompt in prompts)]
    return labelled_grid(list(shown.values()), row_labels=list(shown), column_labels=columns, cell=CELL)


def study(results: Sequence[GridResult], baseline: tuple[str, int], shown: Image.Image | None = None) -> Study:
    """A table of all methods, their trade-off at the last step count, and both similarities against steps.

    Args:
        baseline: the method and the steps that gains are over.
        shown: pictures, as from ``gallery``.
    """
    rows = compare(results, baseline)
    table = _table(rows)
    last = {row.method: row for row in sorted(rows, key=lambda row: row.steps)}
    most = max(row.concepts for row in rows)
    spots = {_label(row, most): _trade_off_point(row) for row in last.values()}
    drawn = figures.trade_off(spots, xlabel="text similarity", ylabel="subject similarity")
    sections = [
        Section("Methods", f"Gains are over {baseline[0]} at {baseline[1]} steps.", table=table),
        Section("Trade-off", figures=[Figure(drawn, name="trade-off")]),
    ]
    if shown:
        sections.append(Section("Pictures", figures=[Figure(shown, name="gallery")]))
    if common := comparable(results):
        concepts = len({result.concept for result in common})
        text = f"All curves are means over the same {concepts} concepts and, at all steps, over the same trainings."
        curves = _convergence(compare(common, baseline))
        sections.append(Section("Convergence", text, curves))
    sections.append(Section("Concept by concept", table=_by_concept(results, last)))
    values = {"baseline": list(baseline), "runs": [vars(result) for result in results]}
    return Study("methods", "Methods compared", LEAD, sections, values, {"methods": table})


def _table(rows: Sequence[ComparisonRow]) -> Table:
    return {
        "method": [row.method for row in rows],
        "steps": [row.steps for row in rows],
        "subject similarity": [str(row.subject) for row in rows],
        "text similarity": [str(row.text) for row in rows],
        "subject gain": [str(row.subject_gain or "") for row in rows],
        "text gain": [str(row.text_gain or "") for row in rows],
        "seconds": [f"{row.seconds:.0f}" for row in rows],
        "concepts × seeds": [f"{row.concepts} × {row.runs / row.concepts:g}" for row in rows],
    }


def _label(row: ComparisonRow, most: int) -> str:
    fewer = f", {row.concepts} concepts" if row.concepts < most else ""
    return f"{row.method} ({row.steps}{fewer})"


def _trade_off_point(row: ComparisonRow) -> TradeOffPoint:
    text, subject = row.text, row.subject
    return TradeOffPoint(text.value, subject.value, (text.low, text.high), (subject.low, subject.high))


def _convergence(rows: Sequence[ComparisonRow]) -> list[Figure]:
    methods: dict[str, list[ComparisonRow]] = defaultdict(list)
    for row in rows:
        methods[row.method].append(row)
    curves = []
    for name in ("subject", "text"):
        points = {
            method: [(row.steps, i.value, i.low, i.high) for row in its_rows if (i := getattr(row, name))]
            for method, its_rows in methods.items()
        }
        curve = figures.convergence(points, ylabel=f"{name} similarity")
        curves.append(Figure(curve, name=f"{name}-by-steps"))
    return curves


def comparable(results: Sequence[GridResult]) -> list[GridResult]:
    """The results that curves against steps may compare, because they are of the same concepts and seeds everywhere.

    These are the results of methods with several step counts. A concept and seed is kept if every such method was
    scored on it at all of its step counts.
    """
    steps: dict[str, set[int]] = defaultdict(set)
    scored: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for one in results:
        steps[one.method].add(one.steps)
        scored[one.method, one.concept, one.seed].add(one.steps)
    curved = [method for method, counts in steps.items() if len(counts) > 1]
    shared = {
        (one.concept, one.seed)
        for one in results
        if all(scored[method, one.concept, one.seed] == steps[method] for method in curved)
    }
    return [one for one in results if one.method in curved and (one.concept, one.seed) in shared]


def _by_concept(results: Sequence[GridResult], last: dict[str, ComparisonRow]) -> Table:
    """Subject and text similarity of each concept at each method's last step count; means over seeds."""
    concepts = list(dict.fromkeys(result.concept for result in results))
    table: dict[str, list[str]] = {"concept": concepts}
    for method, row in last.items():
        column = []
        for concept in concepts:
            runs = [r for r in results if (r.concept, r.method, r.steps) == (concept, method, row.steps)]
            means = [sum(getattr(r, name) for r in runs) / len(runs) for name in ("subject", "text")] if runs else []
            column.append(" / ".join(f"{mean:.3f}" for mean in means))
        table[method] = column
    return table
