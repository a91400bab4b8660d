"""Methods compared: subject and text similarity together, their trade-off, and how fast each converges (paper 4)."""

from collections import defaultdict
from collections.abc import Sequence

from PIL import Image

from promptplus.evaluation.comparison import Row, compare
from promptplus.evaluation.grid import ExperimentGrid, Result
from promptplus.evaluation.training_cache import Task
from promptplus.experiments.study import Study
from promptplus.pictures import load_pictures
from promptplus.report import figures
from promptplus.report.figures import TradeOffPoint
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

LEAD = (
    "Subject similarity: mean pairwise cosine of the judge DINO's features, generated against real. Text similarity: "
    "cosine of picture and prompt in the judge CLIP, in the concept's place its class word (on the pocket, where they "
    "have none, “thing”). Means over concepts of the means over seeds; 95 % intervals by bootstrap over concepts; "
    "gains are paired by concept."
)


CELL = 96  # pixels
EVERY = 2  # of the prompts, what a gallery shows (our choice: it stays legible)


def gallery(matrix: ExperimentGrid, tasks: Sequence[Task]) -> Image.Image | None:
    """The first concept as each method's last step count has it: a row for each, a real picture at its left.

    None where no pictures were kept.
    """
    concept, asked = tasks[0].concept, matrix.scorer.prompts[::EVERY]
    first: dict[str, Task] = {}
    for task in tasks:
        if task.concept == concept:
            first.setdefault(task.method.name, task)
    (real, *_) = load_pictures(concept)
    last = {name: task.method.steps[-1] for name, task in first.items()}
    rows = {f"{name} ({last[name]})": matrix.pictures(task, last[name])[::EVERY] for name, task in first.items()}
    shown = {name: [real, *row] for name, row in rows.items() if row}
    if not shown:
        return None
    columns = ["a real one", *(prompt.format("S") for prompt in asked)]
    return labelled_grid(list(shown.values()), row_labels=list(shown), column_labels=columns, cell=CELL)


def study(results: Sequence[Result], baseline: tuple[str, int], shown: Image.Image | None = None) -> Study:
    """A table, the trade-off of each method's last step count, and both similarities against steps.

    ``shown``: pictures, as from ``gallery``.
    """
    rows = compare(results, baseline)
    table = _table(rows)
    last = {row.method: row for row in sorted(rows, key=lambda row: row.steps)}
    most = max(row.concepts for row in rows)
    spots = {_called(row, most): _spot(row) for row in last.values()}
    drawn = figures.trade_off(spots, xlabel="text similarity", ylabel="subject similarity")
    sections = [
        Section("Methods", f"Gains are over {baseline[0]} at {baseline[1]} steps.", table=table),
        Section("Trade-off", figures=[Figure(drawn)]),
    ]
    if shown:
        sections.append(Section("Pictures", figures=[Figure(shown)]))
    if common := alike(results):
        concepts = len({result.concept for result in common})
        text = f"All curves are over the same {concepts} concepts, each over the same trainings at all its steps."
        curves = _convergence(compare(common, baseline))
        sections.append(Section("Convergence", text, [Figure(curve) for curve in curves]))
    sections.append(Section("Concept by concept", table=_by_concept(results, last)))
    values = {"baseline": list(baseline), "runs": [vars(result) for result in results]}
    return Study("evaluation", "Methods compared", LEAD, sections, values, {"methods": table})


def _table(rows: Sequence[Row]) -> Table:
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


def _called(row: Row, most: int) -> str:
    fewer = f", {row.concepts} concepts" if row.concepts < most else ""
    return f"{row.method} ({row.steps}{fewer})"


def _spot(row: Row) -> TradeOffPoint:
    text, subject = row.text, row.subject
    return TradeOffPoint(text.value, subject.value, (text.low, text.high), (subject.low, subject.high))


def _convergence(rows: Sequence[Row]) -> list[Image.Image]:
    methods: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        methods[row.method].append(row)
    pictures = []
    for name in ("subject", "text"):
        points = {
            method: [(row.steps, i.value, i.low, i.high) for row in found if (i := getattr(row, name))]
            for method, found in methods.items()
        }
        pictures.append(figures.convergence(points, ylabel=f"{name} similarity"))
    return pictures


def alike(results: Sequence[Result]) -> list[Result]:
    """Those that curves against steps compare fairly: one population, wherever they are looked at.

    Of the methods with several step counts, the trainings that were scored at all of them, of the concepts and seeds
    that all of these methods share.
    """
    steps: dict[str, set[int]] = defaultdict(set)
    scored: dict[tuple[str, str, int], set[int]] = defaultdict(set)
    for one in results:
        steps[one.method].add(one.steps)
        scored[one.method, one.concept, one.seed].add(one.steps)
    several = [method for method, counts in steps.items() if len(counts) > 1]
    shared = {
        (one.concept, one.seed)
        for one in results
        if all(scored[method, one.concept, one.seed] == steps[method] for method in several)
    }
    return [one for one in results if one.method in several and (one.concept, one.seed) in shared]


def _by_concept(results: Sequence[Result], last: dict[str, Row]) -> Table:
    """Subject / text of each concept, means over seeds, at each method's last step count."""
    concepts = list(dict.fromkeys(result.concept for result in results))
    table: dict[str, list[str]] = {"concept": concepts}
    for method, row in last.items():
        column = []
        for concept in concepts:
            found = [r for r in results if (r.concept, r.method, r.steps) == (concept, method, row.steps)]
            means = [sum(getattr(r, name) for r in found) / len(found) for name in ("subject", "text")] if found else []
            column.append(" / ".join(f"{mean:.3f}" for mean in means))
        table[method] = column
    return table
