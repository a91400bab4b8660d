"""Which layer decides what, and whether it is layers at all or denoising steps (paper section 3.1 and its reviews)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from promptplus import figures
from promptplus.analysis.attributes import (
    FORM,
    Pair,
    Score,
    Takeover,
    draw_pairs,
    measure,
    pictures,
    single_takeovers,
    step_takeovers,
    subset_takeovers,
    window_takeovers,
)
from promptplus.analysis.curves import bands, crossing, intervals, relative
from promptplus.conditioning import PPlus
from promptplus.evidence.study import Study, Table
from promptplus.figures import Curve
from promptplus.layers import LayerMap
from promptplus.report import Figure, Section, labelled_grid

PAPER = {
    "object": (0.00, 0.33, 0.79, 0.92, 0.93, 0.98, 0.99, 1.00),
    "style": (0.00, 0.12, 0.49, 0.60, 0.82, 0.84, 0.90, 1.00),
    "colour": (0.00, 0.00, 0.01, 0.11, 0.30, 0.36, 0.64, 1.00),
}
"""Share of prompt 2's attribute by subset: read off the paper's figure, to .01."""
SHOWN = 4  # pairs in the picture grid
WINDOWS = 4  # parts of the denoising in the layer × step map
ORDERS = [("object", "style"), ("style", "colour"), ("object", "colour")]


PARTS = ("subsets", "steps", "single", "windows")


@dataclass(frozen=True)
class Plan:
    """What to measure: pairs of prompts out of each attribute's words, seeds, the judge, and which of ``PARTS``."""

    words: Mapping[str, Sequence[str]]
    score: Score
    pairs: int = 64
    seeds: int = 1
    form: str = FORM
    parts: Sequence[str] = PARTS


def study(pplus: PPlus, plan: Plan, *, progress: bool = True, **sampling: Any) -> Study:
    """Subset curves, takeover by steps, each layer alone, groups by windows, and a grid of pictures."""
    pairs, layers = draw_pairs(plan.words, plan.pairs), pplus.layers
    sections: list[Section] = []
    values: dict[str, Any] = {"pairs": plan.pairs, "seeds": plan.seeds, "form": plan.form}
    tables: dict[str, Table] = {}

    def scores(takeovers: Sequence[Takeover]) -> dict[str, np.ndarray]:
        return measure(
            pplus, pairs, takeovers, range(plan.seeds), plan.score, form=plan.form, progress=progress, **sampling
        )

    if "subsets" in plan.parts:
        found, sizes = scores(subset_takeovers(layers)), [str(len(subset)) for subset in layers.subsets()]
        figure = takeover_figure(found, sizes, "layers that take prompt 2, coarse to fine", PAPER)
        sections.append(_crossing_section("From coarse to fine", READING, figure, found, values, "halfway"))
        grid = picture_grid(pplus, pairs[:SHOWN], plan.form, **sampling)
        sections.append(Section("The same pictures", "Prompt 2 takes over from the left to the right.", [Figure(grid)]))
        values["subsets"] = {name: _curve(table) for name, table in found.items()}
        tables["subsets"] = {"layers": sizes, **{name: _curve(table)["relative"] for name, table in found.items()}}
    if "steps" in plan.parts:
        takeovers = step_takeovers(layers)
        found, ticks = scores(takeovers), [f"{1 - takeover.start:.0%}" for takeover in takeovers]
        figure = takeover_figure(found, ticks, "last denoising steps that take prompt 2", None)
        text = "All layers, from a denoising step on."
        sections.append(_crossing_section("Layers or steps?", text, figure, found, values, "halfway_by_steps"))
        values["steps"] = {name: _curve(table) for name, table in found.items()}
    if "single" in plan.parts:
        found = scores(single_takeovers(layers))
        alone = {name: [float(v) for v in relative(table)[1:-1]] for name, table in found.items()}
        sections.append(Section("Each layer by itself", "", [Figure(_heat(alone, layers))]))
        values["single_layers"] = {name: dict(zip(layers.names, row, strict=True)) for name, row in alone.items()}
        tables["single"] = {"layer": layers.names, **alone}
    if "windows" in plan.parts:
        found = scores(window_takeovers(layers, WINDOWS))
        title = "Layer groups in windows of the steps"
        sections.append(Section(title, "", [Figure(drawn) for drawn in _windows(found)]))
    return Study("attributes", "Which layer decides what", LEAD, sections, values, tables)


LEAD = (
    "Prompt 1 and prompt 2 differ in every attribute. Prompt 2 takes over more and more of the cross-attention layers; "
    "0: nothing of it shows, 1: all that shows when it has every layer. Bands: 95 %, bootstrap over prompt pairs."
)


def picture_grid(pplus: PPlus, pairs: Sequence[Pair], form: str, **sampling: Any) -> Image.Image:
    """A row for each pair, a column for each nested subset."""
    takeovers = subset_takeovers(pplus.layers)
    rows = [[pictures(pplus, [pair], t, [0], form, **sampling)[0] for t in takeovers] for pair in pairs]
    names = [f"{pair.prompt('first', form)} → {pair.prompt('second', form)}" for pair in pairs]
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


def _curve(scores: np.ndarray) -> dict[str, Any]:
    low, high = bands(scores)
    curve = relative(scores)
    raw = {"score": scores.mean(0), "relative": curve, "low": low, "high": high}
    return {name: [round(float(v), 4) for v in row] for name, row in raw.items()} | {"halfway": crossing(curve)}


def _windows(scores: Mapping[str, np.ndarray]) -> list[Image.Image]:
    spans = [f"{i / WINDOWS:.0%}–{(i + 1) / WINDOWS:.0%}" for i in range(WINDOWS)]
    return [
        figures.heat_map(
            relative(table)[1:-1].reshape(-1, WINDOWS),
            ("coarse", "medium", "fine"),
            spans,
            xlabel=f"denoising steps with prompt 2 ({name})",
            ylabel="layers",
            unit="share of prompt 2",
        )
        for name, table in scores.items()
    ]


def _crossing_section(
    title: str, text: str, figure: Image.Image, scores: Mapping[str, np.ndarray], values: dict[str, Any], key: str
) -> Section:
    """Curves and where they are halfway; the intervals go into ``values`` too."""
    found = intervals(scores, [order for order in ORDERS if set(order) <= set(scores)])
    values[key] = {name: [one.value, one.low, one.high] for name, one in found.items()}
    table = {"halfway, in columns of the figure": list(found), "value [95 %]": [str(one) for one in found.values()]}
    return Section(title, text, [Figure(figure)], table)


def _heat(alone: Mapping[str, Sequence[float]], layers: LayerMap) -> Image.Image:
    labels: dict[str, str] = {"xlabel": "the only layer with prompt 2", "ylabel": "attribute"}
    return figures.heat_map(
        np.array(list(alone.values())), list(alone), layers.names, unit="share of prompt 2", **labels
    )


READING = "Where each curve is halfway, counted in columns from the left; “a < b” is how much later b is than a."
