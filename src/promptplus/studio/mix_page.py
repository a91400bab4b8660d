"""The page that mixes two concepts: one's shape, the other's looks, and a slider over the split of the layers."""

import itertools
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from promptplus.denoisers import denoiser_of
from promptplus.errors import ConceptError
from promptplus.experiments.mix_judge import mix_at
from promptplus.files import write_new
from promptplus.generation import generate
from promptplus.layers import LayerMap
from promptplus.mixing import mix
from promptplus.prompts import PPlusPrompt
from promptplus.report.picture_grid import labelled_grid
from promptplus.studio.components import RecipeView, captioned, gallery, offer_concepts, sheet, shown_sheet
from promptplus.studio.concept_files import ConceptFile
from promptplus.studio.job_view import JobView, Work
from promptplus.studio.jobs import Job, denoiser_calls
from promptplus.studio.recipe import Recipe, mix_recipe, pictures_recipe
from promptplus.studio.try_page import TryPage
from promptplus.studio.workplace import Workplace, seeds_of

EVERY = "Every split: how many layers have the shape's concept"
PROMPT = "a photo of a {}"
COUNT = 4  # pictures of a mix, and columns of the sweep
CELL = 112  # pixels of a picture in the sweep


@dataclass(frozen=True)
class Mixed:
    """What a job of the page made: pictures of one split, or the sheet of all splits."""

    pictures: list[tuple[str, str]]
    recipe: Recipe | None
    sweep: Image.Image | None


def mix_page(place: Workplace, tried: TryPage, tabs: gr.Tabs) -> JobView:
    """Build the page, inside a tab. Returns what shows its job."""
    splits = place.pplus.layers.subsets()
    with gr.Row(equal_height=False):
        with gr.Column(scale=4):
            shape = gr.Dropdown([], label="Shape from", elem_id="mix-shape")
            style = gr.Dropdown([], label="Looks from", elem_id="mix-style")
            split = gr.Slider(0, len(splits) - 1, usual_split(place), step=1, label="Split", elem_id="mix-split")
            says = gr.Markdown(split_text(place.pplus.layers, usual_split(place)), elem_classes="hint")
            token = gr.Textbox("<mix>", label="Token of the mix", elem_id="mix-token")
            seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            button = gr.Button("Mix", variant="primary", elem_id="mix-start")
            sweep_button = gr.Button("Show every split", elem_id="mix-sweep")
            view = JobView(place.jobs, "mix")
        with gr.Column(scale=6):
            pictures = gallery("The mix", "mix-pictures", columns=COUNT)
            sheet_of_all = sheet("mix-sheet")
            again = RecipeView("mix")
            try_it = gr.Button("Try it", visible=False)

    def show(mixed: Mixed) -> list[Any]:
        recipe = again.values(mixed.recipe) if mixed.recipe else [gr.skip() for _ in again.components]
        made = gr.Gallery(mixed.pictures, visible=True) if mixed.pictures else gr.skip()
        whole_sheet = shown_sheet(mixed.sweep, EVERY) if mixed.sweep else gr.skip()
        return [made, whole_sheet, gr.Button(visible=bool(mixed.pictures)) if mixed.pictures else gr.skip(), *recipe]

    view.shows([pictures, sheet_of_all, try_it, *again.components], show)
    for field in (shape, style):
        offer_concepts(place, field)
    split.change(lambda at: split_text(place.pplus.layers, int(at)), split, says, queue=False, show_progress="hidden")
    inputs = [shape, style, split, token, seed]
    view.begins([button.click], partial(begin_mix, place), inputs)
    view.begins([sweep_button.click], partial(begin_sweep, place), inputs)
    try_it.click(lambda name: [PROMPT.format(name.strip()), gr.Tabs(selected="try")], token, [tried.prompt, tabs])
    return view


def usual_split(place: Workplace) -> int:
    """The number of the nested set of layers that are the coarse ones, or nearest to a transformer's early ones."""
    layers = place.pplus.layers
    sizes, wanted = [len(subset) for subset in layers.subsets()], len(layers.group(layers.bands[0]))
    return min(range(1, len(sizes)), key=lambda number: abs(sizes[number] - wanted))


def split_text(layers: LayerMap, split: int) -> str:
    """Which layers take the rows of the shape's concept."""
    chosen = layers.subsets()[split]
    if not chosen:
        return "The shape's concept has no layer: all rows are the looks' concept's."
    return f"The shape's concept has {len(chosen)} of {len(layers)} layers: {layers.describe(chosen)}."


def begin_mix(
    place: Workplace, shape: str | None, style: str | None, split: float, token: str, seed: float | None
) -> tuple[str, Work]:
    """The job that mixes two concepts, saves the mix, and draws it. Raises PromptPlusError on a wrong value."""
    first, second = _chosen(place, shape, style)
    name = place.pplus.check_token(token.strip())
    chosen = place.pplus.layers.subsets()[int(split)]
    if not chosen:
        raise ConceptError("with no layer from the shape's concept there is nothing to mix; move the slider")
    layers, seeds = ",".join(map(str, chosen)), seeds_of(seed, COUNT)
    mixed = mix(first.concept, second.concept, name, layers)

    def save(file: Path) -> None:
        mixed.save(file)

    def work(job: Job) -> Mixed:
        stem = name.strip("<>")
        names = (f"{stem}{f'-{number}' if number > 1 else ''}.safetensors" for number in itertools.count(1))
        path = write_new(place.mixes, names, save)
        file = ConceptFile(mixed, path, name)
        [(parameters, made)] = place.draw(job, [PPlusPrompt.parse(PROMPT.format(name))], seeds, [file])
        recipe = mix_recipe(first, second, layers, name, path, pictures_recipe(parameters, [file], seeds, place.model))
        return Mixed(captioned(made, seeds), recipe, None)

    return f"mixing {first.token} and {second.token}", work


def begin_sweep(
    place: Workplace, shape: str | None, style: str | None, _split: float, token: str, seed: float | None
) -> tuple[str, Work]:
    """The job that draws every split. Raises PromptPlusError on a wrong value."""
    first, second = _chosen(place, shape, style)
    name, seeds = place.pplus.check_token(token.strip()), seeds_of(seed, COUNT)
    splits = place.pplus.layers.subsets()

    def work(job: Job) -> Mixed:
        rows: list[list[Image.Image]] = []
        steps = place.parameters(PPlusPrompt(PROMPT)).steps
        with denoiser_calls(job, denoiser_of(place.pplus.pipe), steps * len(splits)):
            for layers in splits:
                mixed = mix_at(first.concept, second.concept, name, layers)
                with place.pplus.added([mixed]):
                    rows.append(generate(place.pplus, [PROMPT.format(name)] * COUNT, seeds))
        labels = [f"{len(layers)} of {len(place.pplus.layers)}" for layers in splits]
        columns = [list(row) for row in zip(*rows, strict=True)]
        grid = labelled_grid(columns, row_labels=[f"seed {one}" for one in seeds], column_labels=labels, cell=CELL)
        return Mixed([], None, grid)

    return f"every split of {first.token} and {second.token}", work


def _chosen(place: Workplace, shape: str | None, style: str | None) -> tuple[ConceptFile, ConceptFile]:
    if not shape or not style:
        raise ConceptError("choose two concepts; learn them on the page Learn where there are none")
    return place.concept_files.labelled(shape), place.concept_files.labelled(style)
