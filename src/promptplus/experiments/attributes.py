"""The study of what each layer decides, and whether layers or denoising steps decide it (paper section 3.1)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float
from PIL import Image

from promptplus.experiments.split import measure_split
from promptplus.experiments.study import Study
from promptplus.experiments.takeover import (
    FORM,
    PromptPair,
    Takeover,
    TakeoverJudge,
    combine_judges,
    draw_pairs,
    measure,
    single_takeovers,
    split_by_judge,
    step_takeovers,
    subset_takeovers,
    takeover_pictures,
    window_takeovers,
)
from promptplus.experiments.takeover_curves import PAPER, curve_numbers, intervals, relative, takeover_figure
from promptplus.layers import LayerMap
from promptplus.pplus import PPlus
from promptplus.profiles import SamplingOptions, Words
from promptplus.report import figures
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

SHOWN = 4  # pairs in the picture grid
WINDOWS = 4  # parts of the denoising in the map of layers and steps
ORDERS = [("object", "style"), ("style", "colour"), ("object", "colour")]
PARTS = ("subsets", "split", "steps", "single", "windows")
TIMED = ("steps", "windows")  # texts change during the denoising
LEAD = (
    "Prompt 1 and prompt 2 differ in object, colour and style. Step by step, more cross-attention layers get prompt 2 "
    "instead of prompt 1. The curves show how much of prompt 2 is in the picture. 0: as much as with no layer. 1: as "
    "much as with all layers. Bands: 95 %, bootstrap over prompt pairs."
)
POOLED = (
    " Stable Diffusion XL also takes a pooled embedding: prompt 1's, but prompt 2's where all layers have prompt 2 in "
    "all steps. So the last column holds what the pooled embedding decides, too."
)
READING = (
    "The table gives the column where each curve reaches one half, counted from 0 at the left. “a < b” is the column "
    "of b minus the column of a."
)

Scores = Mapping[str, Mapping[str, Float[np.ndarray, "pairs takeovers"]]]
"""Scores by judge and attribute."""
MeasureFunction = Callable[[Sequence[Takeover]], Scores]


@dataclass(frozen=True)
class AttributeStudySettings:
    """What the study measures.

    Attributes:
        words: the words of each attribute. Pairs of prompts are drawn from them.
        judges: by name. All judges see the same pictures; the claims are about the first one.
        pairs: the number of prompt pairs.
        seeds: the number of pictures of each pair and takeover.
        map_seeds: the same for the two heat maps, which need many more pictures; default: ``seeds``.
        form: the prompts' form.
        parts: which of ``PARTS`` are measured.
    """

    words: Words
    judges: Mapping[str, TakeoverJudge]
    pairs: int = 64
    seeds: int = 1
    map_seeds: int | None = None
    form: str = FORM
    parts: Sequence[str] = PARTS


@dataclass(frozen=True)
class StudyPart:
    """The sections, numbers and tables of one part of the study; ``values``: by judge."""

    sections: Sequence[Section]
    values: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, Table] = field(default_factory=dict)


def study(
    pplus: PPlus, settings: AttributeStudySettings, *, progress: bool = True, **sampling: Unpack[SamplingOptions]
) -> Study:
    """Measure the parts that the settings name: subsets of layers, the split test, steps, single layers, windows.

    A diffusion transformer's texts cannot change during the denoising, so for it ``TIMED`` parts are left out.
    """
    pairs, layers = draw_pairs(settings.words, settings.pairs), pplus.layers
    score = combine_judges({name: judge.score for name, judge in settings.judges.items()})

    def measure_with(seeds: int) -> MeasureFunction:
        return lambda takeovers: split_by_judge(
            measure(pplus, pairs, takeovers, range(seeds), score, form=settings.form, progress=progress, **sampling)
        )

    map_seeds = settings.map_seeds or settings.seeds
    measured, mapped = measure_with(settings.seeds), measure_with(map_seeds)
    make: dict[str, Callable[[], StudyPart]] = {
        "subsets": lambda: _subsets(measured, layers, picture_grid(pplus, pairs[:SHOWN], settings.form, **sampling)),
        "split": lambda: _split(pplus, settings, progress, sampling),
        "steps": lambda: _steps(measured, layers),
        "single": lambda: _single(mapped, layers),
        "windows": lambda: _windows(mapped, layers),
    }
    able = [name for name in PARTS if not (layers.by_depth and name in TIMED)]  # one mask for the whole denoising
    parts = [make[name]() for name in able if name in settings.parts]
    by_judge = {
        name: {key: value for part in parts for key, value in part.values.get(name, {}).items()}
        for name in settings.judges
    }
    counts = {"pairs": settings.pairs, "seeds": settings.seeds, "map_seeds": map_seeds}
    values = {**counts, "form": settings.form, "by_judge": by_judge}
    sections = [section for part in parts for section in part.sections]
    tables = {name: table for part in parts for name, table in part.tables.items()}
    lead = LEAD + (POOLED if any(encoder.pools for encoder in pplus.encoders) else "")
    return Study("attributes", "What each layer decides", lead, sections, values, tables)


def _subsets(measured: MeasureFunction, layers: LayerMap, grid: Image.Image) -> StudyPart:
    scores, sizes = measured(subset_takeovers(layers)), [str(len(subset)) for subset in layers.subsets()]
    drawn = _figures("subsets", scores, sizes, "number of layers with prompt 2, coarse to fine", PAPER)
    section, halfway = _halfway("From coarse to fine", READING, drawn, scores)
    shown = Section("Pictures", "From left to right, more layers get prompt 2.", [Figure(grid, name="same-pictures")])
    curves = {judge: {name: curve_numbers(table) for name, table in own.items()} for judge, own in scores.items()}
    relatives = {f"{name}, {judge}": c["relative"] for judge, own in curves.items() for name, c in own.items()}
    values = {judge: {"halfway": halfway[judge], "subsets": curves[judge]} for judge in scores}
    return StudyPart([section, shown], values, {"subsets": {"layers": sizes, **relatives}})


SHARES = {
    "object": "the object of the coarse layers' prompt",
    "colour": "the colour of the other layers' prompt",
    "both": "both in one picture",
    "leak": "the colour of the coarse layers' prompt",
    "one_object": "one prompt for all layers: its object",
    "one_colour": "one prompt for all layers: its colour",
}


def _split(pplus: PPlus, settings: AttributeStudySettings, progress: bool, sampling: SamplingOptions) -> StudyPart:
    judges = {name: judge.classify for name, judge in settings.judges.items()}
    objects, colours = settings.words["object"], settings.words["colour"]
    results = measure_split(pplus, judges, objects, colours, settings.seeds, progress=progress, **sampling)
    table: Table = {"share of pictures [95 %]": list(SHARES.values())}
    table |= {judge: [str(getattr(result, name)) for name in SHARES] for judge, result in results.items()}
    text = (
        f"The prompt of the coarse layers is “a {colours[0]} OBJECT”, that of all other layers “a COLOUR object”. "
        f"{len(objects)} objects × {settings.seeds} seeds. CLIP chooses among these words: by chance it is right in "
        f"{1 / len(objects):.3f} of the objects and {1 / len(colours):.3f} of the colours. Intervals: bootstrap over "
        "objects."
    )
    values = {
        judge: {
            "split": {name: list(asdict(getattr(result, name)).values()) for name in SHARES}
            | {"pictures": result.pictures}
        }
        for judge, result in results.items()
    }
    return StudyPart([Section("Object and colour from two prompts", text, table=table)], values, {"split": table})


def _steps(measured: MeasureFunction, layers: LayerMap) -> StudyPart:
    takeovers = step_takeovers(layers)
    scores, ticks = measured(takeovers), [f"{1 - takeover.start:.0%}" for takeover in takeovers]
    drawn = _figures("steps", scores, ticks, "share of the denoising steps with prompt 2, counted from the last", None)
    text = "All layers get prompt 2, but only from a denoising step on."
    section, halfway = _halfway("Layers or steps?", text, drawn, scores)
    curves = {judge: {name: curve_numbers(table) for name, table in own.items()} for judge, own in scores.items()}
    values = {judge: {"halfway_by_steps": halfway[judge], "steps": curves[judge]} for judge in scores}
    return StudyPart([section], values)


def _single(measured: MeasureFunction, layers: LayerMap) -> StudyPart:
    scores, columns = measured(single_takeovers(layers)), _columns_of_single(layers)
    alone = {
        judge: {name: relative(table)[list(columns.values())].tolist() for name, table in own.items()}
        for judge, own in scores.items()
    }
    drawn = [
        Figure(_heat_map(own, list(columns)), f"judge: {judge}", name=f"single-{judge}") for judge, own in alone.items()
    ]
    values = {
        judge: {"alone": {name: dict(zip(columns, row, strict=True)) for name, row in own.items()}}
        for judge, own in alone.items()
    }
    rows = {f"{name}, {judge}": row for judge, own in alone.items() for name, row in own.items()}
    text = "In each column, one transformer or one block has prompt 2; all other layers have prompt 1."
    title = "Each transformer and each block alone"
    if len(layers.transformers) == len(layers):  # each has one layer
        text, title = text.replace("transformer", "layer"), title.replace("transformer", "layer")
    return StudyPart([Section(title, text, drawn)], values, {"single": {"only": list(columns), **rows}})


def _columns_of_single(layers: LayerMap) -> dict[str, int]:
    """The column of ``single_takeovers`` of each transformer, then of each block, by name.

    A block of one transformer has that transformer's column. In a diffusion transformer both are the same.
    """
    columns = {takeover.layers: column for column, takeover in enumerate(single_takeovers(layers))}
    blocks = {} if layers.by_depth else layers.blocks
    of_transformers = {name: columns[part] for name, part in layers.transformers.items()}
    return of_transformers | {f"block {name}": columns[part] for name, part in blocks.items()}


def _windows(measured: MeasureFunction, layers: LayerMap) -> StudyPart:
    scores = measured(window_takeovers(layers, WINDOWS))
    spans = [f"{i / WINDOWS:.0%}–{(i + 1) / WINDOWS:.0%}" for i in range(WINDOWS)]
    groups, drawn = [name for name in layers.bands if layers.group(name)], []
    values: dict[str, dict[str, Any]] = {}
    for judge, own in scores.items():
        tables = {name: relative(table)[1:-1].reshape(-1, WINDOWS) for name, table in own.items()}
        for name, table in tables.items():
            labels = {"xlabel": f"denoising steps with prompt 2 ({name})", "ylabel": "layers"}
            heat = figures.heat_map(table, groups, spans, unit="share of prompt 2", **labels)
            drawn.append(Figure(heat, f"judge: {judge}", name=f"windows-{name}-{judge}"))
        values[judge] = {"windows": {n: dict(zip(groups, t.tolist(), strict=True)) for n, t in tables.items()}}
    return StudyPart([Section("Groups of layers in parts of the denoising", "", drawn)], values)


def picture_grid(
    pplus: PPlus,
    pairs: Sequence[PromptPair],
    form: str,
    label: str | None = None,
    **sampling: Unpack[SamplingOptions],
) -> Image.Image:
    """Pictures of the nested subsets: a row for each pair, a column for each subset.

    ``label``: the form of the prompts in the row labels; default: ``form``.
    """
    takeovers = subset_takeovers(pplus.layers)
    rows = [[takeover_pictures(pplus, [pair], t, [0], form, **sampling)[0] for t in takeovers] for pair in pairs]
    names = [f"{pair.prompt('first', label or form)}\n{pair.prompt('second', label or form)}" for pair in pairs]
    columns = [f"{len(subset)} layers" for subset in pplus.layers.subsets()]
    return labelled_grid(rows, row_labels=names, column_labels=columns, cell=96)


def _figures(
    name: str, scores: Scores, ticks: Sequence[str], xlabel: str, paper: Mapping[str, Sequence[float]] | None
) -> list[Figure]:
    """A figure for each judge."""
    return [
        Figure(takeover_figure(own, ticks, xlabel, paper), f"judge: {judge}", name=f"{name}-{judge}")
        for judge, own in scores.items()
    ]


def _halfway(
    title: str, text: str, drawn: Sequence[Figure], scores: Scores
) -> tuple[Section, dict[str, dict[str, list[float]]]]:
    """A section with curves and a table of where they reach one half; these numbers by judge and name."""
    by_judge = {
        judge: intervals(own, [order for order in ORDERS if set(order) <= set(own)]) for judge, own in scores.items()
    }
    names = list(dict.fromkeys(name for own in by_judge.values() for name in own))
    table: Table = {"one half is reached at column": names}
    table |= {f"{judge} [95 %]": [str(own.get(name, "")) for name in names] for judge, own in by_judge.items()}
    numbers = {
        judge: {name: [one.value, one.low, one.high] for name, one in own.items()} for judge, own in by_judge.items()
    }
    return Section(title, text, drawn, table), numbers


def _heat_map(alone: Mapping[str, Sequence[float]], names: Sequence[str]) -> Image.Image:
    labels: dict[str, str] = {"xlabel": "the only layer or block with prompt 2", "ylabel": "attribute"}
    return figures.heat_map(np.array(list(alone.values())), list(alone), names, unit="share of prompt 2", **labels)
