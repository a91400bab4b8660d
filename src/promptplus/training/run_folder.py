"""The folder of one training run on disk."""

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from promptplus.errors import OutputError, first_line, warn
from promptplus.files import TEMPORARY, check_folder, make_folder, reported, whole_file, write_atomically
from promptplus.report.picture_grid import GAP, tile
from promptplus.text_files import read_bytes
from promptplus.training import checkpoint
from promptplus.training.checkpoint import LOCK
from promptplus.training.settings import TrainingSettings

LOG, PREVIEWS = "log.jsonl", "previews"
LOG_BYTES = 2**30  # the largest log that is read: ten million steps
CLASS_WORD_STRIP = "class-word.png"
OLD_CLASS_WORD_STRIP = "without.png"  # its name in run folders of version 0.1
STRIPS = 5  # preview strips of a run by default, the last step's among them (our choice)


class RunFolder:
    """The folder of one run: settings.json, log.jsonl, previews/, the checkpoint, and what was learned.

    A folder that holds a run may be opened again to continue it. Any other folder that is not empty is refused.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = make_folder(check_run_folder(path))
        self.start = time.monotonic()

    def write_settings(self, values: dict[str, Any]) -> None:
        """What the run was asked to do."""
        write_atomically(self.path / "settings.json", (json.dumps(values, indent=2) + "\n").encode())

    def append_losses(self, first_step: int, losses: Sequence[float]) -> None:
        """Append one line per step."""
        seconds = round(time.monotonic() - self.start, 3)
        lines = [
            json.dumps({"step": step, "loss": loss, "seconds": seconds}) for step, loss in enumerate(losses, first_step)
        ]
        with reported(self.path / LOG), (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))

    def cut_log(self, steps: int) -> None:
        """Remove the lines that were logged after the checkpoint that a run continues from."""
        path = self.path / LOG
        if path.exists():
            lines = read_bytes(path, OutputError, LOG_BYTES).splitlines(keepends=True)[:steps]
            write_atomically(path, b"".join(lines))  # bytes: a damaged line stays as it is, and stops no run

    def save_preview(self, step: int, pictures: Sequence[Image.Image]) -> None:
        """Save one strip of previews."""
        self._save_strip(f"step-{step:05d}.png", pictures)

    def previews(self) -> list[tuple[int, list[Image.Image]]]:
        """The saved strips, by step."""
        return read_previews(self.path)

    def class_word_previews(self) -> list[Image.Image]:
        """The pictures of the class word, if there are any."""
        return read_class_word_previews(self.path)

    def save_class_word_previews(self, pictures: Sequence[Image.Image]) -> None:
        """Save the pictures of the class word, if there are any."""
        if pictures:
            self._save_strip(CLASS_WORD_STRIP, pictures)

    def _save_strip(self, name: str, pictures: Sequence[Image.Image]) -> None:
        with whole_file(self.path / PREVIEWS / name) as temporary:
            tile(pictures, columns=len(pictures)).save(temporary, "PNG")


def read_previews(folder: Path) -> list[tuple[int, list[Image.Image]]]:
    """The strips of previews in a run folder, by step.

    Warns of a damaged one and leaves it out: no training depends on it.
    """
    numbers = {path.stem.removeprefix("step-"): path for path in sorted((folder / PREVIEWS).glob("step-*.png"))}
    strips = [(int(number), _cut(path)) for number, path in numbers.items() if number.isdecimal()]
    return [(step, strip) for step, strip in strips if strip]


def read_class_word_previews(folder: Path) -> list[Image.Image]:
    """The pictures of the class word in a run folder, if there are any."""
    paths = (folder / PREVIEWS / name for name in (CLASS_WORD_STRIP, OLD_CLASS_WORD_STRIP))
    return next((_cut(path) for path in paths if path.exists()), [])


def _cut(path: Path) -> list[Image.Image]:
    """The square pictures of a strip; none where it is damaged."""
    try:
        with Image.open(path, formats=["PNG"]) as strip:
            side = strip.height
            return [strip.crop((x, 0, x + side, side)) for x in range(0, strip.width, side + GAP)]
    except Exception as error:  # whatever a damaged file makes Pillow raise
        warn(f"{path} is no strip of previews and was left out: {first_line(error)}")
        return []


def check_run_folder(path: str | os.PathLike[str]) -> Path:
    """See, before any work, that a run can begin or go on in a folder. Raises OutputError where it cannot."""
    folder = check_folder(path)
    held = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    ours = {name for name in held if name == LOCK or name.startswith(TEMPORARY)}
    if held - ours and not held & {checkpoint.NAME, checkpoint.PREVIOUS}:
        raise OutputError(f"{folder} already holds something; nothing is overwritten, so give another folder")
    return folder


def preview_interval(given: int | None, settings: TrainingSettings, has_folder: bool) -> int:
    """Steps between preview strips: as given, else ``STRIPS`` over the run if there is a folder, else 0 (none)."""
    if given is not None:
        return given
    return math.ceil(settings.steps / STRIPS) if has_folder else 0
