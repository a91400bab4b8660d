"""Which layer decides what, and whether it is layers at all or denoising steps (paper section 3.1 and its reviews)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from promptplus.experiments.curves import bands, crossing, intervals, relative
from promptplus.experiments.split import measure_split
from promptplus.experiments.study import Study
from promptplus.experiments.takeover import (
    FORM,
    Judge,
    Pair,
    Takeover,
    apart,
    draw_pairs,
    measure,
    pictures,
    single_takeovers,
    step_takeovers,
    subset_takeovers,
    together,
    window_takeovers,
)
from promptplus.layers import LayerMap
from promptplus.pplus import PPlus
from promptplus.report import figures
from promptplus.report.figures import Curve
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

PAPER = {
    "object": (0.00, 0.33, 0.79, 0.92, 0.93, 0.98, 0.99, 1.00),
    "style": (0.00, 0.12, 0.49, 0.60, 0.82, 0.84, 0.90, 1.00),
    "colour": (0.00, 0.00, 0.01, 0.11, 0.30, 0.36, 0.64, 1.00),
}
"""Share of prompt 2's attribute by subset: read off the paper's figure, to .01."""
SHOWN = 4  # pairs in the picture grid
WINDOWS = 4  # parts of the denoising in the layer × step map
ORDERS = [("object", "style"), ("style", "colour"), ("object", "colour")]
PARTS = ("subsets", "split", "steps", "single", "windows")
LEAD = (
    "Prompt 1 and prompt 2 differ in every attribute. Prompt 2 takes over more and more of the cross-attention layers; "
    "0: nothing of it shows, 1: all that shows when it has every layer. Bands: 95 %, bootstrap over prompt pairs."
)
READING = "Where each curve is halfway, counted in columns from the left; “a < b” is how much later b is than a."

Scores = Mapping[str, Mapping[str, np.ndarray]]
"""By judge and attribute: ``[pair, takeover]``."""
Ask = Callable[[Sequence[Takeover]], Scores]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        words: of each attribute, out of which pairs of prompts are drawn.
        judges: by name; all see the same pictures, and claims are the first one's.
        seeds: pictures of each pair; ``map_seeds``: for the two heat maps (default: as many), which ask much more.
        parts: which of ``PARTS``.
    """

    words: Mapping[str, Sequence[str]]
    judges: Mapping[str, Judge]
    pairs: int = 64
    seeds: int = 1
    map_seeds: int | None = None
    form: str = FORM
    parts: Sequence[str] = PARTS


@dataclass(frozen=True)
class Part:
    """What one part of the study tells; ``values``: by judge."""

    sections: Sequence[Section]
    values: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, Table] = field(default_factory=dict)


def study(pplus: PPlus, plan: Plan, *, progress: bool = True, **sampling: Any) -> Study:
    """Subset curves, the split test, takeover by steps, each layer and block alone, groups by windows."""
    pairs, layers = draw_pairs(plan.words, plan.pairs), pplus.layers
    score = together({name: judge.score for name, judge in plan.judges.items()})

    def asking(seeds: int) -> Ask:
        call: dict[str, Any] = {"form": plan.form, "progress": progress, **sampling}
        return lambda takeovers: apart(measure(pplus, pairs, takeovers, range(seeds), score, **call))

    ask, ask_for_map = asking(plan.seeds), asking(plan.map_seeds or plan.seeds)

    make: dict[str, Callable[[], Part]] = {
        "subsets": lambda: _subsets(ask, layers, picture_grid(pplus, pairs[:SHOWN], plan.form, **sampling)),
        "split": lambda: _split(pplus, plan, progress=progress, **sampling),
        "steps": lambda: _steps(ask, layers),
        "single": lambda: _single(ask_for_map, layers),
        "windows": lambda: _windows(ask_for_map, layers),
    }
    found = [make[name]() for name in PARTS if name in plan.parts]
    by_judge = {
        name: {key: value for part in found for key, value in part.values.get(name, {}).items()} for name in plan.judges
    }
    counts = {"pairs": plan.pairs, "seeds": plan.seeds, "map_seeds": plan.map_seeds or plan.seeds}
    values = {**counts, "form": plan.form, "by_judge": by_judge}
    sections = [section for part in found for section in part.sections]
    tables = {name: table for part in found for name, table in part.tables.items()}
    return Study("attributes", "Which layer decides what", LEAD, sections, values, tables)


