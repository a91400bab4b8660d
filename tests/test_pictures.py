from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from promptplus.datasets import load_pictures, read_note
from promptplus.errors import PictureError
from promptplus.picture_colours import to_rgb
from promptplus.pictures import read_picture, to_pixels

RED = (200, 30, 40)


def half_red(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Left half red, right half blue."""
    picture = Image.new("RGB", size, (20, 40, 210))
    picture.paste(RED, (0, 0, size[0] // 2, size[1]))
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = half_red() if undo is None else half_red().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "p.png", exif=exif)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "p.png")), np.asarray(half_red()))


def test_modes_become_rgb() -> None:
    grey = Image.fromarray(np.full((4, 4), 30000, np.uint16))
    assert to_rgb(grey).getpixel((0, 0)) == (117, 117, 117)
    clear = Image.new("RGBA", (4, 4), (*RED, 0))
    clear.putpixel((3, 3), (*RED, 255))
    assert to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(clear).getpixel((3, 3)) == RED
    palette = half_red().convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(palette).getpixel((39, 0)) != (255, 255, 255)
    for mode in ("L", "LA", "CMYK", "1", "F"):
        assert to_rgb(half_red().convert("L" if mode == "F" else mode)).mode == "RGB"


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 30)])
def test_any_shape_becomes_a_centre_square(size: tuple[int, int]) -> None:
    pixels = to_pixels([half_red(size)], 16)
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.min() >= -1
    assert pixels.max() <= 1


def test_pixels_are_the_pictures() -> None:
    pixels = to_pixels([half_red((16, 16))], 16)
    back = ((pixels[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    assert np.array_equal(back, np.asarray(half_red((16, 16))))


def test_a_folder_is_read_by_name_without_notes_and_hidden_files(tmp_path: Path) -> None:
    for name, size in (("b.png", (14, 14)), ("a.jpg", (16, 16)), ("c.webp", (18, 18))):
        half_red(size).save(tmp_path / name)
    (tmp_path / "concept.json").write_text('{"token": "<x>", "kind": "style"}')
    (tmp_path / ".DS_Store").write_text("x")
    assert [p.size for p in load_pictures(tmp_path)] == [(16, 16), (14, 14), (18, 18)]
    note = read_note(tmp_path)
    assert (note.token, note.kind, note.initializer) == ("<x>", "style", None)


@pytest.mark.parametrize(
    "note", ["[]", "{", '{"kind": "animal"}', '{"tocken": "<x>"}', '{"token": 3}', b"\xff\xfe".decode("latin1")]
)
def test_a_bad_note_is_refused_by_name(tmp_path: Path, note: str) -> None:
    (tmp_path / "concept.json").write_text(note, "latin1")
    with pytest.raises(PictureError, match=r"concept\.json is no note"):
        read_note(tmp_path)


def bomb(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path)


def truncated(path: Path) -> None:
    half_red((400, 400)).save(path)
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_text("no picture"), "is not a picture"),
        (lambda p: p.write_bytes(b""), "is not a picture"),
        (lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "is not a picture"),
        (truncated, "is not a picture"),
        (bomb, "pixels are read|is not a picture"),
        (lambda p: p.mkdir(), "holds folders"),
    ],
)
def test_a_file_that_is_no_picture_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], Any], message: str
) -> None:
    make(tmp_path / "bad.png")
    with pytest.raises(PictureError, match=message) as caught:
        load_pictures(tmp_path)
    assert "bad.png" in str(caught.value)


def test_missing_empty_and_file_folders(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="missing"):
        load_pictures(tmp_path / "none")
    with pytest.raises(PictureError, match="is empty"):
        load_pictures(tmp_path)
    half_red().save(tmp_path / "p.png")
    assert [p.size for p in load_pictures(tmp_path / "p.png")] == [(40, 20)]
    (tmp_path / "words.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"words\.png is not a picture"):
        load_pictures(tmp_path / "words.png")
    with pytest.raises(PictureError, match="no pictures were given"):
        load_pictures([])


def test_heic_is_read_where_its_extra_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the extra heic")
    heif.register_heif_opener()
    Image.new("RGB", (32, 32), RED).save(tmp_path / "p.heic", quality=100)
    near = np.abs(np.asarray(load_pictures(tmp_path)[0], int) - np.array(RED)).max()
    assert near < 12  # HEIC loses a little colour


def test_broken_pictures_are_left_out_said_aloud(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    (tmp_path / "c.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"left out 2 of 3 files: .*b\.png.*c\.jpg"):
        assert len(load_pictures(tmp_path)) == 1
    (tmp_path / "a.png").unlink()
    with pytest.raises(PictureError, match="holds no picture that can be read"):
        load_pictures(tmp_path)


def test_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    (picture,) = load_pictures(tmp_path)
    assert picture.getpixel((4, 4)) == (255, 0, 0)
