"""What the pages refuse, before any work, and with which sentence; and what they show."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import promptplus as pp
from promptplus.errors import ConceptError, LayerError, PromptError, PromptPlusError, SettingsError
from promptplus.pocket import CONCEPTS
from promptplus.studio.edit_page import begin_strip, request_of
from promptplus.studio.grid_page import begin_grid, plan_of
from promptplus.studio.inside_page import begin_attention, begin_attributes, show_rows
from promptplus.studio.jobs import Job
from promptplus.studio.learn_page import begin_training, watch_run
from promptplus.studio.mix_page import begin_mix, begin_sweep, split_text
from promptplus.studio.try_page import begin_try, with_tokens
from promptplus.studio.workplace import Workplace
from tests.conftest import make_concept
from tests.studio.test_concept_files import put

ROBOT = [str(path) for path in sorted((CONCEPTS / "robot").glob("*.png"))]
TRY: dict[str, Any] = {
    "text": "a house", "texts": {}, "chosen": [], "seed": 0, "count": 1, "steps": 2, "guidance": 3, "negative": ""
}  # fmt: skip
LEARN: dict[str, Any] = {
    "files": ROBOT, "token": "<r>", "word": "object", "preset": "fast", "kind": "object", "method": "", "steps": "",
    "rate": "", "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"text": " "}, PromptError, "the prompt is empty"),
        ({"text": "a || nowhere: b"}, LayerError, "no layer 'nowhere'"),
        ({"texts": {"up.9": "b"}}, LayerError, "no layer 'up.9'"),
        ({"negative": "a || b"}, PromptError, "is not '<layers>: text'"),
        ({"seed": None}, SettingsError, "the seed: a whole number from 0 on is needed, not None"),
        ({"seed": -1}, SettingsError, "the seed: a whole number from 0 on is needed, not -1"),
        ({"steps": 1.5}, SettingsError, "denoising steps: a whole number from 1 on is needed, not 1.5"),
        ({"chosen": ["<gone>"]}, ConceptError, "the concept <gone> is gone"),
    ],
)
def test_first_page(place: Workplace, change: dict[str, Any], error: type[PromptPlusError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        begin_try(place, **{**TRY, **change})


def test_what_only_the_model_can_refuse_fails_the_job_and_leaves_nothing(place: Workplace) -> None:
    for change in ({"text": "a <nobody>"}, {"steps": 5000}, {"guidance": -1}):
        failed = place.jobs.submit(*begin_try(place, **{**TRY, **change}))
        while not failed.ended:
            pass
        assert failed.state == "failed"
        assert failed.error
    assert list(place.pictures.iterdir()) == []
    assert not place.pplus.concepts


def test_chosen_concepts_go_to_the_end_of_the_prompt(place: Workplace) -> None:
    assert with_tokens(place, "a red ", ["<teapot>"]) == "a red <teapot>"
    assert with_tokens(place, "a <teapot> on sand", ["<teapot>"]) == "a <teapot> on sand"
    assert with_tokens(place, "a house", []) == "a house"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"files": []}, "there are no pictures"),
        ({"files": [__file__]}, "test_pages.py"),
        ({"token": "<a b>"}, "a placeholder token"),
        ({"token": ""}, "a placeholder token"),
        ({"word": " "}, "the class word is empty; write what the thing is"),
        ({"steps": "0"}, "steps: input should be greater than or equal to 1, not 0"),
        ({"steps": "many"}, "steps: input should be a valid integer, .* not 'many'"),
        ({"rate": "-1"}, "learning_rate: input should be greater than 0"),
    ],
)
def test_learning(place: Workplace, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PromptPlusError, match=sentence):
        begin_training(place, **{**LEARN, **change})
    assert list(place.uploads.iterdir()) == []


def test_only_runs_of_the_folder_can_be_watched(place: Workplace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "settings.json").write_text('{"token": "<secret>"}')
    for folder in (None, "", str(outside), "runs/../outside", "/etc"):
        assert watch_run(place, folder, "")[0] == "No run is chosen."
    assert watch_run(place, "runs/later", "")[0] == "later: not begun yet"
    assert "__type__" in watch_run(place, "runs/later", "later: not begun yet")[0]  # nothing new


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((None, "<teapot>", 3, "<m>", 0), "choose two concepts"),
        (("<teapot>", "<teapot>", 0, "<m>", 0), "there is nothing to mix; move the slider"),
        (("<teapot>", "<teapot>", 3, "m", 0), "a placeholder token"),
    ],
)
def test_mixing(place: Workplace, values: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ConceptError, match=sentence):
        begin_mix(place, *values)


@pytest.mark.slow
def test_every_split_is_on_the_sheet(place: Workplace, pplus: pp.PPlus, job: Job) -> None:
    put(place, make_concept(pplus, "<one>", 1), "one")
    title, work = begin_sweep(place, "<one>", "<teapot>", 0, "<m>", 0)
    assert title == "every split of <one> and <teapot>"
    made = work(job)
    assert made.sweep.width > made.sweep.height
    assert job.done == job.total
    texts = [split_text(pplus.layers, number) for number in range(len(pplus.layers.subsets()))]
    assert texts[0].startswith("The shape's concept has no layer")
    assert texts[3] == "The shape's concept has 6 of 16 layers: the coarse layers."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"files": []}, "there are no pictures; drop one here"),
        ({"source": ""}, "say what the picture shows"),
        ({"texts": {"fine": ""}}, "no layer says anything else"),
        ({"skip": 1}, "skip is a share"),
    ],
)
def test_editing(place: Workplace, change: dict[str, Any], sentence: str) -> None:
    values = {"files": ROBOT[:1], "source": "a car", "texts": {"fine": "a red car"}, "seed": 0, "count": 1, "steps": 4}
    with pytest.raises(PromptPlusError, match=sentence):
        request_of(place, **{**values, "guidance": 3, "skip": 0.2, **change})


def test_an_edit_with_every_set_of_layers(place: Workplace, job: Job) -> None:
    asked = request_of(place, ROBOT[:1], "a car", {"fine": "a red car"}, 0, 1, 2, 3, 0)
    assert isinstance(begin_strip(place, asked)[1](job).strip, Image.Image)


def test_looking_inside(place: Workplace, job: Job) -> None:
    with pytest.raises(PromptError, match="the word 'cat' is not in the prompt 'a red house'"):
        begin_attention(place, "a red house", "cat", "red", 0)
    assert begin_attention(place, "a red house", "house", "red, ", 0)[1](job).width > 1000
    with pytest.raises(SettingsError, match="prompt pairs: a whole number from 2 on is needed, not 1"):
        begin_attributes(place, 1)
    bars, table = show_rows(place, "<teapot>")
    assert len(bars.value["data"]) == len(table.value["data"]) == 16


@pytest.mark.slow
def test_attribute_curves(place: Workplace, job: Job) -> None:
    curves, pictures = begin_attributes(place, 2)[1](job)
    assert curves.width > 300
    assert pictures.width > 300


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompts": "\n"}, "there are no prompts"),
        ({"other": ""}, "the sets of layers have no text"),
        ({"prompts": "a {}"}, "has a place for a concept; choose concepts"),
        ({"layers": "nowhere"}, "no layer 'nowhere'"),
        ({"count": 200}, "1 × 400 pictures are too many; at most 256"),
    ],
)
def test_grid(place: Workplace, change: dict[str, Any], sentence: str) -> None:
    values = {"prompts": "a house", "labels": [], "layers": "fine", "other": "a cat", "seed": 0, "count": 1}
    with pytest.raises(PromptPlusError, match=sentence):
        plan_of(place, **{**values, **change})


def test_a_sheet_of_prompts_concepts_layers_and_seeds(place: Workplace, job: Job) -> None:
    plan = plan_of(place, "a {}\na house", ["<teapot>"], "fine", "a red cat", 5, 2)
    assert plan.rows == ["a <teapot>", "a house"]
    assert [label for label, *_ in plan.columns] == [
        "no layer, seed 5", "no layer, seed 6", "fine, seed 5", "fine, seed 6"
    ]  # fmt: skip
    assert str(plan.prompt("a house", "fine")) == "a house || fine: a red cat"
    path = begin_grid(place, plan)[1](job)
    assert path.parent == place.pictures
    with Image.open(path) as sheet:
        assert sheet.width > 4 * 128
