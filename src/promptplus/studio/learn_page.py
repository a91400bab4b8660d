"""The page that learns a concept: pictures, a token and a class word; the training is watched while it runs."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import pandas as pd

from promptplus.choices import InversionMethod, Kind, Preset
from promptplus.datasets import FolderNote, read_dataset
from promptplus.errors import ConceptError
from promptplus.files import free_folder
from promptplus.report.figures import WINDOW, running_means
from promptplus.report.picture_grid import labelled_grid
from promptplus.studio.components import PictureDrop, sheet, shown_sheet
from promptplus.studio.concept_files import shown
from promptplus.studio.job_view import QUIET, JobView, Work
from promptplus.studio.jobs import Job
from promptplus.studio.training_runs import (
    CELL,
    STRIPS,
    RunStatus,
    preview_sheet,
    read_run,
    run_folders,
    train,
)
from promptplus.studio.try_page import TryPage
from promptplus.studio.uploads import MOST, check_uploads, keep_uploads
from promptplus.studio.workplace import Workplace, whole
from promptplus.training.previews import preview_prompt
from promptplus.training.run_folder import read_class_word_previews, read_previews
from promptplus.training.settings import InversionSettings, inversion_settings, value_of_text

POLL = 1.5  # seconds between looks at a run folder
NO_RUN = "No run is chosen."


@dataclass(frozen=True)
class LearnPage:
    """What other pages change on this one.

    Attributes:
        pictures: what was dropped.
        view: shows the page's job.
        run: the folder of the run that is watched; the browser keeps it in ``last_run``.
        timer: looks at it.
    """

    pictures: PictureDrop
    view: JobView
    run: gr.Dropdown
    last_run: gr.BrowserState
    timer: gr.Timer

    def on_load(self, blocks: gr.Blocks) -> None:
        """When the page is loaded again, go on watching the run of before."""
        self.view.on_load(blocks)
        self.last_run.render()
        self.timer.render()
        blocks.load(lambda folder: folder or None, self.last_run, self.run, queue=False, show_progress="hidden")


def learn_page(place: Workplace, tried: TryPage, tabs: gr.Tabs) -> LearnPage:
    """Build the page, inside a tab."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4):
            pictures = PictureDrop(f"1 to {MOST} pictures of one thing", "learn")
            token = gr.Textbox("", label="Token", placeholder="<cat>", elem_id="learn-token")
            word = gr.Textbox("", label="Class word: what it is", placeholder="cat", elem_id="learn-word")
            preset = gr.Dropdown(list(get_args(Preset)), value="fast", label="Preset", elem_id="learn-preset")
            with gr.Accordion("Advanced", open=False):
                kind = gr.Radio(list(get_args(Kind)), value="object", label="What is learned")
                method = gr.Dropdown(["", *get_args(InversionMethod)], value="", label="Method (empty: the preset's)")
                # texts: an empty field of numbers comes back as 0
                steps = gr.Textbox("", label="Steps (empty: the preset's)", elem_id="learn-steps")
                rate = gr.Textbox("", label="Learning rate (empty: the preset's)")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            button = gr.Button("Learn", variant="primary", elem_id="learn-start")
            view = JobView(place.jobs, "learn", cancel="Stop, and keep what is learned")
            view.shows([], lambda result: ())
        with gr.Column(scale=6):
            run = gr.Dropdown([], label="Run to watch", elem_id="learn-run", allow_custom_value=True)
            state = gr.HTML(NO_RUN, elem_id="learn-state")
            curve = gr.LinePlot(x="step", y="loss", color="of", height=320, label="Loss", visible=False)
            strip = sheet("learn-previews")
            pair = sheet("learn-pair")
            again = gr.Button("Try it", visible=False, elem_id="learn-try")
    seen = gr.State("")
    chosen, timer = gr.BrowserState("", storage_key="promptplus-run", render=False), gr.Timer(POLL, render=False)
    changing = [seen, state, curve, strip, pair, again]

    timer.tick(partial(watch_run, place), [run, seen], changing, **QUIET)
    run.change(lambda folder: [folder, ""], run, [chosen, seen], **QUIET)
    run.focus(lambda: gr.Dropdown(_choices(place)), None, run, **QUIET)

    inputs = [pictures.files, token, word, preset, kind, method, steps, rate, seed]
    view.begins([button.click], partial(begin_training, place), inputs, [run])
    again.click(partial(_try, place), run, [tried.prompt, tabs], **QUIET)
    return LearnPage(pictures, view, run, chosen, timer)


