"""Pictures from outside: a folder → squares in [-1, 1], read by content and never trusted in size."""

import json
import os
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from promptplus.errors import PictureError, first_line

CONCEPT_JSON = "concept.json"
EXAMPLE = '{"token": "<cat>", "initializer": "cat"}'
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # no EPS: Pillow hands it to Ghostscript
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
MAX_PIXELS = 100_000_000  # a 100-megapixel camera; above it a file is taken for a decompression bomb
WHITE = (255, 255, 255)


class FolderNote(BaseModel):
    """A picture folder's ``concept.json``: what its pictures show. Every field is optional for ``invert``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str | None = None
    initializer: str | None = None
    class_word: str | None = None
    kind: Literal["object", "style"] | None = None


def read_note(folder: str | os.PathLike[str]) -> FolderNote:
    """The folder's ``concept.json``, or an empty note. Raises PictureError on one that cannot be read."""
    path = Path(folder) / CONCEPT_JSON
    if not path.is_file():
        return FolderNote()
    try:
        return FolderNote.model_validate(json.loads(path.read_text("utf-8")))
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PictureError(
            f"{path} is no note of {{token, initializer, class_word, kind}}: {first_line(error)}"
        ) from error


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The picture files of one concept's folder, by name; ``concept.json`` and hidden files are passed over.

    Raises PictureError on a missing or empty folder, and on one that mixes in anything else.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PictureError(f"{folder} is {'a file' if folder.exists() else 'missing'}; give a folder of pictures")
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name != CONCEPT_JSON)
    if not entries:
        raise PictureError(f"{folder} is empty; put one to about ten pictures of the concept into it")
    inner = [p.name for p in entries if p.is_dir()]
    if inner:
        raise PictureError(f"{folder} holds folders ({', '.join(inner[:3])}); give one concept's folder of pictures")
    return entries


def concept_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """The sub-folders of a folder, each one concept's; each has a ``concept.json`` with a token and an initializer.

    Raises PictureError where there are none, or where one's note lacks these.
    """
    folder = Path(folder)
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")) if folder.is_dir() else []
    if not inner:
        raise PictureError(f"{folder} holds no folders; give a folder with one folder of pictures for each concept")
    for one in inner:
        note = read_note(one)
        missing = [name for name in ("token", "initializer") if not getattr(note, name)]
        if missing:
            raise PictureError(f"{one / CONCEPT_JSON} names no {missing[0]}; write it there, as {EXAMPLE}")
    return inner


def load_pictures(source: str | os.PathLike[str] | Sequence[Any]) -> list[Image.Image]:
    """RGB pictures from a folder, or from a list of paths and PIL pictures.

    A folder's broken pictures are left out with a warning that names them. Raises PictureError where none is left, and
    on a file that does not even claim to be a picture.
    """
    if not isinstance(source, str | os.PathLike):
        if not source:
            raise PictureError("no pictures were given")
        return [to_rgb(item) if isinstance(item, Image.Image) else read_picture(item) for item in source]
    pictures, bad = [], []
    for path in picture_files(source):
        try:
            pictures.append(read_picture(path))
        except PictureError as error:
            if path.suffix.lower() not in SUFFIXES:
                raise
            bad.append(str(error))
    if not pictures:
        raise PictureError(f"{source} holds no picture that can be read: {'; '.join(bad)}")
    if bad:
        warnings.warn(f"left out {len(bad)} of {len(bad) + len(pictures)} files: {'; '.join(bad)}", stacklevel=3)
    return pictures


@cache
def readable_formats() -> tuple[str, ...]:
    """FORMATS, and HEIC where the extra ``promptplus[heic]`` is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return FORMATS
    register_heif_opener()
    return (*FORMATS, "HEIF")


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """One picture, upright and in RGB. Raises PictureError naming a file that is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own cap follows
            with Image.open(path, formats=readable_formats()) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise PictureError(
                        f"{path} is {picture.width}×{picture.height}; at most {MAX_PIXELS:,} pixels are read"
                    )
                return to_rgb(ImageOps.exif_transpose(picture))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"{path} is not a picture that can be read ({', '.join(readable_formats())})") from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """RGB on white; sixteen-bit grey is scaled down (Pillow's own conversion would clip it to white)."""
    if picture.mode.startswith("I"):
        grey = np.asarray(picture, np.float32) / (257.0 if np.asarray(picture).max() > 255 else 1.0)
        picture = Image.fromarray(grey.round().astype(np.uint8))
    if picture.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        picture = Image.new("RGB", seen.size, WHITE)
        picture.paste(seen, mask=seen.getchannel("A"))
    return picture.convert("RGB")


def to_pixels(pictures: Sequence[Image.Image], size: int) -> Tensor:
    """Centre squares ``[N, 3, size, size]`` in [-1, 1]."""
    squares = [ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS) for picture in pictures]
    array = np.stack([np.asarray(square, np.float32) for square in squares])
    return torch.from_numpy(array).permute(0, 3, 1, 2) / 127.5 - 1
