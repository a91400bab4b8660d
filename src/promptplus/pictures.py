"""Reading pictures: files and folders → RGB pictures → square tensors.

Files are recognised by their contents. Their size is checked before they are decoded.
"""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from promptplus.choices import Kind
from promptplus.errors import PictureError, first_line, warn

CONCEPT_JSON = "concept.json"
EXAMPLE = '{"token": "<cat>", "initializer": "cat"}'
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # not EPS, for which Pillow runs Ghostscript
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
MAX_PIXELS = 100_000_000  # as of the largest cameras; a larger file may be a decompression bomb
WHITE = (255, 255, 255)


class FolderNote(BaseModel):
    """The contents of ``concept.json`` in a folder of pictures: the concept that they show. All fields are optional.

    Attributes:
        token: the placeholder token, such as ``<cat>``.
        initializer: the word whose embedding training starts from.
        class_word: the plain word for the concept's class.
        kind: ``object`` or ``style``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str | None = None
    initializer: str | None = None
    class_word: str | None = None
    kind: Kind | None = None


def read_note(folder: str | os.PathLike[str]) -> FolderNote:
    """Read a folder's ``concept.json``; an empty note without one. Raises PictureError where it cannot be read."""
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
    """The files in a folder of pictures, sorted by name, without ``concept.json`` and hidden files.

    Raises PictureError where the folder is missing or empty, or contains folders.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PictureError(f"{folder} is {'a file' if folder.exists() else 'missing'}; give a folder of pictures")
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name != CONCEPT_JSON)
    if not entries:
        raise PictureError(f"{folder} is empty; put one to about ten pictures of the concept into it")
    folders = [p.name for p in entries if p.is_dir()]
    if folders:
        raise PictureError(f"{folder} holds folders ({', '.join(folders[:3])}); give one concept's folder of pictures")
    return entries


def concept_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """The folders of several concepts inside one folder, sorted by name.

    Each has a ``concept.json`` with a token and an initializer. Raises PictureError where it has not, or where there
    are no folders.
    """
    parent = Path(folder)
    folders = (
        sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith(".")) if parent.is_dir() else []
    )
    if not folders:
        raise PictureError(f"{parent} holds no folders; give a folder with one folder of pictures for each concept")
    for concept in folders:
        note = read_note(concept)
        missing = [name for name in ("token", "initializer") if not getattr(note, name)]
        if missing:
            raise PictureError(f"{concept / CONCEPT_JSON} names no {missing[0]}; write it there, as {EXAMPLE}")
    return folders


def load_pictures(source: str | os.PathLike[str] | Sequence[Any]) -> list[Image.Image]:
    """Read RGB pictures.

    Args:
        source: a folder, or a list of paths and PIL pictures. Damaged pictures in a folder are left out, with a
            warning that names them.

    Raises:
        PictureError: there are no pictures that can be read, a listed picture cannot be read, or a folder contains a
            file whose name is not that of a picture.
    """
    if not isinstance(source, str | os.PathLike):
        if not source:
            raise PictureError("no pictures were given")
        return [to_rgb(item) if isinstance(item, Image.Image) else read_picture(item) for item in source]
    pictures: list[Image.Image] = []
    bad: list[str] = []
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
        warn(f"left out {len(bad)} of {len(bad) + len(pictures)} files: {'; '.join(bad)}")
    return pictures


@dataclass(frozen=True)
class Dataset:
    """The pictures of a concept, with what is known about them.

    Attributes:
        pictures: RGB pictures of any size.
        note: token, initializer, class word and kind, as far as they are known.
        folder: the folder they were read from; None for pictures given as a list.
    """

    pictures: Sequence[Image.Image]
    note: FolderNote
    folder: Path | None = None

    @property
    def name(self) -> str:
        """The folder's name; empty for pictures given as a list."""
        return self.folder.name if self.folder else ""


def read_dataset(source: str | os.PathLike[str] | Sequence[Any] | Dataset, names: FolderNote | None = None) -> Dataset:
    """Read pictures together with the folder's note.

    Args:
        source: a folder, a list of paths and PIL pictures (which has no note), or a Dataset.
        names: values that replace those of the note.

    Raises:
        PictureError: the pictures or the note cannot be read.
    """
    if isinstance(source, Dataset):
        dataset = source
    elif isinstance(source, str | os.PathLike):
        dataset = Dataset(load_pictures(source), read_note(source), Path(source))
    else:
        dataset = Dataset(load_pictures(source), FolderNote())
    given = {name: value for name, value in (names or FolderNote()).model_dump().items() if value}
    return replace(dataset, note=dataset.note.model_copy(update=given))


@cache
def readable_formats() -> tuple[str, ...]:
    """The formats that can be read: FORMATS, and HEIC where ``promptplus[heic]`` is installed."""
    try:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportUnknownVariableType]
    except ImportError:
        return FORMATS
    register_heif_opener()
    return (*FORMATS, "HEIF")


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Read one picture: RGB, turned upright by its EXIF orientation. Raises PictureError where that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
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
    """Convert to RGB: transparency becomes white, 16-bit grey is scaled to 8 bits (Pillow would clip it)."""
    if picture.mode.startswith("I"):
        grey = np.asarray(picture, np.float32) / (257.0 if np.asarray(picture).max() > 255 else 1.0)
        picture = Image.fromarray(grey.round().astype(np.uint8))
    if picture.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        transparent = picture.convert("RGBA")
        picture = Image.new("RGB", transparent.size, WHITE)
        picture.paste(transparent, mask=transparent.getchannel("A"))
    return picture.convert("RGB")


def to_pixels(pictures: Sequence[Image.Image], size: int) -> Float[Tensor, "pictures 3 size size"]:
    """The centre squares of pictures, resized to ``size`` pixels, with values in [-1, 1]."""
    squares = [ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS) for picture in pictures]
    array = np.stack([np.asarray(square, np.float32) for square in squares])
    return torch.from_numpy(array).permute(0, 3, 1, 2) / 127.5 - 1  # pyright: ignore[reportUnknownMemberType]