def begin_training(
    place: Workplace,
    files: Sequence[str] | None,
    token: str,
    word: str,
    preset: Preset,
    kind: Kind,
    method: str,
    steps: str,
    rate: str,
    seed: float | None,
) -> tuple[str, Work, Any]:
    """The job that trains, and the run folder to watch. Raises PromptPlusError where a value is wrong."""
    uploaded = check_uploads(files)
    name = token.strip() if token.strip().startswith("<") else f"<{token.strip()}>"
    place.pplus.check_token(name)
    if not (word := word.strip()):
        raise ConceptError("the class word is empty; write what the thing is in one plain word, as cat")
    options: dict[str, Any] = {"method": method} if method else {}
    for key, text in {"steps": steps, "learning_rate": rate}.items():
        if text.strip():
            options[key] = value_of_text(InversionSettings, key, text.strip())
    options["seed"] = whole(seed, "the seed", least=0)
    settings = inversion_settings(preset, options)
    read_dataset([str(path) for path in uploaded], FolderNote(token=name, initializer=word))
    plain = re.sub(r"[^\w-]+", "-", name.strip("<>"))
    out = free_folder(place.runs / plain)
    pictures = keep_uploads(uploaded, place.uploads / plain)
    command = ["invert", shown(pictures), "--token", name, "--initializer", word, "--kind", kind, "--preset", preset]
    for key, value in options.items():
        command += [f"--{key.replace('_', '-')}", str(value)]
    command += ["--preview-every", str(_interval(settings.steps)), "--out", shown(out), *place.model.options]

    def work(job: Job) -> RunStatus:
        return train(job, command, out, place.outputs / f"{out.name}.txt")

    return f"learning {name}", work, gr.Dropdown(choices=[*_choices(place), (name, str(out))], value=str(out))


def watch_run(place: Workplace, folder: str | None, before: str) -> list[Any]:
    """What is new of a run: the sentence, curve, previews, pair, and whether it can be tried.

    Args:
        before: what was seen at the last look; the same again changes nothing.
    """
    path = _run_folder(place, folder)
    status = read_run(path) if path else None
    if path is None or status is None:
        waiting = "" if path is None else f"{path.name}: not begun yet"
        sentence = waiting or NO_RUN
        if before == sentence:
            return [gr.skip() for _ in range(6)]
        return [sentence, sentence, *[gr.update(visible=False)] * 4]
    seen = f"{folder} {status.sentence} {status.concept} {sum(1 for _ in (path / 'previews').glob('*'))}"
    if seen == before:
        return [gr.skip() for _ in range(6)]
    return [
        seen,
        html.escape(status.sentence + (f"; the concept: {shown(status.concept)}" if status.concept else "")),
        gr.LinePlot(_curve(status.losses), visible=bool(status.losses)),
        shown_sheet(preview_sheet(path), "Previews, from the same seeds"),
        shown_sheet(_pair(path, status), "Without and with the concept"),
        gr.Button(visible=status.concept is not None),
    ]


def _pair(folder: Path, status: RunStatus) -> Any:
    """The class word's pictures above the concept's, from the same seeds; None before a run has ended."""
    without, strips = read_class_word_previews(folder), read_previews(folder)
    if not (status.concept and without and strips):
        return None
    labels = [preview_prompt(status.kind, word) for word in (status.class_word, status.token)]
    return labelled_grid([without, strips[-1][1]], row_labels=labels, cell=CELL)


def _curve(losses: Sequence[float]) -> pd.DataFrame:
    """Each step's loss, and the running mean."""
    steps = list(range(1, len(losses) + 1))
    kinds = ["each step"] * len(losses) + [f"mean of {WINDOW}"] * len(losses)
    return pd.DataFrame({"step": steps * 2, "loss": [*losses, *running_means(losses)], "of": kinds})


def _choices(place: Workplace) -> list[tuple[str, str]]:
    return [(folder.name, str(folder)) for folder in run_folders(place.runs)]


def _run_folder(place: Workplace, folder: str | None) -> Path | None:
    """The chosen run's folder, where it lies among the runs: a page may send anything."""
    if not folder:
        return None
    path = Path(folder)
    return path if path.resolve().parent == place.runs.resolve() else None


def _try(place: Workplace, folder: str) -> list[Any]:
    """The first page, with a prompt for the learned concept."""
    path = _run_folder(place, folder)
    status = read_run(path) if path else None
    prompt = preview_prompt(status.kind, status.token) if status else gr.skip()
    return [prompt, gr.Tabs(selected="try")]


def _interval(steps: int) -> int:
    """Steps between previews: as many strips over the run as are shown."""
    return -(-steps // STRIPS)
