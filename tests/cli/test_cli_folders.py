"""The commands and their folders of pictures: captions, sheets, by-products, pipes."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

import promptplus as pp
from promptplus.cli.common import spoken_warnings
from promptplus.datasets import load_pictures
from promptplus.pocket import CONCEPTS
from tests.cli.test_cli import run

ONE_STEP = ("--steps", "1", "--batch-size", "1", "--preview-every", "0", "--json")
pytestmark = pytest.mark.filterwarnings("default")  # notes are printed, not raised


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures with captions and their note, as other programs leave them."""
    folder = tmp_path / "robot"
    folder.mkdir()
    (folder / "concept.json").write_text('{"token": "<x>", "initializer": "robot"}')
    for number, path in enumerate(sorted((CONCEPTS / "robot").glob("*.png"))[:3]):
        shutil.copy(path, folder / f"p{number}.png")
        (folder / f"p{number}.txt").write_text(f"robot number {number}")
    return folder


def test_captions_are_trained_with_where_they_are_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = {}
    for name, option in (("with", ("--captions",)), ("without", ())):
        code, printed, said = run(
            "invert", str(folder), *option, *ONE_STEP, "--out", str(tmp_path / name), capsys=capsys
        )
        assert code == 0
        learned[name] = pp.Concept.load(json.loads(printed)["concept"])
        assert ("left out 3 files beside the pictures: p0.txt, p1.txt, p2.txt" in said) == (name == "without")
    assert [("captions" in learned[name].provenance) for name in learned] == [True, False]
    assert learned["with"].provenance["pictures"] == 3


def test_a_folder_that_is_read_twice_is_noted_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with spoken_warnings():
        assert len(load_pictures(folder)) == len(load_pictures(folder)) == 3
    assert capsys.readouterr().err.count("left out 3 files") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_evaluate_reads_folders_by_the_same_rule(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score = ("evaluate", "--images", str(folder), "--concept", str(CONCEPTS / "robot"), "--json")
    (folder / "prompts.json").write_text(json.dumps({f"p{number}.png": "a robot" for number in range(3)}))
    code, printed, _ = run(*score, capsys=capsys)
    assert code == 0
    info = PngImagePlugin.PngInfo()
    info.add_itxt("promptplus", "{}")
    Image.new("RGB", (64, 64)).save(folder / "sheet-0000.png", pnginfo=info)
    os.mkfifo(folder / "pipe.png")
    code, again, said = run(*score, capsys=capsys)
    assert code == 0
    assert json.loads(again) == json.loads(printed)
    assert json.loads(again)["pictures"] == 3
    assert "sheet-0000.png (a sheet of several pictures)" in said
    assert "pipe.png is a pipe, a socket or a device" in said
