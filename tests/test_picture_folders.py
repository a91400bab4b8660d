"""What belongs to a folder of pictures, and in which forms pictures may be given."""

import os
import socket
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, features

from promptplus.datasets import concept_folders, load_pictures, read_dataset, read_pictures
from promptplus.errors import PictureError
from promptplus.pictures import read_picture
from promptplus.png_chunks import MAX_CHUNKS, SHEET_KEY

RED = (200, 30, 40)


def red(size: tuple[int, int] = (32, 16)) -> Image.Image:
    return Image.new("RGB", size, RED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, ``p0.png`` and ``p1.jpg``."""
    folder = tmp_path / "photos"
    folder.mkdir()
    red().save(folder / "p0.png")
    red().save(folder / "p1.jpg", quality=95)
    return folder


# ---- what other programs leave beside pictures

BYSTANDERS = (
    *("p0.txt", "p0.caption", "p9.TXT", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "metadata.jsonl"),
    *("metadata.csv", "p0.npz", "p0_0064x0064_sd.npz", "p2.png.crdownload", "p2.jpg.part", "p2.png.partial"),
    *("p2.download", "p2.tmp", "p2.png.aria2", "Unconfirmed 3.crdownload", "README", "README.md", "LICENSE"),
    *("licence.txt", "COPYING", "Icon\r", "p0.json", "p0.png.json", "p1.xmp", "p1.AAE", "p1.MOV", "p1.NEF"),
    *("p0_cache.safetensors", "Picasa.ini", "ehthumbs_vista.db", "Thumbs.db:encryptable", "ZbThumbnail.info"),
    *("metadata.parquet", "dataset.toml", "meta_lat.json", "captions.json", "index.html", "notes.md", "train.log"),
    *("SHA256SUMS", "p0.png.dvc", "p0.png:Zone.Identifier", "p0.tags", "p0.psd", "p0.svg", "p0.pp3", "p1.jpg.filepart"),
    *("p0.png~", "p1.jpg.bak", "p0.txt.orig", "cache.pt", "p0.npy", "New folder.lnk", "~$notes.docx", "p0.png.tmp7"),
)


@pytest.mark.parametrize("name", BYSTANDERS)
def test_known_bystanders_are_left_out_with_a_note(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.warns(UserWarning, match="left out") as caught:
        assert len(load_pictures(folder)) == 2
    (note,) = caught
    assert str(note.message) == f"{folder}: left out 1 file beside the pictures: {name}"


def test_one_note_names_five_bystanders_and_counts_all(folder: Path) -> None:
    (folder / "__MACOSX").mkdir()
    for number in range(6):
        (folder / f"c{number}.txt").write_text("a car")
    with pytest.warns(UserWarning, match=r"left out 7 files .*: __MACOSX, c0.txt, c1.txt, c2.txt, c3.txt and 2 more$"):
        assert len(load_pictures(folder)) == 2


@pytest.mark.parametrize("name", [".DS_Store", "._p0.png", ".thumbnails", "concept.json", "prompts.json"])
def test_hidden_files_and_our_own_are_passed_over_silently(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    assert len(load_pictures(folder)) == 2


UNKNOWN = ("notes.docx", "video.mp4", "other.json", "concept.safetensors", "q.NEF", "archive.zip")


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_files_are_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(PictureError, match=f"{name} is no known by-product|{name} is a camera's raw file"):
        load_pictures(folder)


@pytest.mark.parametrize("name", ["#recycle", "$RECYCLE.BIN", "lost+found", "@__thumb", "System Volume Information"])
def test_folders_of_operating_systems_are_left_out(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    with pytest.warns(UserWarning, match="left out 1 file beside the pictures"):
        assert len(load_pictures(folder)) == 2


def test_the_version_before_an_edit_is_no_second_picture(folder: Path) -> None:
    red().save(folder / "p0.png~", "PNG")
    with pytest.warns(UserWarning, match="left out 1 file beside the pictures: p0.png~"):
        assert len(load_pictures(folder)) == 2


@pytest.mark.parametrize("name", ["concept.json", "metadata.jsonl", "p0.txt"])
def test_a_note_or_captions_that_are_no_file_are_refused(folder: Path, name: str) -> None:
    (folder / name).symlink_to(folder / "nowhere")
    with pytest.raises(PictureError, match=f"cannot read .*{name}: No such file"):
        read_dataset(folder, captions=True)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(PictureError, match=f"{name} is no file"):
        read_dataset(folder, captions=True)


def test_a_picture_without_a_pictures_name_is_read(folder: Path) -> None:
    red().save(folder / "scan", "PNG")
    red().save(folder / "p2.weird", "JPEG")
    assert len(load_pictures(folder)) == 4


@pytest.mark.parametrize("name", ["A.JPG", "a.Jpeg", "a.jfif", "a.JPE", "a.PNG", "a.apng", "a.WebP", "a.TIFF"])
def test_extensions_count_in_any_case_and_contents_decide(folder: Path, name: str) -> None:
    red().save(folder / name, "PNG")
    assert [path.name for path, _ in read_pictures(folder) if path] == sorted(["p0.png", "p1.jpg", name])


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(folder: Path) -> None:
    red().save(folder / "p2.avif", quality=100)
    assert np.abs(np.asarray(load_pictures(folder)[2], int) - RED).max() <= 6


@pytest.mark.parametrize("name", ["p2.jxl", "p2.heic"])
def test_formats_that_cannot_be_read_are_left_out_by_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff\x0a" + bytes(40))
    with pytest.warns(UserWarning, match=f"left out 1 of 3 files: .*{name} is not a picture that can be read: its"):
        assert len(load_pictures(folder)) == 2


def test_a_folder_of_bystanders_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p0.txt").write_text("a car")
    with pytest.raises(PictureError, match=r"holds no picture that can be read: there are only p0\.txt"):
        load_pictures(tmp_path)


def test_foreign_folders_are_no_concepts(tmp_path: Path) -> None:
    for name in ("robot", "__MACOSX", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "robot" / "concept.json").write_text('{"token": "<robot>", "initializer": "object"}')
    assert concept_folders(tmp_path) == [tmp_path / "robot"]


# ---- our own sheets


def save_with(path: Path, key: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(key, "{}")
    red((64, 64)).save(path, pnginfo=info)


@pytest.mark.parametrize(("name", "key"), [("sheet-0000.png", "promptplus"), ("renamed.png", SHEET_KEY)])
def test_our_sheets_are_no_pictures(folder: Path, name: str, key: str) -> None:
    save_with(folder / name, key)
    with pytest.warns(UserWarning, match=rf"left out 1 file .*: {name} \(a sheet of several pictures\)"):
        assert len(load_pictures(folder)) == 2
    for source in (folder / name, [folder / name]):
        with pytest.raises(PictureError, match=f"{name} is a sheet of several pictures"):
            load_pictures(source)


def test_our_pictures_and_other_peoples_sheets_are_pictures(folder: Path) -> None:
    save_with(folder / "0000-seed0.png", "promptplus")
    red().save(folder / "sheet-music.png")
    assert len(load_pictures(folder)) == 4


# ---- no file at all


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), make_socket, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_sockets_and_devices_never_block(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "x.png")
    with pytest.warns(UserWarning, match=r"left out 1 of 3 files: .*x\.png is a pipe, a socket or a device"):
        assert len(load_pictures(folder)) == 2
    with pytest.raises(PictureError, match=r"x\.png is a pipe, a socket or a device"):
        load_pictures(folder / "x.png")
    make(folder / "other")
    with pytest.raises(PictureError, match="other is a pipe, a socket or a device"):
        load_pictures(folder)


def test_links_are_followed_and_broken_ones_named(folder: Path) -> None:
    (folder / "p2.png").symlink_to(folder / "p0.png")
    assert len(load_pictures(folder)) == 3
    (folder / "p3.png").symlink_to(folder / "nowhere")
    with pytest.warns(UserWarning, match=r"p3\.png cannot be read: No such file"):
        assert len(load_pictures(folder)) == 3


# ---- PNG files with long texts


@pytest.mark.parametrize("zipped", [True, False])
def test_long_texts_do_not_keep_a_png_from_being_read(tmp_path: Path, zipped: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 3_000_000, zip=zipped)
    info.add_itxt("prompt", "é" * 3_000_000, zip=zipped)
    info.add(b"prVt", bytes(1000), after_idat=True)
    red().save(tmp_path / "workflow.png", pnginfo=info)
    assert read_picture(tmp_path / "workflow.png").getpixel((3, 3)) == RED


def test_an_orientation_in_xmp_is_applied(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:tiff="t" tiff:Orientation="6"></x:xmpmeta>')
    red((16, 32)).save(tmp_path / "p.png", pnginfo=info)
    assert read_picture(tmp_path / "p.png").size == (32, 16)


def test_an_animated_png_shows_its_first_picture(tmp_path: Path) -> None:
    red().save(tmp_path / "p.apng", "PNG", save_all=True, append_images=[Image.new("RGB", (32, 16), "blue")])
    assert read_picture(tmp_path / "p.apng").getpixel((3, 3)) == RED


def test_a_png_of_endless_chunks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptplus.png_chunks.MAX_CHUNKS", 3)
    red().save(tmp_path / "p.png", dpi=(72, 72))
    with pytest.raises(PictureError, match=r"p\.png: it has more than 3 chunks"):
        read_picture(tmp_path / "p.png")
    assert MAX_CHUNKS > 100_000


def test_the_message_says_what_really_failed(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    red((400, 400)).effect_spread(90).save(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(PictureError, match=r"p\.png is not a picture that can be read: .*truncated"):
        read_picture(path)
    path.write_bytes(b"words")
    with pytest.raises(PictureError, match=r"its contents are none of JPEG, PNG, WEBP"):
        read_picture(path)


def test_a_damaged_exif_does_not_keep_a_picture_from_being_read(tmp_path: Path) -> None:
    red().save(tmp_path / "p.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(9), quality=95)
    assert read_picture(tmp_path / "p.jpg").size == (32, 16)


def test_pictures_may_be_read_in_many_threads(folder: Path) -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(read_picture, [folder / "p0.png"] * 200))
    assert all(picture.getpixel((3, 3)) == RED for picture in read)
    assert list(warnings.filters) == before


def test_files_that_are_too_large_are_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "p.webp").open("wb") as file:
        file.write(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
        file.truncate(2**31)  # takes no room on the disk
    with pytest.raises(PictureError, match=r"p\.webp has 2,147,483,648 bytes; at most 1,073,741,824 are read"):
        read_picture(tmp_path / "p.webp")


# ---- other forms

BYTES = np.asarray(red())
FORMS: dict[str, Any] = {
    "a PIL picture": red(),
    "an array": BYTES,
    "an array of fractions": BYTES / 255,
    "an array of half precision": (BYTES / 255).astype(np.float16),
    "an array of 16 bits": BYTES.astype(np.uint16) * 257,
    "an array with alpha": np.dstack([BYTES, np.full(BYTES.shape[:2], 255, np.uint8)]),
    "a tensor": torch.tensor(BYTES).permute(2, 0, 1),
    "a tensor of fractions": (torch.tensor(BYTES).permute(2, 0, 1) / 255).requires_grad_(),
    "a tensor of bfloat16": torch.tensor(BYTES).permute(2, 0, 1).double() / 255,
    "a batch of one": torch.tensor(BYTES).permute(2, 0, 1)[None],
    "an array of one": BYTES[None],
    "a list of arrays": [BYTES],
    "a tuple of tensors": (torch.tensor(BYTES).permute(2, 0, 1),),
    "a generator": "generator",
}


@pytest.mark.parametrize("source", FORMS.values(), ids=FORMS)
def test_pictures_are_taken_in_every_clear_form(source: Any) -> None:
    (picture,) = load_pictures((p for p in [red()]) if isinstance(source, str) else source)
    assert picture.size == (32, 16)
    assert np.abs(np.asarray(picture, int) - RED).max() <= 1


def test_grey_arrays_and_batches_of_several() -> None:
    assert load_pictures(np.full((9, 12), 90, np.uint8))[0].getpixel((0, 0)) == (90, 90, 90)
    assert load_pictures(torch.full((1, 9, 12), 0.5))[0].size == (12, 9)
    assert len(load_pictures(np.stack([BYTES, BYTES]))) == 2
    assert load_pictures(np.eye(16, dtype=bool))[0].getpixel((1, 1)) == (255, 255, 255)


def test_a_file_a_pattern_and_mixed_lists(folder: Path) -> None:
    assert len(load_pictures(str(folder / "p0.png"))) == 1
    assert len(load_pictures(folder / "*.*")) == 2
    assert len(load_pictures(str(folder.parent / "**" / "*.jpg"))) == 1
    assert len(load_pictures([folder / "p0.png", str(folder / "p1.jpg"), red(), BYTES])) == 4
    with pytest.raises(PictureError, match=r"\*\.bmp matches no file"):
        load_pictures(folder / "*.bmp")
    assert read_dataset(folder / "p0.png").folder is None


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1]").mkdir()
    red().save(tmp_path / "a[1]" / "p.png")
    assert len(load_pictures(tmp_path / "a[1]")) == 1


REFUSED: dict[str, tuple[Any, str]] = {
    "channels first in numpy": (BYTES.transpose(2, 0, 1), r"shape \[3, 16, 32\].*try \.transpose\(1, 2, 0\)"),
    "channels last in torch": (torch.tensor(BYTES), r"shape \[16, 32, 3\].*try \.permute\(2, 0, 1\)"),
    "five dimensions": (np.zeros((1, 1, 9, 9, 3)), "is no picture and no batch"),
    "one dimension": (np.zeros(9), "is no picture and no batch"),
    "two channels": (np.zeros((9, 9, 2), np.uint8), "with 1, 3 or 4 channels"),
    "an empty batch": (np.zeros((0, 9, 9, 3), np.uint8), "no pictures were given"),
    "no height": (np.zeros((0, 9, 3), np.uint8), "has the shape"),
    "values from -1 to 1": (torch.linspace(-1, 1, 3 * 16 * 16).view(3, 16, 16), "negative numbers, from -1 to 1"),
    "complex numbers": (np.zeros((9, 9), complex), "holds complex128"),
    "an array of names": (np.array([["a.png"] * 9] * 9), "which is no picture"),
    "an empty list": ([], "no pictures were given"),
    "none": (None, "NoneType is no source of pictures"),
    "a number": (5, "int is no source of pictures"),
    "bytes": (b"\x89PNG", "bytes is no source of pictures"),
    "a dictionary": ({"image": 1}, "dict is no source of pictures"),
    "a list of numbers": ([1, 2], "picture 1 of 2 is of type int"),
    "a list with nothing in it": ([red(), None], "picture 2 of 2 is of type NoneType"),
    "a list of folders": ([Path("/")], "is a folder and not a picture file"),
    "a path with a zero": (["a\0b"], "is not a picture that can be read|cannot be read"),
}


@pytest.mark.parametrize(("source", "message"), REFUSED.values(), ids=REFUSED)
def test_unclear_forms_are_refused_by_name(source: Any, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        load_pictures(source)
