"""Pictures become what a viewer shows: depth of samples, colour profiles, transparency."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from promptplus.errors import PictureError
from promptplus.picture_colours import to_rgb
from promptplus.pictures import read_picture, to_picture

SIZE = (32, 16)  # width, height
RAMP = np.linspace(0, 1, SIZE[0], dtype=np.float64)[None].repeat(SIZE[1], 0)
P3 = {"rXYZ": (0.51512, 0.24120, -0.00105), "gXYZ": (0.29198, 0.69225, 0.04189), "bXYZ": (0.15710, 0.06657, 0.78407)}
"""The primaries of Display P3, adapted to D50 (Apple's profile)."""


def read_as(values: Any, path: Path, **tags: Any) -> np.ndarray:
    """What is read of an array that was saved as a file."""
    Image.fromarray(values).save(path, **tags)
    return np.asarray(read_picture(path))


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def p3_profile() -> bytes:
    """sRGB's profile with the primaries of Display P3: both have the same curve."""
    data = bytearray(srgb_profile())
    (count,) = struct.unpack(">I", data[128:132])
    for i in range(count):
        name, offset, _ = struct.unpack(">4sII", data[132 + 12 * i : 144 + 12 * i])
        if name.decode() in P3:
            numbers = [round(value * 65536) for value in P3[name.decode()]]
            data[offset + 8 : offset + 20] = struct.pack(">3i", *numbers)
    return bytes(data)


def whole_profile(kind: bytes, white: bytes, body: bytes) -> bytes:
    """A profile with its header; ``kind``: class, colour space and connection space; ``white``: the white point."""
    head = bytearray(128)
    head[0:4] = struct.pack(">I", 128 + len(body))
    head[8:12] = bytes([2, 0x40, 0, 0])
    head[12:24] = kind
    head[36:40] = b"acsp"
    head[68:80] = white[8:]
    return bytes(head) + body


def grey_profile(gamma: float) -> bytes:
    """A profile of grey with one gamma."""
    white = struct.pack(">4s4x3i", b"XYZ ", round(0.9642 * 65536), 65536, round(0.8249 * 65536))
    curve = struct.pack(">4s4xIHxx", b"curv", 1, round(gamma * 256))
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    body = table + white + curve
    return whole_profile(b"mntrGRAYXYZ ", white, body)


def cmyk_profile() -> bytes:
    """A printer whose cyan ink is the red of sRGB: paper is white, and black ink covers all."""
    white, red = bytes([255, 128, 128]), bytes([138, 209, 198])  # Lab of D50 as bytes: L · 2.55, a + 128, b + 128
    black, ramp = bytes([0, 128, 128]), bytes(range(256))
    table = struct.pack(">4s4xBBBx9i", b"mft1", 4, 3, 2, *[65536, 0, 0, 0, 65536, 0, 0, 0, 65536])
    table += ramp * 4 + (white + black) * 4 + (red + black) * 4 + ramp * 3
    point = struct.pack(">4s4x3i", b"XYZ ", round(0.9642 * 65536), 65536, round(0.8249 * 65536))
    body = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(point), b"A2B0", 176, len(table)) + point + table
    return whole_profile(b"prtrCMYKLab ", point, body)


def write_png(path: Path, rows: bytes, bits: int, colour_type: int) -> None:
    """A PNG of 16 × 16 pixels; each row begins with its filter, 0."""
    data = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", 16, 16, bits, colour_type, 0, 0, 0)
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(data)


# ---- depth


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_by_their_depth_and_not_by_their_largest(tmp_path: Path, suffix: str) -> None:
    for share in (1.0, 0.5):
        read = read_as((RAMP * share * 65535).round().astype(np.uint16), tmp_path / f"p.{suffix}")
        expected = (RAMP * share * 255)[:, :, None]
        assert np.abs(read - expected).max() <= 0.51


@pytest.mark.parametrize("tag", [281, 341])
def test_12_bits_in_16_are_read_where_the_file_says_so(tmp_path: Path, tag: int) -> None:
    twelve = (RAMP * 4095).round().astype(np.uint16)
    read = read_as(twelve, tmp_path / "p.tif", tiffinfo={tag: 4095})
    assert np.abs(read - (RAMP * 255)[:, :, None]).max() <= 0.51
    # TIFF 6.0: MaxSampleValue is a statistic, so a number that fills no whole number of bits says nothing
    read = read_as(twelve * 16, tmp_path / "q.tif", tiffinfo={tag: 65519})
    assert np.abs(read - (twelve * 16 / 257)[:, :, None]).max() <= 0.51


