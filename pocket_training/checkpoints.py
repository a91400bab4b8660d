"""Checkpoints: written atomically, with the checkpoint before kept in case one is damaged."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch


def save_atomically(value: object, path: Path) -> None:
    """Write `value` to a temporary file and rename it to `path`, so that a killed process leaves no partial file.

    The file that was at `path` becomes `previous(path)`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(value, file)
        os.fsync(file.fileno())
    if path.exists():
        os.replace(path, previous(path))
    os.replace(partial, path)


def previous(path: Path) -> Path:
    """The path of the checkpoint before `path`."""
    return path.with_suffix(".previous.pt")


def load_newest(path: Path) -> dict[str, Any] | None:
    """Load the checkpoint `path`, or the one before if it is missing or damaged; None if there is none.

    Raises:
        RuntimeError: checkpoints exist, but all are damaged.
    """
    existing = [candidate for candidate in (path, previous(path)) if candidate.exists()]
    for candidate in existing:
        try:
            return torch.load(candidate, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            print(f"{candidate} is damaged and skipped: {error}", flush=True)
    if existing:
        raise RuntimeError(f"no checkpoint can be read any more: {', '.join(map(str, existing))}")
    return None
