"""Whatever a file or an array holds: it becomes an RGB picture, or a PictureError says why not."""

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, PngImagePlugin, features

from promptplus.caption_files import read_captions
from promptplus.datasets import load_pictures
from promptplus.errors import PictureError
from promptplus.pictures import read_picture, to_picture

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
BOUNDED = settings(
    max_examples=1500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
FORMATS = ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", *(["AVIF"] if features.check("avif") else [])]
MODES = {"PNG": ("RGB", "RGBA", "P", "L", "1", "I;16"), "TIFF": ("RGB", "CMYK", "I;16", "F", "I", "LA"), "GIF": ("P",)}


def valid_files() -> list[bytes]:
    """Small good files of every format and mode, with profile, EXIF and text."""
    noise = np.random.default_rng(0)
    made: list[bytes] = []
    exif = Image.Exif()
    exif[0x0112] = 6
    info = PngImagePlugin.PngInfo()
    info.add_itxt("promptplus", "{}", zip=True)
    for name in FORMATS:
        for mode in MODES.get(name, ("RGB",)):
            if mode == "I;16":
                picture = Image.fromarray(noise.integers(0, 65536, (16, 24), np.uint16))
            elif mode in ("I", "F"):
                picture = Image.fromarray(
                    noise.integers(0, 255, (16, 24)).astype(np.int32 if mode == "I" else np.float32)
                )
            else:
                picture = Image.fromarray(noise.integers(0, 256, (16, 24, 3), np.uint8)).convert(mode)
            buffer = io.BytesIO()
            options: dict[str, Any] = {"exif": exif} if name in ("PNG", "JPEG", "WEBP") else {}
            options |= {"pnginfo": info, "icc_profile": bytes(200)} if name == "PNG" else {}
            options |= {"compression": "tiff_lzw"} if name == "TIFF" and mode == "RGB" else {}
            picture.save(buffer, name, **options)
            made.append(buffer.getvalue())
    return made


PIL_MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "I;16")
VALID = valid_files()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with some bytes exchanged, left out or put in, or with its end cut off."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1)) if data else 0
        kind = draw(st.sampled_from("exchange insert remove cut".split()))
        if kind == "exchange":
            new = draw(st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b"\0" * 4, b"\xff" * 4])))
            data[at : at + len(new)] = new
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 20))]
        else:
            del data[at:]
    return bytes(data)


def check(read: Any) -> None:
    """The only two outcomes."""
    with suppress(PictureError):
        picture = read()
        assert picture.mode == "RGB"
        assert np.asarray(picture).shape == (picture.height, picture.width, 3)


@settings(BOUNDED, max_examples=5000)
@given(st.one_of(damaged(), damaged(), st.binary(max_size=300)))
def test_any_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(lambda: read_picture(path))
        check(lambda: load_pictures(tmp_path)[0])


@BOUNDED
@given(
    arrays.arrays(
        st.one_of(
            arrays.integer_dtypes(),
            arrays.unsigned_integer_dtypes(),
            arrays.floating_dtypes(),
            arrays.boolean_dtypes(),
            arrays.complex_number_dtypes(),
            arrays.unicode_string_dtypes(max_len=3),
        ),
        st.one_of(
            arrays.array_shapes(max_dims=5, max_side=9),
            st.sampled_from([(8, 8), (9, 8, 3), (8, 9, 4), (8, 8, 1), (2, 8, 8, 3)]),
        ),
    )
)
def test_any_array(values: np.ndarray) -> None:
    check(lambda: to_picture(values))
    check(lambda: load_pictures(values)[0])


@BOUNDED
@given(
    st.sampled_from(["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "I;16"]), st.data()
)
def test_any_pil_picture(mode: str, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 20))
    picture = Image.new(mode, (width, height))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        if mode == "F":
            picture.putpixel(at, data.draw(st.floats(width=32)))
        elif mode == "I":
            picture.putpixel(at, data.draw(st.integers(-(2**31), 2**31 - 1)))
        else:
            colours = tuple(data.draw(st.integers(0, 255)) for _ in picture.getbands())
            picture.putpixel(at, colours if len(colours) > 1 else colours[0])
    picture.info["icc_profile"] = data.draw(st.one_of(st.none(), st.binary(max_size=200)))
    if mode in ("L", "P", "1") and data.draw(st.booleans()):
        picture.info["transparency"] = data.draw(st.integers(0, 255))
    check(lambda: to_picture(picture))


@BOUNDED
@given(st.one_of(st.binary(max_size=200), st.text().map(str.encode), st.just(b"[" * 100_000)))
def test_any_caption_file(tmp_path: Path, data: bytes) -> None:
    for name in ("p0.txt", "metadata.jsonl"):
        (tmp_path / "p0.txt").unlink(missing_ok=True)
        (tmp_path / name).write_bytes(data)
        with suppress(PictureError):
            (caption,) = read_captions([tmp_path / "p0.png"])
            assert caption.strip()