def _subsets(ask: Ask, layers: LayerMap, grid: Image.Image) -> Part:
    found, sizes = ask(subset_takeovers(layers)), [str(len(subset)) for subset in layers.subsets()]
    drawn = _curves(found, sizes, "layers that take prompt 2, coarse to fine", PAPER)
    section, halfway = _halfway("From coarse to fine", READING, drawn, found)
    shown = Section("The same pictures", "Prompt 2 takes over from the left to the right.", [Figure(grid)])
    curves = {judge: {name: _curve(table) for name, table in own.items()} for judge, own in found.items()}
    relatives = {f"{name}, {judge}": c["relative"] for judge, own in curves.items() for name, c in own.items()}
    values = {judge: {"halfway": halfway[judge], "subsets": curves[judge]} for judge in found}
    return Part([section, shown], values, {"subsets": {"layers": sizes, **relatives}})


SHARES = {
    "object": "the object of the coarse layers' prompt",
    "colour": "the colour of the other layers' prompt",
    "both": "both in one picture",
    "leak": "the colour of the coarse layers' prompt",
    "one_object": "one prompt for all layers: its object",
    "one_colour": "one prompt for all layers: its colour",
}


def _split(pplus: PPlus, plan: Plan, **call: Any) -> Part:
    judges, objects = {name: judge.names for name, judge in plan.judges.items()}, plan.words["object"]
    found = measure_split(pplus, judges, objects, plan.words["colour"], plan.seeds, **call)
    table: Table = {"share of pictures [95 %]": list(SHARES.values())}
    table |= {judge: [str(getattr(result, name)) for name in SHARES] for judge, result in found.items()}
    text = (
        f"“a {plan.words['colour'][0]} OBJECT” in the coarse layers, “a COLOUR object” in all others: {len(objects)} "
        f"objects × {plan.seeds} seeds. CLIP chooses among these: by chance {1 / len(objects):.3f} of the objects "
        f"and {1 / len(plan.words['colour']):.3f} of the colours are right. Intervals: bootstrap over objects."
    )
    values = {
        judge: {
            "split": {name: list(asdict(getattr(result, name)).values()) for name in SHARES}
            | {"pictures": result.pictures}
        }
        for judge, result in found.items()
    }
    return Part([Section("Split", text, table=table)], values, {"split": table})


def _steps(ask: Ask, layers: LayerMap) -> Part:
    takeovers = step_takeovers(layers)
    found, ticks = ask(takeovers), [f"{1 - takeover.start:.0%}" for takeover in takeovers]
    drawn = _curves(found, ticks, "last denoising steps that take prompt 2", None)
    section, halfway = _halfway("Layers or steps?", "All layers, from a denoising step on.", drawn, found)
    curves = {judge: {name: _curve(table) for name, table in own.items()} for judge, own in found.items()}
    return Part([section], {judge: {"halfway_by_steps": halfway[judge], "steps": curves[judge]} for judge in found})


def _single(ask: Ask, layers: LayerMap) -> Part:
    found, names = ask(single_takeovers(layers)), _alone(layers)
    alone = {
        judge: {name: relative(table)[list(names.values())].tolist() for name, table in own.items()}
        for judge, own in found.items()
    }
    drawn = [Figure(_heat(own, list(names)), f"judge: {judge}") for judge, own in alone.items()]
    values = {
        judge: {"alone": {name: dict(zip(names, row, strict=True)) for name, row in own.items()}}
        for judge, own in alone.items()
    }
    rows = {f"{name}, {judge}": row for judge, own in alone.items() for name, row in own.items()}
    text = "Layers first, then whole blocks: only this one has prompt 2."
    title = "Each layer and each block by itself"
    return Part([Section(title, text, drawn)], values, {"single": {"only": list(names), **rows}})


def _alone(layers: LayerMap) -> dict[str, int]:
    """Layers, then blocks, by name → their column of ``single_takeovers``; a block of one layer is that layer."""
    columns = {takeover.layers: column for column, takeover in enumerate(single_takeovers(layers))}
    found = {name: columns[(i,)] for i, name in enumerate(layers.names)}
    return found | {f"block {name}": columns[chosen] for name, chosen in layers.blocks.items()}


