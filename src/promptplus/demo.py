"""The demo: one page that shows per-layer prompts, a learned concept, the concept in new scenes, and a mix."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from promptplus.concept import Concept
from promptplus.datasets import load_pictures
from promptplus.evaluation.judges import DinoJudge
from promptplus.evaluation.metrics import subject_similarity
from promptplus.files import StrPath, new_folder, write_atomically
from promptplus.generation import generate
from promptplus.kept_pictures import keeping
from promptplus.mixing import mix
from promptplus.pocket import CONCEPTS, LEARNED
from promptplus.pplus import PPlus
from promptplus.prompt_parts import Part
from promptplus.prompts import PPlusPrompt
from promptplus.report.html import Figure, Section, page
from promptplus.report.picture_grid import labelled_grid, stack
from promptplus.report.training_page import run_page
from promptplus.training.invert import run_inversion
from promptplus.training.result import InversionResult

STEPS = 250  # with the pocket model XTI converges within 100 to 250 steps (our measurement); the paper takes 500
SHAPE, STYLE = "robot", "teapot"
SHAPE_LAYERS = "coarse,medium"  # with the pocket model's fourth weights, the medium layers have a say in the shape
PAIRS = (
    ("a red house on a white background", "a green fish on a night background"),
    ("a blue car on a sand background", "a yellow mushroom on a grass background"),
)
SPLIT_OBJECTS, SPLIT_COLOURS = ("cat", "rocket", "mug"), ("green", "blue", "yellow", "purple")
SCENES = (
    "a {} on a night background",
    "a {} on a water background",
    "a {} on a sunset background",
    "a {}, sketch",
    "a {}, pixel art",
    "a {}, watercolor",
)
JUDGED = 16  # pictures per subject similarity
CELL = 104  # pixels of a picture in a grid


def run(pplus: PPlus, out: StrPath, *, seed: int = 0, steps: int = STEPS, began: float | None = None) -> dict[str, Any]:
    """Write the page ``index.html`` and the picture ``demo.png``. A stopped demo goes on where it was.

    Args:
        pplus: the pocket model.
        out: a new or empty folder.
        seed: of training and pictures.
        steps: training steps of the concept.
        began: start of the time that is reported, by ``time.monotonic``. Default: now.

    Returns:
        The numbers to print: seconds, steps, and subject similarity before and after training.
    """
    began = time.monotonic() if began is None else began
    with keeping(new_folder(out)):
        return _write(pplus, Path(out), seed, steps, began)


def _write(pplus: PPlus, folder: Path, seed: int, steps: int, began: float) -> dict[str, Any]:
    prompts = [_subsets(pplus, seed), _split(pplus, seed)]
    inversion = run_inversion(
        pplus, CONCEPTS / SHAPE, out=folder / SHAPE, steps=steps, seed=seed, preview_every=max(1, steps // 5)
    )
    write_atomically(folder / SHAPE / "run.html", run_page(inversion).encode())
    pplus.add(inversion.concept)
    learned, similarity = _learned(pplus, inversion, seed)
    scenes = _scenes(pplus, inversion.concept, seed)
    mixed = _mixed(pplus, inversion.concept, folder, seed)
    sections = [*prompts, learned, scenes, mixed]
    titled = [(section.title, section.figures[0].picture) for section in sections]
    stack(titled).save(folder / "demo.png", optimize=True)
    summary = {
        "wall_seconds": round(time.monotonic() - began, 1),
        "concept": inversion.concept.token,
        "steps": steps,
        "seconds_of_training": round(inversion.seconds, 1),
        "subject_similarity_before": round(similarity[0], 4),
        "subject_similarity_after": round(similarity[1], 4),
    }
    numbers = Section("Numbers", table={"": list(summary), "value": list(summary.values())})
    write_atomically(folder / "index.html", page(_TITLE, _LEAD, [*sections, numbers]).encode())
    return summary


def _subsets(pplus: PPlus, seed: int) -> Section:
    subsets = pplus.layers.subsets()
    rows = []
    for first, second in PAIRS:
        prompts = [PPlusPrompt(first, (Part(",".join(map(str, s)), second),) if s else ()) for s in subsets]
        rows.append(generate(pplus, prompts, [seed] * len(prompts), progress="layer by layer"))
    labels = [f"{len(s)} of {len(pplus.layers)}" for s in subsets]
    captions = "; ".join(f"“{first}” → “{second}”" for first, second in PAIRS)
    return Section(
        "One prompt replaces another, layer by layer, from coarse to fine",
        f"The rows: {captions}. The numbers say how many layers take the second prompt, the coarse layers first.",
        [Figure(labelled_grid(rows, column_labels=labels, cell=CELL))],
    )


def _split(pplus: PPlus, seed: int) -> Section:
    rows = []
    for thing in SPLIT_OBJECTS:
        prompts = [f"a {colour} object || coarse: a red {thing}" for colour in SPLIT_COLOURS]
        rows.append(generate(pplus, prompts, [seed] * len(prompts), progress="split"))
    grid = labelled_grid(
        rows,
        row_labels=[f"a red {thing}" for thing in SPLIT_OBJECTS],
        column_labels=[f"a {colour} object" for colour in SPLIT_COLOURS],
        cell=CELL,
    )
    return Section(
        "The coarse layers decide what it is, all others its colour",
        "Left: the text of the coarse layers. Top: the text of all other layers. The text on the left says red, "
        "but no picture is red.",
        [Figure(grid)],
    )


def _learned(pplus: PPlus, run: InversionResult, seed: int) -> tuple[Section, tuple[float, float]]:
    concept = run.concept
    real = load_pictures(CONCEPTS / SHAPE)
    seeds = list(range(seed, seed + JUDGED))
    plain = f"a photo of {'an' if concept.initializer[0] in 'aeiou' else 'a'} {concept.initializer}"
    before = generate(pplus, [plain] * JUDGED, seeds, progress="before")
    after = generate(pplus, [f"a photo of a {concept.token}"] * JUDGED, seeds, progress="after")
    judge = DinoJudge.load()
    features = judge.embed(real)
    similarity = (
        subject_similarity(features, judge.embed(before)),
        subject_similarity(features, judge.embed(after)),
    )
    shown = len(real)
    grid = labelled_grid(
        [real, before[:shown], after[:shown]],
        row_labels=["the five pictures", plain, f"a photo of a {concept.token}"],
        cell=CELL,
    )
    text = (
        f"{concept.token} was learned from the first row: one token embedding per layer, "
        f"{run.settings.steps} steps, everything else frozen. Subject similarity to the five pictures, by DINO: "
        f"{similarity[0]:.2f} before (the word “{concept.initializer}”), {similarity[1]:.2f} after."
    )
    return Section("A concept learned from five pictures", text, [Figure(grid)]), similarity


def _scenes(pplus: PPlus, concept: Concept, seed: int) -> Section:
    prompts = [scene.format(concept.token) for scene in SCENES]
    rows = [generate(pplus, prompts, [s] * len(prompts), progress="scenes") for s in (seed, seed + 1)]
    return Section(
        "The concept in new scenes",
        "None of these backgrounds and styles was in the five pictures. One row for each of two seeds.",
        [Figure(labelled_grid(rows, column_labels=prompts, cell=CELL))],
    )


def _mixed(pplus: PPlus, shape: Concept, folder: Path, seed: int) -> Section:
    style = Concept.load(LEARNED / f"{STYLE}.safetensors")
    mixed = mix(shape, style, token=f"<{SHAPE}-{STYLE}>", shape_layers=SHAPE_LAYERS)
    mixed.save(folder / f"{SHAPE}-{STYLE}.safetensors")
    pplus.add(style)
    pplus.add(mixed)
    rows: list[Sequence[Image.Image]] = []
    for concept in (shape, style, mixed):
        prompts = [f"a photo of a {concept.token}"] * 6
        rows.append(generate(pplus, prompts, range(seed, seed + 6), progress="mix"))
    labels = [shape.token, style.token, mixed.token]
    return Section(
        "One concept's shape with another's style",
        f"The coarse and medium layers take the rows of {shape.token}, the fine ones those of {style.token}.",
        [Figure(labelled_grid(rows, row_labels=labels, cell=CELL))],
    )


_TITLE = "promptplus: every layer its own text"
_LEAD = (
    "Made on a CPU by the pocket model that ships with the package: Stable Diffusion's classes and sixteen "
    "cross-attention layers, a few million weights, trained on a drawn world."
)
