"""Editing a picture with the pocket model: what stays, what changes, what is refused."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.editing import edit as editing
from promptplus.editing.edit import EditSettings, target_prompt
from promptplus.editing.sweep import layer_sets, sweep
from promptplus.errors import ModelError, PictureError, PromptError, SettingsError
from promptplus.pocket.world import full_caption, random_test_scene, render
from promptplus.start_image import StartImage, to_latents
from tests.conftest import make_concept

SCENE = random_test_scene(random.Random(3))
SOURCE = full_caption(SCENE)
FAST = EditSettings(steps=6)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return render(SCENE, 3)


def error(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of pixels, of 1."""
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).mean() / 255


def reconstructed(pipe: Any, picture: Image.Image) -> Image.Image:
    """A picture after the autoencoder alone."""
    with torch.no_grad():
        decoded = pipe.vae.decode(to_latents(pipe, picture) / pipe.vae.config.scaling_factor).sample
    return pipe.image_processor.postprocess(decoded)[0]


@pytest.mark.parametrize("skip", [0.0, 0.5])
def test_an_empty_edit_gives_the_picture_back(pplus: pp.PPlus, picture: Image.Image, skip: float) -> None:
    lost = error(reconstructed(pplus.pipe, picture), picture)
    settings = replace(FAST, skip=skip)
    for target in (SOURCE, {"fine": SOURCE}):
        edited = pp.edit(pplus, picture, source=SOURCE, target=target, settings=settings)
        assert error(edited, picture) <= lost + 1e-4  # of noise maps; the bar is .01


def test_ddim_inversion_gives_the_picture_back_roughly(pplus: pp.PPlus, picture: Image.Image) -> None:
    settings = EditSettings("ddim", steps=20, guidance=1.0, skip=0.4)
    edited = pp.edit(pplus, picture, source=SOURCE, target=SOURCE, settings=settings)
    assert error(edited, picture) < 0.05  # much worse from the noisiest steps on: see docs/editing.md


def test_texts_of_some_layers_change_the_picture(pplus: pp.PPlus, picture: Image.Image) -> None:
    colour = {"fine": SOURCE.replace(SCENE.things[0].colour, "green" if SCENE.things[0].colour != "green" else "red")}
    same = pp.edit(pplus, picture, source=SOURCE, target=SOURCE, settings=FAST)
    assert error(pp.edit(pplus, picture, source=SOURCE, target=colour, settings=FAST), same) > 0.01


def test_the_seed_decides_the_bits(pplus: pp.PPlus, picture: Image.Image) -> None:
    def edited(seed: int) -> bytes:
        target = {"fine": "a pink dotted object"}
        return pp.edit(pplus, picture, source=SOURCE, target=target, seed=seed, settings=FAST).tobytes()

    assert edited(0) == edited(0)
    assert edited(0) != edited(1)


def test_outside_the_mask_every_pixel_stays(pplus: pp.PPlus, picture: Image.Image) -> None:
    mask = Image.new("L", picture.size)
    mask.paste(255, (0, 0, 32, 64))
    edited = pp.edit(pplus, picture, source=SOURCE, target="a pink fish", mask=mask, settings=replace(FAST, skip=0.0))
    before, after = np.asarray(picture), np.asarray(edited)
    assert (before[:, 32:] == after[:, 32:]).all()
    assert np.abs(before[:, :32].astype(int) - after[:, :32]).mean() > 5


def test_a_target_without_default_keeps_the_source_in_other_layers(pplus: pp.PPlus) -> None:
    target = target_prompt("a car || coarse: a big car", {"fine": "a green car", "0": "a red car"})
    texts = target.texts(pplus.layers)
    assert texts[0] == "a red car"
    assert {texts[i] for i in pplus.layers.group("fine") if i} == {"a green car"}
    assert {texts[i] for i in pplus.layers.group("coarse")} == {"a big car"}
    assert {texts[i] for i in pplus.layers.group("medium")} == {"a car"}
    assert target_prompt("a car", "a green car").texts(pplus.layers) == ("a green car",) * len(pplus.layers)
    assert target_prompt("a car", {"default": "a", "fine": "b"}).default == "a"


