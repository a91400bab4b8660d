"""Checkpoints that a kill or a damaged file cannot cost more than a few minutes."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch


def save_atomically(value: object, path: Path) -> None:
    """`torch.save` beside `path`, then rename over it: a killed run leaves the last whole checkpoint.

    What was at `path` is kept as `previous(path)`.
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
    """Where the checkpoint before that of `path` is kept."""
    return path.with_suffix(".previous.pt")


def newest_whole(path: Path) -> dict[str, Any] | None:
    """The checkpoint `path`, or the one before it where that is missing or damaged; None where there is none yet."""
    present = [each for each in (path, previous(path)) if each.exists()]
    for each in present:
        try:
            return torch.load(each, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            print(f"{each} is damaged and left out: {error}", flush=True)
    if present:
        raise RuntimeError(f"no checkpoint can be read any more: {', '.join(map(str, present))}")
    return None