def test_packed_12_bits_are_read(tmp_path: Path) -> None:
    """A TIFF whose samples have 12 bits each, written by hand: two samples in three bytes."""
    row = (RAMP[0] * 4095).round().astype(int)
    pairs = [bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in zip(row[::2], row[1::2], strict=True)]
    data = b"".join(pairs) * SIZE[1]
    entries = [(256, 3, SIZE[0]), (257, 3, SIZE[1]), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 3, SIZE[1]), (279, 4, len(data))]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    (tmp_path / "p.tif").write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + ifd + bytes(4))
    read = np.asarray(read_picture(tmp_path / "p.tif"))
    assert np.abs(read - (RAMP * 255)[:, :, None]).max() <= 0.51


@pytest.mark.parametrize("top", [1, 255])
def test_fractions_are_shares_or_bytes(tmp_path: Path, top: float) -> None:
    read = read_as((RAMP * top).astype(np.float32), tmp_path / "p.tif")
    assert np.abs(read - (RAMP * 255)[:, :, None]).max() <= 0.51


def test_grey_where_0_is_white_is_turned(tmp_path: Path) -> None:
    read = read_as((RAMP * 65535).astype(np.uint16), tmp_path / "p.tif", tiffinfo={262: 0})
    assert np.abs(read - (255 - RAMP * 255)[:, :, None]).max() <= 1


def test_transparent_16_bit_grey_is_white(tmp_path: Path) -> None:
    values = np.full((16, 16), 30000, np.uint16)
    values[0, 0] = 5000
    read = read_as(values, tmp_path / "p.png", transparency=5000)
    assert tuple(read[0, 0]) == (255, 255, 255)
    assert tuple(read[5, 5]) == (117, 117, 117)


UNCLEAR: dict[str, tuple[Any, str, str]] = {
    "12 bits in 16, which no tag says": ((RAMP * 4095).astype(np.uint16), "tif", "no number above 4095 of 65535"),
    "16 bits that would be black": ((RAMP * 250).astype(np.uint16), "png", "no number above 250 of 65535"),
    "signed 32 bits": ((RAMP * 2000 - 1000).astype(np.int32), "tif", "negative numbers, from -1000 to 1000"),
    "whole numbers of 20 bits": ((RAMP * 2**20).astype(np.int32), "tif", "no clear meaning|negative"),
    "signed, and not bytes": ((RAMP * 32767).astype(np.int32), "tif", "no clear meaning"),
    "fractions above 1": ((RAMP * 5).astype(np.float32), "tif", "no number above 5 of 255"),
    "fractions above 255": ((RAMP * 1000).astype(np.float32), "tif", "up to 1000, which have no clear meaning"),
    "negative fractions": ((RAMP * 2 - 1).astype(np.float32), "tif", "negative numbers, from -1 to 1"),
    "no number": (np.full(RAMP.shape, np.nan, np.float32), "tif", "not finite"),
    "infinite": (np.full(RAMP.shape, np.inf, np.float32), "tif", "not finite"),
}


