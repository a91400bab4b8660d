"""The page that looks inside: where layers look, what they decide, and what a concept's rows are near to."""

from functools import partial
from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image

from promptplus.denoisers import denoiser_of
from promptplus.errors import PromptError
from promptplus.experiments import attributes
from promptplus.experiments.attention import LabelledPrompt, attention_grid
from promptplus.experiments.takeover import judges_for
from promptplus.experiments.token_density import nearest_words
from promptplus.generation import BATCH
from promptplus.profiles import default_sampling, profile_of
from promptplus.studio.components import offer_concepts, sheet, shown_sheet
from promptplus.studio.job_view import QUIET, JobView, Work
from promptplus.studio.jobs import Job, denoiser_calls
from promptplus.studio.workplace import Workplace, seeds_of, whole

PAIRS = 8  # prompt pairs of the curves; the study takes 64
MOST_PAIRS = 64
CURVES = "How much of the second prompt is seen, by the number of layers that have it"
SAME_PICTURES = "From left to right, more layers have the second prompt"
NEAREST = 3  # words that are shown for a row


def inside_page(place: Workplace) -> list[JobView]:
    """Build the page, inside a tab. Returns what shows its jobs."""
    with gr.Tabs():
        with gr.Tab("Attention"):
            attention = _attention(place)
        with gr.Tab("Attributes"):
            curves = _attributes(place)
        with gr.Tab("A concept's rows"):
            _rows(place)
    return [attention, curves]


def _attention(place: Workplace) -> JobView:
    words = profile_of(place.pplus.pipe).words
    thing, colour = words["object"][0], words["colour"][0]
    with gr.Row(equal_height=False):
        with gr.Column(scale=3):
            text = gr.Textbox(f"a {colour} {thing}", label="Prompt of all layers", elem_id="inside-prompt")
            noun = gr.Textbox(thing, label="The word for the object", elem_id="inside-object")
            looks = gr.Textbox(colour, label="Words for its looks, with commas between")
            seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            button = gr.Button("Show where layers look", variant="primary", elem_id="inside-attention")
            view = JobView(place.jobs, "attention")
        gr.Column(scale=7)
    maps = sheet("inside-maps")  # below the fields: it is as wide as the page
    view.shows([maps], lambda picture: [shown_sheet(picture, "A row for each word, a column for each layer")])
    view.begins([button.click], partial(begin_attention, place), [text, noun, looks, seed])
    return view


def begin_attention(place: Workplace, text: str, noun: str, looks: str, seed: float | None) -> tuple[str, Work]:
    """The job that draws attention over a picture. Raises PromptPlusError on a wrong value."""
    appearance = tuple(word.strip() for word in looks.split(",") if word.strip())
    for word in (noun.strip(), *appearance):
        if not word or word not in text:
            raise PromptError(f"the word {word!r} is not in the prompt {text!r}; write a word of the prompt")
    concepts = [one.concept for one in place.concept_files.of_texts([text])]
    steps, _ = default_sampling(place.pplus.pipe)
    first = seeds_of(seed, 1)[0]

    def work(job: Job) -> Image.Image:
        with place.pplus.added(concepts), denoiser_calls(job, denoiser_of(place.pplus.pipe), steps):
            return attention_grid(place.pplus, LabelledPrompt(text, noun.strip(), appearance), first)[0]

    return "attention maps", work


def _attributes(place: Workplace) -> JobView:
    with gr.Row(equal_height=False):
        with gr.Column(scale=3):
            gr.Markdown(
                "A second prompt takes over the layers, coarse to fine. The curves show how much of it is seen.",
                elem_classes="hint",
            )
            pairs = gr.Slider(2, MOST_PAIRS, PAIRS, step=1, label="Prompt pairs")
            button = gr.Button("Measure", variant="primary", elem_id="inside-attributes")
            view = JobView(place.jobs, "attributes")
        with gr.Column(scale=7):
            curves, pictures = sheet("inside-curves"), sheet("inside-pictures")
    view.shows([curves, pictures], lambda made: [shown_sheet(made[0], CURVES), shown_sheet(made[1], SAME_PICTURES)])
    view.begins([button.click], partial(begin_attributes, place), [pairs])
    return view


def begin_attributes(place: Workplace, pairs: float) -> tuple[str, Work]:
    """The job that measures what the nested sets of layers decide, in a few prompt pairs."""
    count, pplus = whole(pairs, "prompt pairs", least=2), place.pplus
    words = profile_of(pplus.pipe).words
    steps, _ = default_sampling(pplus.pipe)

    def work(job: Job) -> tuple[Image.Image, Image.Image]:
        judges = judges_for(pplus.pipe, None, words)
        settings = attributes.AttributeStudySettings(words, judges, count, parts=("subsets",))
        pictures = (count + min(count, attributes.SHOWN)) * len(pplus.layers.subsets())
        with denoiser_calls(job, denoiser_of(pplus.pipe), steps * -(-pictures // BATCH)):
            study = attributes.study(pplus, settings, progress=False)
        figures = [figure.picture for section in study.sections for figure in section.figures]
        return figures[0], figures[-1]

    return f"attributes in {count} prompt pairs", work


def _rows(place: Workplace) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=3):
            concept = gr.Dropdown([], label="Concept", elem_id="inside-concept")
        with gr.Column(scale=7):
            norms = gr.BarPlot(x="layer", y="norm", sort=None, height=260, label="Norms of the rows", visible=False)
            table = gr.Dataframe(label="Nearest words", headers=["layer", "norm", "nearest words"], visible=False)
    offer_concepts(place, concept)
    concept.input(partial(show_rows, place), concept, [norms, table], **QUIET)


def show_rows(place: Workplace, label: str | None) -> list[Any]:
    """The norms of a concept's rows by layer, and the nearest words of each row."""
    if not label:
        return [gr.BarPlot(visible=False), gr.Dataframe(visible=False)]
    near = nearest_words(place.pplus, place.concept_files.labelled(label).concept, NEAREST)
    bars = pd.DataFrame({"layer": [one.layer for one in near], "norm": [one.norm for one in near]})
    words = [", ".join(f"{word} ({distance:.2f})" for word, distance in one.words) for one in near]
    rows = [[one.layer, f"{one.norm:.2f}", text] for one, text in zip(near, words, strict=True)]
    order = list(dict.fromkeys(one.layer for one in near))
    return [gr.BarPlot(bars, sort=order, visible=True), gr.Dataframe(rows, visible=True)]
