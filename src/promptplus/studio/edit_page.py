"""The page that edits a real picture: what it shows, and what some layers say instead."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from promptplus.denoisers import denoiser_of
from promptplus.editing.edit import SKIP, STEPS, EditSettings, check_edit
from promptplus.editing.sweep import layer_sets, sweep
from promptplus.errors import PromptError
from promptplus.generation import BATCH
from promptplus.generation_parameters import EditRecord, file_hash
from promptplus.pictures import read_picture
from promptplus.profiles import default_sampling
from promptplus.prompts import PPlusPrompt
from promptplus.start_image import StartImage
from promptplus.studio.components import PictureDrop, RecipeView, captioned, gallery, sheet, shown_sheet
from promptplus.studio.concept_files import ConceptFile
from promptplus.studio.job_view import JobView, Work
from promptplus.studio.jobs import Job, denoiser_calls
from promptplus.studio.layer_picker import layer_picker, with_texts
from promptplus.studio.recipe import Recipe, edit_recipe
from promptplus.studio.uploads import check_uploads, keep_uploads
from promptplus.studio.workplace import Workplace, seeds_of, whole

MOST_EDITS = 8


@dataclass(frozen=True)
class Edited:
    """What a job of the page made: edits, or the strip with every set of layers."""

    pictures: list[tuple[str, str]]
    recipe: Recipe | None
    strip: Image.Image | None


@dataclass(frozen=True)
class EditRequest:
    """The page's values, checked.

    Attributes:
        picture: a copy of the upload that stays.
        source, target: what the picture shows, and what is denoised with.
        concepts: whose tokens the two use.
    """

    picture: Path
    source: PPlusPrompt
    target: PPlusPrompt
    concepts: Sequence[ConceptFile]
    seeds: list[int]
    settings: EditSettings


def edit_page(place: Workplace) -> JobView:
    """Build the page, inside a tab. Returns what shows its job."""
    _, guidance = default_sampling(place.pplus.pipe)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5):
            picture = PictureDrop("The picture to edit", "edit", most=1)
            source = gr.Textbox("", label="What it shows", placeholder="a red car on sand", elem_id="edit-source")
            gr.Markdown("Click a band or a layer, and say what it shall show.", elem_classes="hint")
            picker = layer_picker(place.pplus.layers, "edit-layers")
            button = gr.Button("Edit", variant="primary", elem_id="edit-start")
            sweep_button = gr.Button("Show every set of layers", elem_id="edit-sweep")
            view = JobView(place.jobs, "edit")
            with gr.Accordion("Seed and sampling", open=False):
                with gr.Row():
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                    count = gr.Slider(1, MOST_EDITS, 2, step=1, label="Edits")
                with gr.Row():
                    steps = gr.Number(STEPS, label="Denoising steps", precision=0, minimum=1)
                    scale = gr.Number(guidance, label="Guidance scale", minimum=0)
                skip = gr.Slider(0, 0.9, SKIP, label="Skip: more keeps more of the picture")
        with gr.Column(scale=6):
            edits = gallery("Edits", "edit-pictures")
            strip = sheet("edit-strip")
            again = RecipeView("edit")

    def show(edited: Edited) -> list[Any]:
        if edited.recipe is None:
            return [gr.skip(), shown_sheet(edited.strip, "Every set of layers"), *(gr.skip() for _ in again.components)]
        return [gr.Gallery(edited.pictures, visible=True), gr.skip(), *again.values(edited.recipe)]

    view.shows([edits, strip, *again.components], show)
    inputs = [picture.files, source, picker, seed, count, steps, scale, skip]
    view.begins([button.click, picker.submit], lambda *values: begin_edit(place, request_of(place, *values)), inputs)
    view.begins([sweep_button.click], lambda *values: begin_strip(place, request_of(place, *values)), inputs)
    return view


def request_of(
    place: Workplace,
    files: Sequence[str],
    source: str,
    texts: Any,
    seed: float | None,
    count: float,
    steps: float | None,
    guidance: float | None,
    skip: float,
) -> EditRequest:
    """Check the page's values. Raises PromptPlusError where one is wrong."""
    uploaded = check_uploads(files, most=1)
    read_picture(uploaded[0])
    if not source.strip():
        raise PromptError("say what the picture shows, as: a red car on sand")
    described, target = PPlusPrompt.parse(source.strip()), with_texts(source, texts)
    if target == described:
        raise PromptError("no layer says anything else; click a band and give it a text")
    place.check_texts(described, target)
    settings = EditSettings(steps=whole(steps, "denoising steps"), guidance=guidance, skip=skip)
    check_edit(place.pplus.pipe, settings)
    concepts = place.concept_files.of_texts([*described, *target])
    kept = keep_uploads(uploaded, place.uploads / "edited") / f"00-{uploaded[0].name}"
    return EditRequest(kept, described, target, concepts, seeds_of(seed, count), settings)


def begin_edit(place: Workplace, asked: EditRequest) -> tuple[str, Work]:
    """The job that edits the picture."""
    settings = asked.settings
    record = EditRecord(source=str(asked.source), method=settings.method, skip=settings.skip)
    values = {"steps": settings.steps, "guidance": settings.guidance, "scheduler": "DDIMScheduler", "edit": record}

    def work(job: Job) -> Edited:
        start = StartImage(read_picture(asked.picture))
        image = asked.picture.name, file_hash(asked.picture)
        [(parameters, made)] = place.draw(
            job, [asked.target], asked.seeds, asked.concepts, start, calls_per_picture=2, image=image, **values
        )
        recipe = edit_recipe(parameters, asked.picture, asked.concepts, asked.seeds, place.model)
        return Edited(captioned(made, asked.seeds), recipe, None)

    return f"{len(asked.seeds)} edits", work


def begin_strip(place: Workplace, asked: EditRequest) -> tuple[str, Work]:
    """The job that edits the picture with every nested set of layers."""

    def work(job: Job) -> Edited:
        wanted = {layers for row in layer_sets(place.pplus.layers) for layers in row}
        calls = asked.settings.steps * (1 + -(-len(wanted) // BATCH))
        start = StartImage(read_picture(asked.picture))
        with (
            place.pplus.added([one.concept for one in asked.concepts]),
            denoiser_calls(job, denoiser_of(place.pplus.pipe), calls),
        ):
            options: dict[str, Any] = {"seed": asked.seeds[0], "settings": asked.settings}
            return Edited([], None, sweep(place.pplus, start, asked.source, asked.target, **options))

    return "an edit with every set of layers", work