@pytest.mark.parametrize(("values", "suffix", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_numbers_without_a_clear_meaning_are_refused_by_name(
    tmp_path: Path, values: Any, suffix: str, message: str
) -> None:
    with pytest.raises(PictureError, match=message) as caught:
        read_as(values, tmp_path / f"odd.{suffix}")
    assert "odd." in str(caught.value)


def test_dark_colours_of_16_bits_are_refused(tmp_path: Path) -> None:
    """An RGB PNG of 16 bits whose numbers have 12: Pillow keeps the upper 8 bits."""

    row = b"\0" + struct.pack(">3H", 4000, 2000, 100) * 16
    write_png(tmp_path / "p.png", row * 16, bits=16, colour_type=2)
    with pytest.raises(PictureError, match=r"p\.png has no number above 3855 of 65535"):
        read_picture(tmp_path / "p.png")


def test_a_black_shape_on_transparent_16_bits_is_a_picture(tmp_path: Path) -> None:
    """16 bits, grey with alpha, which Pillow reads as RGBA: the left half is black, the right half transparent."""
    row = b"\0" + struct.pack(">2H", 0, 65535) * 8 + struct.pack(">2H", 0, 0) * 8
    write_png(tmp_path / "p.png", row * 16, bits=16, colour_type=4)
    read = np.asarray(read_picture(tmp_path / "p.png"))
    assert read[:, :8].max() == 0
    assert read[:, 8:].min() == 255


def test_black_with_8_bits_is_a_picture(tmp_path: Path) -> None:
    assert not read_as(np.zeros((16, 16), np.uint8), tmp_path / "p.png").any()


# ---- colour profiles


def test_display_p3_becomes_srgb(tmp_path: Path) -> None:
    Image.new("RGB", SIZE, (0, 200, 80)).save(tmp_path / "p.png", icc_profile=p3_profile())
    Image.new("RGB", SIZE, (0, 200, 80)).save(tmp_path / "p.webp", icc_profile=p3_profile(), lossless=True)
    Image.new("RGBA", SIZE, (0, 200, 80, 255)).save(tmp_path / "q.png", icc_profile=p3_profile())
    Image.new("RGB", SIZE, (0, 200, 80)).quantize(4).save(tmp_path / "r.png", icc_profile=p3_profile())
    for path in tmp_path.iterdir():
        assert np.abs(np.asarray(read_picture(path), int) - (0, 204, 58)).max() <= 1, path.name


def test_srgb_profiles_change_no_bit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    assert np.array_equal(read_as(noise, tmp_path / "p.png", icc_profile=srgb_profile()), noise)


def test_grey_profiles_are_applied(tmp_path: Path) -> None:
    read = read_as(np.full(SIZE, 128, np.uint8), tmp_path / "p.png", icc_profile=grey_profile(1.0))
    assert np.abs(read.astype(int) - 188).max() <= 1  # sRGB's curve at one half of the light
    read = read_as(np.full(SIZE, 32896, np.uint16), tmp_path / "q.png", icc_profile=grey_profile(1.0))
    assert np.abs(read.astype(int) - 188).max() <= 1


def test_inks_are_shown_as_their_profile_says(tmp_path: Path) -> None:
    Image.new("CMYK", SIZE, (255, 0, 0, 0)).save(tmp_path / "p.tif", icc_profile=cmyk_profile())
    Image.new("CMYK", SIZE, (0, 0, 0, 0)).save(tmp_path / "white.jpg", icc_profile=cmyk_profile(), quality=100)
    assert np.abs(np.asarray(read_picture(tmp_path / "p.tif"), int) - (255, 0, 0)).max() <= 6
    assert np.asarray(read_picture(tmp_path / "white.jpg")).min() >= 253


def test_lab_becomes_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", SIZE, (200, 30, 40))
    lab = ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    picture = ImageCms.applyTransform(red, transform)
    assert picture is not None
    picture.info.clear()
    picture.save(tmp_path / "p.tif")
    assert np.abs(np.asarray(read_picture(tmp_path / "p.tif"), int) - (200, 30, 40)).max() <= 3


@pytest.mark.parametrize("profile", [b"no profile", grey_profile(1.0), srgb_profile()[:200]])
def test_a_profile_that_cannot_be_used_is_left_out_with_a_note(tmp_path: Path, profile: bytes) -> None:
    Image.new("RGB", SIZE, (0, 200, 80)).save(tmp_path / "p.png", icc_profile=profile)
    with pytest.warns(UserWarning, match=r"p\.png: the colour profile was left out: "):
        assert read_picture(tmp_path / "p.png").getpixel((0, 0)) == (0, 200, 80)


def test_cmyk_without_a_profile_is_read(tmp_path: Path) -> None:
    Image.new("CMYK", SIZE, (0, 255, 255, 0)).save(tmp_path / "p.jpg", quality=100)
    assert np.abs(np.asarray(read_picture(tmp_path / "p.jpg"), int) - (255, 0, 0)).max() <= 3


# ---- what shows nothing


def transparent() -> Image.Image:
    return Image.new("RGBA", SIZE, (200, 30, 40, 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (transparent, "is fully transparent"),
        (lambda: transparent().convert("LA"), "is fully transparent"),
        (lambda: Image.new("RGB", (1, 1)), r"is 1×1; give pictures of at least 8×8"),
        (lambda: Image.new("RGB", (7, 50)), r"is 7×50; give pictures of at least 8×8"),
        (lambda: Image.new("RGB", (20_000, 10)), r"is 20000×10; give pictures at most 8 times as long as wide"),
        (lambda: Image.new("RGB", (10, 81)), r"is 10×81; give pictures at most 8 times"),
    ],
)
def test_a_picture_that_shows_nothing_is_refused_by_name(
    tmp_path: Path, make: Callable[[], Image.Image], message: str
) -> None:
    make().save(tmp_path / "odd.png")
    for source in (tmp_path / "odd.png", make()):
        with pytest.raises(PictureError, match=message) as caught:
            to_picture(source)
    assert "the picture" in str(caught.value)


def test_the_smallest_and_the_longest_pictures_are_read() -> None:
    assert to_picture(Image.new("RGB", (8, 64))).size == (8, 64)


def test_pil_pictures_are_turned_upright_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (16, 32)).save(buffer, "PNG", exif=exif)
    assert to_picture(Image.open(buffer)).size == (32, 16)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_every_mode_of_pil_becomes_rgb(mode: str) -> None:
    grey = Image.fromarray((RAMP * 255).round().astype(np.uint8))
    through = {"PA": "LA", "La": "LA", "RGBa": "RGBA", "HSV": "RGB"}.get(mode, mode)
    picture = grey.convert(through) if through == mode else grey.convert(through).convert(mode)
    read = to_rgb(picture)
    assert read.mode == "RGB"
    if mode != "1":
        assert np.abs(np.asarray(read, int) - np.asarray(grey, int)[:, :, None]).max() <= 2
