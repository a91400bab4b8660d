"""What a checkpoint keeps of each picture, so that a changed one can be named when the run continues."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from promptplus.datasets import Dataset
from promptplus.fingerprints import tensor_hash

PICTURE_FILES = "picture_files"
"""The key in a run's record: the name and hash of each picture. Only messages depend on it; version 0.1 had none."""
NAMED = 3  # pictures in a message


def picture_names(dataset: Dataset) -> list[str]:
    """What messages call the pictures: their files' names, or "picture 1", … where they have none."""
    files = dataset.files or [None] * len(dataset.pictures)
    names = [file or f"picture {number}" for number, file in enumerate(files, 1)]
    return [name.encode("utf-8", "backslashreplace").decode() for name in names]


def picture_files_record(pixels: Tensor, names: Sequence[str]) -> list[list[str]]:
    """(name, hash) of each picture; ``pixels``: ``[pictures, 3, size, size]``."""
    return [[name, tensor_hash(picture)[:16]] for name, picture in zip(names, pixels, strict=True)]


def changed_pictures(before: Any, now: Any) -> str:
    """How pictures changed between two records, as ": a.png has changed, b.png is new"; empty if it is not known."""
    try:
        old, new = (dict(TypeAdapter(list[tuple[str, str]]).validate_python(record)) for record in (before, now))
    except ValidationError:  # one of version 0.1
        return ""
    changes = [f"{name} has changed" for name in new if name in old and old[name] != new[name]]
    changes += [f"{name} is new" for name in new if name not in old]
    changes += [f"{name} is missing" for name in old if name not in new]
    more = [f"{len(changes) - NAMED} more"] if len(changes) > NAMED else []
    return ": " + ", ".join([*changes[:NAMED], *more]) if changes else ""
