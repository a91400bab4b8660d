"""The pictures of a concept, from wherever they are given, with the folder's note and the pictures' captions."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from promptplus.caption_files import read_captions
from promptplus.choices import Kind
from promptplus.errors import PictureError, SettingsError
from promptplus.picture_folders import CONCEPT_JSON, FOREIGN_FOLDERS, PROMPTS_JSON, read_files
from promptplus.pictures import is_path, to_picture
from promptplus.text_files import read_json

EXAMPLE = '{"token": "<cat>", "initializer": "cat"}'


Source = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor | Iterable[Any]
"""What pictures are read from: see ``load_pictures``."""


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


@dataclass(frozen=True)
class Dataset:
    """The pictures of a concept, with what is known about them.

    Attributes:
        pictures: RGB pictures of any size.
        note: token, initializer, class word and kind, as far as they are known.
        folder: the folder they were read from; None for pictures given otherwise.
        captions: a text for each picture, as it was written; None: training uses the templates.
        describe: one caption for all pictures, as ``a {} mug on a table``; None: captions or templates.
        files: the file name of each picture; None for one that came from memory; empty: not known.
    """

    pictures: Sequence[Image.Image]
    note: FolderNote
    folder: Path | None = None
    captions: tuple[str, ...] | None = None
    files: tuple[str | None, ...] = ()
    describe: str | None = None

    @property
    def name(self) -> str:
        """The folder's name; empty for pictures given otherwise."""
        return self.folder.name if self.folder else ""


Pictures = Source | Dataset
"""What ``invert`` learns from."""


def read_dataset(
    source: Pictures, names: FolderNote | None = None, captions: bool = False, describe: str | None = None
) -> Dataset:
    """Read pictures together with the folder's note.

    Args:
        source: a Dataset, or what ``load_pictures`` takes. Only a folder has a note.
        names: values that replace those of the note.
        captions: read the captions beside the pictures.
        describe: one caption for all pictures, in place of others.

    Raises:
        PictureError: the pictures, the note or the captions cannot be read.
        SettingsError: both captions and one for all are asked for.
    """
    if captions and describe is not None:
        raise SettingsError("captions and describe both say what the pictures show; leave one out")
    if isinstance(source, Dataset):
        dataset = source
        if captions and dataset.captions is None:
            raise PictureError("captions were asked for, but the dataset has none; read it with captions=True")
    else:
        folder = Path(source) if is_path(source) and Path(source).is_dir() else None
        note = read_note(folder) if folder else FolderNote()
        read = read_pictures(source, captions)
        texts = read_captions([path for path, _ in read]) if captions else None
        files = tuple(path.name if path else None for path, _ in read)
        dataset = Dataset([picture for _, picture in read], note, folder, texts, files)
    given = {name: value for name, value in (names or FolderNote()).model_dump().items() if value}
    if describe is not None:
        dataset = replace(dataset, captions=None, describe=describe)
    return replace(dataset, note=dataset.note.model_copy(update=given))


def load_pictures(source: Source) -> list[Image.Image]:
    """Read RGB pictures.

    Args:
        source: a folder; a file; a pattern such as ``photos/*.jpg``; a PIL picture; a numpy array or a tensor of one
            picture or a batch; or a list of files, PIL pictures, arrays and tensors. See ``to_picture``. Files of a
            folder or a pattern that are no pictures, or cannot be read, are left out with a warning that names them.

    Raises:
        PictureError: there are no pictures that can be read, a picture that was named cannot be read, or a folder
            contains a file that is neither a picture nor a known by-product.
    """
    return [picture for _, picture in read_pictures(source)]


def read_pictures(source: Source, captions: bool = False) -> list[tuple[Path | None, Image.Image]]:
    """Read pictures as ``load_pictures`` does, each with its file if it has one.

    Args:
        source: as for ``load_pictures``.
        captions: files of captions are used, so no note says that they are left out.
    """
    if is_path(source):
        path = Path(source)
        if path.exists() and not path.is_dir():
            return [(path, to_picture(path))]
        if not path.exists() and not glob.has_magic(str(path)):
            raise PictureError(f"{path} is missing; give a folder of pictures, or picture files")
        entries = list(path.iterdir()) if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
        if not (entries := sorted(entries)) and not path.is_dir():
            raise PictureError(f"{path} matches no file; give a folder of pictures, or picture files")
        return [*read_files(str(path), entries, captions)]
    values: Any = source
    if isinstance(source, Tensor | np.ndarray):
        if values.ndim not in (2, 3, 4):
            raise PictureError(f"an array of shape {list(values.shape)} is no picture and no batch of pictures")
        items = list(values) if values.ndim == 4 else [values]
    elif isinstance(source, Image.Image):
        items = [values]
    elif isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | dict):
        items = list(values)
    else:
        raise PictureError(f"{type(values).__name__} is no source of pictures; give a folder, files or pictures")
    if not items:
        raise PictureError("no pictures were given")
    named = [(item, f"picture {number} of {len(items)}") for number, item in enumerate(items, 1)]
    return [(Path(i) if is_path(i) else None, to_picture(i, name)) for i, name in named]


def read_note(folder: str | os.PathLike[str]) -> FolderNote:
    """Read a folder's ``concept.json``; an empty note without one. Raises PictureError where it cannot be read."""
    path = Path(folder) / CONCEPT_JSON
    if not os.path.lexists(path):
        return FolderNote()
    return read_json(path, FolderNote, PictureError, "is no note of {token, initializer, class_word, kind}")


def read_picture_prompts(folder: str | os.PathLike[str]) -> dict[str, str] | None:
    """The prompts of pictures by file name, from a folder's ``prompts.json``; None where there is no such file."""
    path = Path(folder) / PROMPTS_JSON
    if not os.path.lexists(path):
        return None
    remedy = 'write it as {"a.png": "a red car"}'
    return read_json(path, dict[str, str], PictureError, "is no object of file names and prompts", remedy)


def subfolders(folder: str | os.PathLike[str]) -> list[Path]:
    """The folders inside a folder, sorted by name, without hidden ones and those of other programs."""
    parent = Path(folder)
    entries = sorted(parent.iterdir()) if parent.is_dir() else []
    return [p for p in entries if p.is_dir() and not p.name.startswith(".") and p.name.lower() not in FOREIGN_FOLDERS]


def concept_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """The folders of several concepts inside one folder, sorted by name.

    Each has a ``concept.json`` with a token and an initializer. Raises PictureError where it has not, or where there
    are no folders.
    """
    parent = Path(folder)
    folders = subfolders(parent)
    if not folders:
        raise PictureError(f"{parent} holds no folders; give a folder with one folder of pictures for each concept")
    for concept in folders:
        note = read_note(concept)
        missing = [name for name in ("token", "initializer") if not getattr(note, name)]
        if missing:
            raise PictureError(f"{concept / CONCEPT_JSON} names no {missing[0]}; write it there, as {EXAMPLE}")
    return folders
