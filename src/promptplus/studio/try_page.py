"""The first page: one prompt, other texts for some layers, and the pictures of both side by side."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from promptplus.models import POCKET
from promptplus.profiles import default_sampling
from promptplus.prompts import PPlusPrompt
from promptplus.studio.components import RecipeView, captioned, gallery, offer_concepts
from promptplus.studio.concept_files import ConceptFile
from promptplus.studio.job_view import JobView, Work
from promptplus.studio.jobs import Job
from promptplus.studio.layer_picker import layer_picker, with_texts
from promptplus.studio.recipe import Recipe, pictures_recipe
from promptplus.studio.workplace import MOST_PICTURES, Workplace, seeds_of, whole

FIRST_PROMPT = {POCKET: "a green cat on a white background"}
USUAL_PROMPT = "a photo of a green cat"
LARGEST_SEED = 2**31 - 1  # of a field; the command line takes larger ones


@dataclass(frozen=True)
class Drawn:
    """What a job drew: pictures of the prompt alone, and of the prompt with other texts, from the same seeds."""

    plain: list[tuple[str, str]]
    layered: list[tuple[str, str]]
    recipe: Recipe


@dataclass(frozen=True)
class TryPage:
    """What other pages change on this one.

    Attributes:
        prompt: the field of the prompt.
        drop: where pictures of a thing to learn are dropped.
        view: shows the page's job.
    """

    prompt: gr.Textbox
    drop: gr.File
    view: JobView


def try_page(place: Workplace) -> TryPage:
    """Build the page, inside a tab."""
    steps, guidance = default_sampling(place.pplus.pipe)
    first = FIRST_PROMPT.get(place.model.name, USUAL_PROMPT)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5):
            prompt = gr.Textbox(first, label="Prompt", lines=1, max_lines=3, elem_id="try-prompt", submit_btn=False)
            gr.Markdown("Click a band or a layer to give it another text.", elem_classes="hint")
            picker = layer_picker(place.pplus.layers, "try-layers")
            button = gr.Button("Generate", variant="primary", elem_id="try-generate")
            view = JobView(place.jobs, "try")
            with gr.Accordion("Concepts, seed and sampling", open=False):
                concepts = gr.Dropdown([], multiselect=True, label="Concepts", elem_id="try-concepts")
                gr.Markdown("A chosen concept's token goes to the end of the prompt.", elem_classes="hint")
                with gr.Row():
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED)
                    count = gr.Slider(1, MOST_PICTURES, 4, step=1, label="Pictures")
                with gr.Row():
                    step_count = gr.Number(steps, label="Denoising steps", precision=0, minimum=1)
                    scale = gr.Number(guidance, label="Guidance scale", minimum=0)
                negative = gr.Textbox("", label="Negative prompt")
            drop = gr.File(
                label="Teach it a thing: drop 1 to 10 pictures", file_count="multiple", height=150, elem_id="try-drop"
            )
        with gr.Column(scale=6):
            with gr.Row():
                plain = gallery("One prompt", "try-plain")
                layered = gallery("With your layers' texts", "try-layered")
            again = RecipeView("try")

    def show(drawn: Drawn) -> list[Any]:
        both = [gr.Gallery(made, visible=bool(made)) for made in (drawn.plain, drawn.layered)]
        return [*both, *again.values(drawn.recipe)]

    view.shows([plain, layered, *again.components], show)

    inputs = [prompt, picker, concepts, seed, count, step_count, scale, negative]
    view.begins([button.click, prompt.submit, picker.submit], partial(begin_try, place), inputs)
    offer_concepts(place, concepts)
    concepts.input(lambda text, labels: with_tokens(place, text, labels), [prompt, concepts], prompt, queue=False)
    return TryPage(prompt, drop, view)


def begin_try(
    place: Workplace,
    text: str,
    texts: Any,
    chosen: list[str],
    seed: float | None,
    count: float,
    steps: float | None,
    guidance: float | None,
    negative: str,
) -> tuple[str, Work]:
    """The job of the page's values. Raises PromptPlusError where one is wrong."""
    prompt, unwanted = with_texts(text, texts), PPlusPrompt.parse(negative)
    place.check_texts(prompt, unwanted)
    concepts = place.concept_files.of_texts([*prompt, *unwanted], chosen or [])
    seeds = seeds_of(seed, count)
    values = {"steps": whole(steps, "denoising steps"), "guidance": guidance, "negative": str(unwanted)}
    alone = PPlusPrompt.parse(text.strip())
    prompts = [alone, prompt] if prompt != alone else [alone]

    def work(job: Job) -> Drawn:
        made = place.draw(job, prompts, seeds, concepts, **values)
        parameters, last = made[-1]
        recipe = pictures_recipe(parameters, concepts, seeds, place.model)
        layered = captioned(last, seeds) if len(made) > 1 else []
        return Drawn(captioned(made[0][1], seeds), layered, recipe)

    many = len(prompts) * len(seeds)
    return f"{many} picture{'s' if many > 1 else ''}", work


def with_tokens(place: Workplace, text: str, labels: list[str]) -> str:
    """The prompt with the tokens of the chosen concepts that are not in it yet."""
    files: list[ConceptFile] = [place.concept_files.labelled(label) for label in labels or []]
    missing = [one.token for one in files if one.token not in text]
    return " ".join([text.rstrip(), *missing])