def _windows(ask: Ask, layers: LayerMap) -> Part:
    found = ask(window_takeovers(layers, WINDOWS))
    spans = [f"{i / WINDOWS:.0%}–{(i + 1) / WINDOWS:.0%}" for i in range(WINDOWS)]
    groups, drawn = ("coarse", "medium", "fine"), []
    values: dict[str, dict[str, Any]] = {}
    for judge, own in found.items():
        tables = {name: relative(table)[1:-1].reshape(-1, WINDOWS) for name, table in own.items()}
        for name, table in tables.items():
            labels = {"xlabel": f"denoising steps with prompt 2 ({name})", "ylabel": "layers"}
            heat = figures.heat_map(table, groups, spans, unit="share of prompt 2", **labels)
            drawn.append(Figure(heat, f"judge: {judge}"))
        values[judge] = {"windows": {n: dict(zip(groups, t.tolist(), strict=True)) for n, t in tables.items()}}
    return Part([Section("Layer groups in windows of the steps", "", drawn)], values)


def picture_grid(
    pplus: PPlus, pairs: Sequence[Pair], form: str, label: str | None = None, **sampling: Any
) -> Image.Image:
    """A row for each pair, prompt 1 above prompt 2, a column for each nested subset.

    ``label``: what is shown of the prompts, if they are too long.
    """
    takeovers = subset_takeovers(pplus.layers)
    rows = [[pictures(pplus, [pair], t, [0], form, **sampling)[0] for t in takeovers] for pair in pairs]
    names = [f"{pair.prompt('first', label or form)}\n{pair.prompt('second', label or form)}" for pair in pairs]
    return labelled_grid(rows, row_labels=names, column_labels=_names_of(pplus.layers), cell=96)


def _names_of(layers: LayerMap) -> list[str]:
    return [f"{len(subset)} layers" for subset in layers.subsets()]


def takeover_figure(
    scores: Mapping[str, np.ndarray], ticks: Sequence[str], xlabel: str, paper: Mapping[str, Sequence[float]] | None
) -> Image.Image:
    """Relative curves of ``[pair, takeover]`` scores, with bands; the paper's beside them if as long."""
    found = {}
    for name, table in scores.items():
        low, high = bands(table)
        found[name] = Curve(relative(table).tolist(), low.tolist(), high.tolist())
    same = paper if paper and len(ticks) == len(next(iter(paper.values()))) else None
    return figures.curves(found, ticks, xlabel=xlabel, ylabel="share of prompt 2", reference=same)


def _curves(
    scores: Scores, ticks: Sequence[str], xlabel: str, paper: Mapping[str, Sequence[float]] | None
) -> list[Figure]:
    """A figure for each judge."""
    return [Figure(takeover_figure(own, ticks, xlabel, paper), f"judge: {judge}") for judge, own in scores.items()]


def _curve(scores: np.ndarray) -> dict[str, Any]:
    low, high = bands(scores)
    curve = relative(scores)
    raw = {"score": scores.mean(0), "relative": curve, "low": low, "high": high}
    return {name: [round(float(v), 4) for v in row] for name, row in raw.items()} | {"halfway": crossing(curve)}


def _halfway(
    title: str, text: str, drawn: Sequence[Figure], scores: Scores
) -> tuple[Section, dict[str, dict[str, list[float]]]]:
    """Curves and where they are halfway, judges side by side; the intervals as numbers, too."""
    found = {
        judge: intervals(own, [order for order in ORDERS if set(order) <= set(own)]) for judge, own in scores.items()
    }
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    table: Table = {"halfway, in columns of the figure": names}
    table |= {f"{judge} [95 %]": [str(own.get(name, "")) for name in names] for judge, own in found.items()}
    numbers = {
        judge: {name: [one.value, one.low, one.high] for name, one in own.items()} for judge, own in found.items()
    }
    return Section(title, text, drawn, table), numbers


def _heat(alone: Mapping[str, Sequence[float]], names: Sequence[str]) -> Image.Image:
    labels: dict[str, str] = {"xlabel": "all that has prompt 2", "ylabel": "attribute"}
    return figures.heat_map(np.array(list(alone.values())), list(alone), names, unit="share of prompt 2", **labels)
