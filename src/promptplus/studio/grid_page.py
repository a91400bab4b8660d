"""The page that draws many pictures on one labelled sheet: prompts × concepts × sets of layers × seeds."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from promptplus.denoisers import denoiser_of
from promptplus.errors import ConceptError, PromptError, SettingsError
from promptplus.files import make_folder, write_new
from promptplus.generation import BATCH, generate
from promptplus.prompts import PPlusPrompt
from promptplus.report.picture_grid import labelled_grid
from promptplus.studio.components import offer_concepts, sheet, shown_sheet
from promptplus.studio.concept_files import ConceptFile
from promptplus.studio.job_view import JobView, Work
from promptplus.studio.jobs import Job, denoiser_calls
from promptplus.studio.workplace import Workplace, seeds_of, whole

MOST = 256  # pictures of a sheet
CELL = 128  # pixels of a picture on it
HOLE = "{}"  # where a prompt has the concept


@dataclass(frozen=True)
class GridPlan:
    """What a sheet shows.

    Attributes:
        rows: the prompt of each row.
        columns: a label, the layers with the other text ("" for none) and the seed of each column.
        other: the other text.
        concepts: whose tokens the texts use.
    """

    rows: list[str]
    columns: list[tuple[str, str, int]]
    other: str
    concepts: list[ConceptFile]

    def prompt(self, text: str, layers: str) -> PPlusPrompt:
        """The prompt of one picture."""
        parsed = PPlusPrompt.parse(text)
        return parsed.with_part(layers, self.other) if layers else parsed


def grid_page(place: Workplace) -> JobView:
    """Build the page, inside a tab. Returns what shows its job."""
    bands = place.pplus.layers.bands
    with gr.Row(equal_height=False):
        with gr.Column(scale=4):
            prompts = gr.Textbox(
                "a red house\na green fish",
                lines=4,
                label="Prompts, one in a line; {} is the concept",
                elem_id="grid-prompts",
            )
            concepts = gr.Dropdown([], multiselect=True, label="Concepts", elem_id="grid-concepts")
            layers = gr.Textbox(
                f"{bands[0]}\n{bands[-1]}", lines=3, label="Sets of layers, one in a line", elem_id="grid-layers"
            )
            other = gr.Textbox("a blue mushroom", label="Text of these layers", elem_id="grid-other")
            with gr.Row():
                seed = gr.Number(0, label="First seed", precision=0, minimum=0)
                count = gr.Number(2, label="Seeds", precision=0, minimum=1)
            button = gr.Button("Draw the sheet", variant="primary", elem_id="grid-start")
            view = JobView(place.jobs, "grid")
        with gr.Column(scale=7):
            drawn = sheet("grid-sheet")
    view.shows([drawn], lambda path: [shown_sheet(path, "The sheet")])
    offer_concepts(place, concepts)
    inputs = [prompts, concepts, layers, other, seed, count]
    view.begins([button.click], lambda *values: begin_grid(place, plan_of(place, *values)), inputs)
    return view


def plan_of(
    place: Workplace, prompts: str, labels: list[str] | None, layers: str, other: str, seed: float | None, count: float
) -> GridPlan:
    """Check the page's values. Raises PromptPlusError where one is wrong."""
    texts, sets = _lines(prompts), _lines(layers)
    if not texts:
        raise PromptError("there are no prompts; write one in each line")
    if sets and not other.strip():
        raise PromptError("the sets of layers have no text; write it, or remove the sets")
    chosen = [place.concept_files.labelled(label) for label in labels or []]
    if (holes := [text for text in texts if HOLE in text]) and not chosen:
        raise ConceptError(f"{holes[0]!r} has a place for a concept; choose concepts")
    filled = [[text.replace(HOLE, one.token) for one in chosen] if HOLE in text else [text] for text in texts]
    rows = [text for several in filled for text in several]
    seeds = seeds_of(seed, whole(count, "seeds"))
    columns = [(f"{spec or 'no layer'}, seed {one}", spec, one) for spec in ["", *sets] for one in seeds]
    if len(rows) * len(columns) > MOST:
        raise SettingsError(f"{len(rows)} × {len(columns)} pictures are too many; at most {MOST} are on one sheet")
    used = place.concept_files.of_texts([*rows, other], labels or [])
    plan = GridPlan(rows, columns, other.strip(), used)
    place.check_texts(*(plan.prompt(text, spec) for text in rows for _, spec, _ in columns))
    return plan


def begin_grid(place: Workplace, plan: GridPlan) -> tuple[str, Work]:
    """The job that draws a sheet."""
    prompts = [plan.prompt(text, spec) for text in plan.rows for _, spec, _ in plan.columns]
    seeds = [seed for _ in plan.rows for *_, seed in plan.columns]

    def work(job: Job) -> Path:
        pplus, width = place.pplus, len(plan.columns)
        calls = place.parameters(prompts[0]).steps * -(-len(prompts) // BATCH)
        with pplus.added([one.concept for one in plan.concepts]), denoiser_calls(job, denoiser_of(pplus.pipe), calls):
            made = generate(pplus, prompts, seeds)
        rows = [made[begin : begin + width] for begin in range(0, len(made), width)]
        columns = [label for label, *_ in plan.columns]
        drawn = labelled_grid(rows, row_labels=plan.rows, column_labels=columns, cell=CELL)
        names = (f"grid-{number:04d}.png" for number in range(10**6))
        return write_new(make_folder(place.pictures), names, lambda path: drawn.save(path, "PNG", optimize=True))

    return f"a sheet of {len(prompts)} pictures", work


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
