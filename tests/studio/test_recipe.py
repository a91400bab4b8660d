"""The command line and the Python beside pictures make the same pictures again, bit for bit."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import promptplus as pp
from promptplus.cli import app
from promptplus.pocket import CONCEPTS
from promptplus.studio.edit_page import begin_edit, request_of
from promptplus.studio.jobs import Job
from promptplus.studio.mix_page import begin_mix
from promptplus.studio.recipe import ModelSource, Recipe
from promptplus.studio.try_page import begin_try
from promptplus.studio.workplace import Workplace
from tests.conftest import make_concept
from tests.studio.test_concept_files import put

STEPS = 2


def pixels(files: Sequence[str | Path | Image.Image]) -> list[np.ndarray]:
    return [np.asarray(one if isinstance(one, Image.Image) else Image.open(one)) for one in files]


def run_command(recipe: Recipe, folder: str) -> list[np.ndarray]:
    """The pictures of the recipe's last command, in a folder of their own."""
    *first, last = (shlex.split(line) for line in recipe.command.splitlines())
    for words in [*first, [*last, "--out", folder]]:
        assert words[0] == "promptplus"
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, result.output
    return pixels(sorted(Path(folder).glob("*-seed*.png")))


def run_python(recipe: Recipe) -> dict[str, Any]:
    """The names that the recipe's program leaves; its pipeline is as it was before."""
    names: dict[str, Any] = {}
    exec(compile(recipe.python, "recipe.py", "exec"), names)
    names["pplus"].remove()
    return names


def same(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_pictures_with_a_concept(place: Workplace, pplus: pp.PPlus, job: Job) -> None:
    put(place, make_concept(pplus, "<thing>", 1), "thing")
    texts = {"fine": "a red <thing>", "mid.0": 'it\'s a "cube"'}
    title, work = begin_try(place, "a green house", texts, [], 3, 2, STEPS, 3, "blurry")
    assert title == "4 pictures"
    drawn = work(job)
    files = [path for path, _ in drawn.layered]
    assert [caption for _, caption in drawn.layered] == ["seed 3", "seed 4"]
    assert same(pixels(files), run_command(drawn.recipe, "again"))
    assert same(pixels(files), pixels(run_python(drawn.recipe)["images"]))
    assert not same(pixels(files), pixels([path for path, _ in drawn.plain]))
    assert (job.done, job.total) == (2 * STEPS, 2 * STEPS)
    assert not pplus.concepts


def test_one_prompt_alone_is_drawn_once(place: Workplace, job: Job) -> None:
    title, work = begin_try(place, "a green house", {"fine": ""}, [], 0, 1, STEPS, 3, "")
    drawn = work(job)
    assert (title, len(drawn.plain), drawn.layered) == ("1 picture", 1, [])
    assert "||" not in drawn.recipe.command


def test_mixes(place: Workplace, pplus: pp.PPlus, job: Job) -> None:
    for number, token in enumerate(("<one>", "<two>")):
        put(place, make_concept(pplus, token, number), token.strip("<>"))
    _, work = begin_mix(place, "<one>", "<two>", 3, "<both>", 0)
    made = work(job)
    mixed = pp.Concept.load(place.mixes / "both.safetensors")
    assert pplus.layers.select(mixed.provenance["mixed_from"]["shape_layers"]) == pplus.layers.subsets()[3]
    files = [path for path, _ in made.pictures]
    (place.mixes / "both.safetensors").unlink()
    assert same(pixels(files), run_command(made.recipe, "again"))
    assert same(pixels(files), pixels(run_python(made.recipe)["images"]))
    work(job)
    assert sorted(path.name for path in place.mixes.iterdir()) == ["both-2.safetensors", "both.safetensors"]


def test_edits(place: Workplace, job: Job) -> None:
    upload = str(CONCEPTS / "robot" / "0.png")
    asked = request_of(place, [upload], "a blue car", {"fine": "a red car"}, 0, 1, 4, 3, 0.25)
    edited = begin_edit(place, asked)[1](job)
    files = [path for path, _ in edited.pictures]
    assert same(pixels(files), run_command(edited.recipe, "again"))
    run_python(edited.recipe)
    assert same(pixels(files), pixels(["edited.png"]))


@pytest.mark.parametrize(
    ("model", "options", "call"),
    [
        (ModelSource("pocket"), [], "pp.load('pocket')"),
        (
            ModelSource("a/b", "cuda:1", "float16"),
            ["--model", "a/b", "--device", "cuda:1", "--dtype", "float16"],
            "pp.load('a/b', device='cuda:1', dtype='float16')",
        ),
    ],
)
def test_the_model_is_named_where_it_is_not_the_usual_one(model: ModelSource, options: list[str], call: str) -> None:
    assert (model.options, model.call) == (options, call)
