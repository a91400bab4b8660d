"""Training with the captions beside the pictures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.datasets import Dataset, FolderNote
from promptplus.errors import PictureError, SettingsError
from promptplus.training import invert as trainer
from promptplus.training.checkpoint import Checkpoint
from promptplus.training.dreambooth import dreambooth
from promptplus.training.invert import run_inversion, run_inversions
from promptplus.training.settings import InversionSettings

FEW = {"steps": 2, "batch_size": 2, "progress": False, "preview_every": 0}
NOTE = FolderNote(token="<x>", initializer="house", class_word="house")
TEXTS = ("a red house", "a house in the snow", "a {} at night", "an old <x>", "House")


@pytest.fixture
def captioned(pictures: list[Image.Image], tmp_path: Path) -> Path:
    """A folder of five pictures, each with a caption."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (picture, text) in enumerate(zip(pictures, TEXTS, strict=True)):
        picture.save(folder / f"p{number}.png")
        (folder / f"p{number}.txt").write_text(text)
    (folder / "concept.json").write_text(NOTE.model_dump_json(exclude_none=True))
    return folder


def trainable(pplus: pp.PPlus, dataset: Dataset, **options: Any) -> Any:
    """The trainable of a dataset, prepared."""
    settings = InversionSettings(**{"batch_size": 8, **options})
    with trainer._inversion(pplus, [(dataset, None)], settings) as loop:
        (run,) = loop.runs.values()
        one = run.trainable
        one.prepare(1000)
        return one


@pytest.mark.parametrize("jitter", [0, 2])
def test_each_sample_is_trained_with_its_own_pictures_caption(
    pplus: pp.PPlus, pictures: list[Image.Image], jitter: int
) -> None:
    one = trainable(pplus, Dataset(pictures, NOTE, captions=TEXTS), jitter=jitter)
    written = ["a red <x>", "a <x> in the snow", "a <x> at night", "an old <x>", "<x>"]
    seen = set()
    for step in range(4):
        one.step = step
        batch = one.next_batch()
        states, caption_of_sample = one.encode_captions([one], [batch])
        for number, caption in zip(batch.picture.tolist(), caption_of_sample, strict=True):
            text = written[number % len(pictures)]
            expected = pplus.text_states([[text] * len(pplus.layers)], {"<x>": one.rows.placeholder}).states[0]
            assert torch.allclose(states.states[caption], expected, atol=1e-5)
            seen.add(number)
    assert len(seen) > len(pictures) * bool(jitter)


def test_captions_that_are_all_the_only_template_train_the_same_bits(
    pplus: pp.PPlus, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = ("a photo of a {}",) * len(pictures)
    with_captions = pp.invert(pplus, Dataset(pictures, NOTE, captions=captions), **FEW)
    monkeypatch.setitem(trainer.TEMPLATES, "object", captions[:1])
    assert torch.equal(pp.invert(pplus, Dataset(pictures, NOTE), **FEW).rows, with_captions.rows)


def test_captions_change_what_is_learned_and_are_recorded(pplus: pp.PPlus, captioned: Path) -> None:
    plain = pp.invert(pplus, Dataset(trainer.read_dataset(captioned, captions=True).pictures, NOTE), **FEW)
    learned = pp.invert(pplus, captioned, captions=True, **FEW)
    assert not torch.equal(plain.rows, learned.rows)
    assert "captions" not in plain.provenance
    assert len(learned.provenance["captions"]) == 24


def test_a_run_continues_with_the_same_captions_alone(pplus: pp.PPlus, captioned: Path, tmp_path: Path) -> None:
    whole = run_inversion(pplus, captioned, captions=True, out=tmp_path / "whole", **{**FEW, "steps": 4})
    run_inversion(pplus, captioned, captions=True, out=tmp_path / "parts", **FEW)
    parts = run_inversion(pplus, captioned, captions=True, out=tmp_path / "parts", **{**FEW, "steps": 4})
    assert parts.resumed == 2
    assert torch.equal(parts.concept.rows, whole.concept.rows)
    (captioned / "p0.txt").write_text("a blue house")
    with pytest.raises(SettingsError, match="was begun with other captions; give the run a new folder"):
        run_inversion(pplus, captioned, captions=True, out=tmp_path / "parts", **FEW)
    dataset = replace(trainer.read_dataset(captioned, captions=True), captions=None)
    with pytest.raises(SettingsError, match="was begun with other captions"):
        run_inversion(pplus, dataset, out=tmp_path / "parts", **FEW)


def test_the_record_of_a_run_without_captions_is_as_before(
    pplus: pp.PPlus, pictures: list[Image.Image], tmp_path: Path
) -> None:
    run_inversion(pplus, pictures, "<x>", "house", out=tmp_path / "run", **FEW)
    checkpoint = Checkpoint.load(tmp_path / "run")
    assert checkpoint is not None
    assert "captions" not in checkpoint.settings


def test_concepts_side_by_side_have_their_own_captions(captioned: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    for name in ("p0.png", "p1.png"):
        (second / name).write_bytes((captioned / name).read_bytes())
        (second / name).with_suffix(".txt").write_text(f"a car, {name}")
    (second / "concept.json").write_text('{"token": "<y>", "initializer": "car"}')
    with pp.PPlus(pp.load("pocket", device="cpu", dtype=torch.float64)) as exact:  # else Adam magnifies rounding
        both = run_inversions(exact, [captioned, second], captions=True, out=tmp_path / "both", **FEW)
        alone = pp.invert(exact, second, captions=True, **FEW)
    assert torch.allclose(both[1].concept.rows, alone.rows, atol=1e-5)


def test_captions_that_cannot_be_trained_with_are_refused(pplus: pp.PPlus, pictures: list[Image.Image]) -> None:
    def learn(text: str) -> None:
        pp.invert(pplus, Dataset(pictures[:1], NOTE, captions=(text,)), **FEW)

    with pytest.raises(PictureError, match="does not say where the concept is"):
        learn("a car")
    with pytest.raises(PictureError, match="has no room for <x>; shorten it by"):
        learn("house " + "red " * 99)


def test_dreambooth_has_no_captions(pplus: pp.PPlus, pictures: list[Image.Image], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DreamBooth trains with one prompt and no captions"):
        dreambooth(pplus, Dataset(pictures, NOTE, captions=TEXTS), "house", out=tmp_path / "run")
