"""The folder of one training run on disk."""

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from promptplus.errors import OutputError
from promptplus.files import TEMPORARY, check_folder, make_folder, reported, whole_file, write_atomically
from promptplus.report.picture_grid import GAP, tile
from promptplus.training import checkpoint
from promptplus.training.checkpoint import LOCK
from promptplus.training.settings import TrainingSettings

LOG, PREVIEWS = "log.jsonl", "previews"


WITHOUT = "without.png"


STRIPS = 5  # previews that a run makes by default, its last step's among them (our choice)


class RunFolder:
    """The folder of one run: settings.json, log.jsonl, previews/, the checkpoint, and what was learned.

    A folder that holds a run may be opened again, to go on with it; any other that is not empty is refused.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = make_folder(check_run_folder(path))
        self.start = time.monotonic()

    def write_settings(self, values: dict[str, Any]) -> None:
        """What the run was asked to do."""
        write_atomically(self.path / "settings.json", (json.dumps(values, indent=2) + "\n").encode())

    def log(self, first_step: int, losses: Sequence[float]) -> None:
        """Append one line per step."""
        seconds = round(time.monotonic() - self.start, 3)
        lines = [
            json.dumps({"step": step, "loss": loss, "seconds": seconds}) for step, loss in enumerate(losses, first_step)
        ]
        with reported(self.path / LOG), (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))

    def cut_log(self, steps: int) -> None:
        """Forget what was logged after the checkpoint that a run goes on from."""
        path = self.path / LOG
        if path.exists():
            lines = path.read_text("utf-8").splitlines(keepends=True)[:steps]
            write_atomically(path, "".join(lines).encode())

    def preview(self, step: int, pictures: Sequence[Image.Image]) -> None:
        """Save one strip of previews."""
        self._save_strip(f"step-{step:05d}.png", pictures)

    def previews(self) -> list[tuple[int, list[Image.Image]]]:
        """The strips that are there, by step."""
        paths = sorted((self.path / PREVIEWS).glob("step-*.png"))
        return [(int(path.stem.removeprefix("step-")), _cut(path)) for path in paths]

    def without(self) -> list[Image.Image]:
        """The strip of the class word, if there is one."""
        path = self.path / PREVIEWS / WITHOUT
        return _cut(path) if path.exists() else []

    def keep_without(self, pictures: Sequence[Image.Image]) -> None:
        """Save the strip of the class word, if there are pictures of it."""
        if pictures:
            self._save_strip(WITHOUT, pictures)

    def _save_strip(self, name: str, pictures: Sequence[Image.Image]) -> None:
        with whole_file(self.path / PREVIEWS / name) as temporary:
            tile(pictures, columns=len(pictures)).save(temporary, "PNG")


def _cut(path: Path) -> list[Image.Image]:
    """The square pictures of a strip."""
    with Image.open(path) as strip:
        side = strip.height
        return [strip.crop((x, 0, x + side, side)) for x in range(0, strip.width, side + GAP)]


def check_run_folder(path: str | os.PathLike[str]) -> Path:
    """See, before any work, that a run can begin or go on in a folder. Raises OutputError where it cannot."""
    folder = check_folder(path)
    held = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    ours = {name for name in held if name == LOCK or name.startswith(TEMPORARY)}
    if held - ours and checkpoint.NAME not in held:
        raise OutputError(f"{folder} already holds something; nothing is overwritten, so give another folder")
    return folder


def often(asked: int | None, settings: TrainingSettings, folder: RunFolder | None) -> int:
    """Steps between preview strips."""
    if asked is not None:
        return asked
    return math.ceil(settings.steps / STRIPS) if folder else 0
