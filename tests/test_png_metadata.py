"""Pictures are written as they are made, under names of their own, and can be made again from what is in them."""

import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import promptplus as pp
from promptplus import png_metadata
from promptplus.errors import Interrupted, PictureError, PromptPlusError
from promptplus.files import TEMPORARY
from promptplus.generation_parameters import GenerationParameters
from promptplus.png_chunks import is_sheet
from promptplus.png_metadata import make_again, make_pictures, read_parameters
from promptplus.start_image import StartImage
from tests.conftest import make_concept


def parameters(pplus: pp.PPlus, **values: Any) -> GenerationParameters:
    given = {"prompt": "a red house || coarse: a car", "model": "pocket", "steps": 2, "guidance": 3.0, **values}
    return GenerationParameters.of(pplus, **given)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def make(pplus: pp.PPlus, out: Path, count: int = 5, **options: Any) -> png_metadata.SavedPictures:
    return make_pictures(pplus, parameters(pplus), range(count), out, batch=2, progress=False, **options)


def test_every_batch_is_written_at_once_and_the_rest_is_made_on_resuming(
    pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = make(pplus, tmp_path / "straight")
    original, calls = png_metadata._batch, itertools.count()

    def stop_at_third(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(png_metadata, "_batch", stop_at_third)
    out = tmp_path / "stopped"
    with pytest.raises(Interrupted, match=r"4 of 5 pictures are in .*--resume goes on"):
        make(pplus, out)
    assert len(list(out.glob("*-seed*.png"))) == 4
    (out / "0001-seed1.png").unlink()  # one of a batch is missing: the batch is made as it was
    monkeypatch.setattr(png_metadata, "_batch", original)
    resumed = make(pplus, out, resume=True)
    assert resumed.kept == 3
    assert [pixels(path).tobytes() for path in resumed.pictures] == [pixels(p).tobytes() for p in straight.pictures]
    assert len(list(out.glob("*-seed*.png"))) == 5
    again = make(pplus, out, resume=True)
    assert (again.kept, again.pictures, again.sheet) == (5, resumed.pictures, resumed.sheet)


def test_other_parameters_are_not_taken_for_the_same(pplus: pp.PPlus, tmp_path: Path) -> None:
    make(pplus, tmp_path, 2)
    other = make_pictures(
        pplus, parameters(pplus, guidance=2.0), range(2), tmp_path, batch=2, progress=False, resume=True
    )
    assert other.kept == 0
    assert len(list(tmp_path.glob("*-seed*.png"))) == 4


def test_runs_into_one_folder_never_overwrite_each_other(
    pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that choose their numbers at the same moment."""
    begin = threading.Barrier(2)
    number = png_metadata._next_number

    def together(folder: Path) -> int:
        found = number(folder)
        begin.wait()
        return found

    monkeypatch.setattr(png_metadata, "_next_number", together)
    monkeypatch.setattr(png_metadata, "_batch", lambda *_: [Image.new("RGB", (8, 8))] * 2)
    for run in range(10):
        threads = [threading.Thread(target=make, args=(pplus, tmp_path / str(run), 4)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(list((tmp_path / str(run)).glob("*-seed*.png"))) == 8
        assert len(list((tmp_path / str(run)).glob("sheet-*.png"))) == 2
        assert not list((tmp_path / str(run)).glob(f"{TEMPORARY}*"))


def test_a_full_disk_keeps_what_was_written(pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = Image.Image.save, itertools.count()

    def full(picture: Image.Image, *arguments: Any, **options: Any) -> None:
        if next(calls) == 3:
            raise OSError(28, "No space left on device")
        original(picture, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(PromptPlusError, match="No space left") as caught:
        make(pplus, tmp_path)
    assert not isinstance(caught.value, ValueError)  # the run failed, the command was right
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000-seed0.png", "0001-seed1.png", "0002-seed2.png"]


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_a_picture_is_made_again_bit_for_bit_whatever_its_batch_was(
    pplus: pp.PPlus, tmp_path: Path, batch: int
) -> None:
    pplus.add(make_concept(pplus, "<x>", 1))
    start = StartImage(
        Image.effect_noise((64, 64), 60).convert("RGB"), 0.8, Image.linear_gradient("L").resize((64, 64))
    )
    values = {"prompt": "a <x> || fine: a red car", "scheduler": "EulerAncestralDiscreteScheduler", "strength": 0.8}
    made = make_pictures(
        pplus, parameters(pplus, steps=4, **values), range(5), tmp_path, start=start, batch=batch, progress=False
    )
    for path in made.pictures:
        assert np.array_equal(make_again(pplus, read_parameters(path), start), pixels(path))


def test_a_sheet_is_marked_as_one(pplus: pp.PPlus, tmp_path: Path) -> None:
    made = make(pplus, tmp_path, 2)
    assert is_sheet(made.sheet)
    assert not any(is_sheet(path) for path in made.pictures)
    renamed = made.sheet.rename(tmp_path / "holiday.png")
    assert is_sheet(renamed)


OLD = (
    '{"prompt":"x","negative":"","model":"pocket","steps":2,"guidance":3.0,"clip_skip":null,"seed":0,"concepts":{},'
    '"loras":[["a.safetensors","00"]],"scheduler":"S","dtype":"float32","version":"0.1.0"}'
)


def with_text(path: Path, text: str, key: str = png_metadata.KEY) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_parameters_of_version_0_1_are_read(tmp_path: Path) -> None:
    read = read_parameters(with_text(tmp_path / "old.png", OLD))
    assert read.loras == [("a.safetensors", "00", 1.0)]
    assert read.batch == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OLD.replace('"guidance":3.0', '"guidance":null'), "guidance: Input should be a valid number"),
        (OLD.replace('"guidance":3.0', '"guidance":Infinity'), "finite"),
        (OLD.replace('"steps":2', '"steps":"2"'), "steps"),
        ("[" * 100_000, "not a PNG with generation parameters"),
        ("", "not a PNG with generation parameters"),
        ("null", "not a PNG with generation parameters"),
        ("9" * 5000, "not a PNG with generation parameters"),
    ],
)
def test_damaged_parameters_are_refused_with_their_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        read_parameters(with_text(tmp_path / "bad.png", text))


def test_parameters_beside_a_long_text_of_another_program_are_read(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 3_000_000, zip=True)
    info.add_itxt(png_metadata.KEY, OLD)
    Image.new("RGB", (8, 8)).save(tmp_path / "both.png", pnginfo=info)
    assert read_parameters(tmp_path / "both.png").prompt == "x"


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffiTXtpromptplus\0"]
)
def test_files_without_parameters_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(PictureError):
        read_parameters(tmp_path / "x.png")