def test_concepts_work_in_both_texts(pplus: pp.PPlus, picture: Image.Image) -> None:
    with pplus.added([make_concept(pplus, "<it>", 1)]):
        same = pp.edit(pplus, picture, source="a <it>", target="a <it>", settings=FAST)
        assert error(same, picture) < 0.05
        other = pp.edit(pplus, picture, source="a <it>", target={"fine": "a green <it>"}, settings=FAST)
    assert error(other, same) > 0.001


def test_pictures_are_brought_to_the_models_size(pplus: pp.PPlus, picture: Image.Image, tmp_path: Path) -> None:
    wide = picture.resize((300, 150))
    wide.save(tmp_path / "wide.png")
    edited = pp.edit(pplus, tmp_path / "wide.png", source=SOURCE, target="a fish", settings=FAST)
    assert edited.size == (128, 64)


def test_the_negative_prompt_counts(pplus: pp.PPlus, picture: Image.Image) -> None:
    plain, negative = (
        pp.edit(pplus, picture, source=SOURCE, target="a fish", negative=text, settings=FAST)
        for text in ("", "a red car")
    )
    assert error(plain, negative) > 0.001


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"target": {}}, PromptError, "names no layer"),
        ({"target": {"nose": "a"}}, pp.PromptPlusError, "no layer 'nose'"),
        ({"target": "a <dog>"}, PromptError, "no concept defines <dog>"),
        ({"source": "a <dog>"}, PromptError, "no concept defines <dog>"),
        ({"mask": Image.new("L", (10, 10))}, PictureError, "the mask is 10×10, the picture 64×64"),
        ({"mask": "none.png"}, PictureError, r"none\.png"),
        ({"picture": "none.png"}, PictureError, r"none\.png cannot be read"),
        ({"picture": 3}, PictureError, "of type int"),
        ({"settings": EditSettings(steps=1001)}, SettingsError, "steps are 1 to 1000"),
        ({"settings": EditSettings(steps=0)}, SettingsError, "steps are 1 to 1000"),
        ({"settings": EditSettings(guidance=-1.0)}, SettingsError, "guidance"),
    ],
)
def test_bad_input_is_one_sentence(
    pplus: pp.PPlus, picture: Image.Image, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    call = {"picture": picture, "source": SOURCE, "target": "a fish", "settings": FAST, **options}
    with pytest.raises(kind, match=message) as caught:
        pp.edit(pplus, **call)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "null-text"}, "no editing method 'null-text'; use noise-maps or ddim"),
        ({"skip": 1.0}, "skip is a share"),
        ({"skip": -0.1}, "skip is a share"),
        ({"skip": float("nan")}, "skip is a share"),
        ({"skip": 0.9, "steps": 2}, "leaves none"),
    ],
)
def test_settings_outside_their_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        EditSettings(**values)


def test_models_that_cannot_edit_are_refused(
    pplus: pp.PPlus, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(editing, "is_inpainting", lambda _: True)
        with pytest.raises(ModelError, match="trained for inpainting"):
            pp.edit(pplus, picture, source=SOURCE, target="a fish", settings=FAST)
    with monkeypatch.context() as patch:
        patch.delattr(pplus.pipe.scheduler, "alphas_cumprod")
        with pytest.raises(ModelError, match="DDPM's noise"):
            pp.edit(pplus, picture, source=SOURCE, target="a fish", settings=FAST)


def test_the_safety_checker_sees_edits(pplus: pp.PPlus, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def black(pictures: torch.Tensor, *_: object) -> tuple[torch.Tensor, list[bool]]:
        return torch.zeros_like(pictures), [True] * len(pictures)

    monkeypatch.setattr(pplus.pipe, "safety_checker", object())
    monkeypatch.setattr(pplus.pipe, "run_safety_checker", black, raising=False)
    edited = pp.edit(pplus, picture, source=SOURCE, target="a fish", settings=FAST)
    assert not np.asarray(edited).any()


def test_a_strip_has_every_nested_set_of_layers(pplus: pp.PPlus, picture: Image.Image) -> None:
    coarse, fine = layer_sets(pplus.layers)
    assert [len(layers) for layers in coarse] == [0, 1, 3, 6, 8, 11, 13, 16]
    assert [len(layers) for layers in fine] == [0, 3, 5, 8, 10, 13, 15, 16]
    assert set(fine[1]) | set(coarse[-2]) == set(range(16))
    strip = sweep(pplus, StartImage(picture), SOURCE, {"fine": "a fish"}, settings=EditSettings(steps=2), batch=5)
    assert strip.width > 7 * strip.height / 3
