"""Training runs as the studio sees them: processes of their own, whose run folders are read again and again.

A run that the command line started is read the same way.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel

from promptplus.choices import Kind
from promptplus.errors import BusyError, OutputError, PromptPlusError, TrainingError
from promptplus.report.picture_grid import labelled_grid
from promptplus.studio.jobs import Job
from promptplus.text_files import parse_json, read_bytes, read_json
from promptplus.training.checkpoint import LOCK, locked
from promptplus.training.run_folder import LOG, LOG_BYTES, read_previews
from promptplus.training.token_rows import CONCEPT

POLL = 1.0  # seconds between looks at a process
STOP_SECONDS = 120.0  # a training finishes its step, and saves, before it ends
RECENT = 40  # logged steps that the remaining time is estimated from
CELL = 96  # pixels of a preview
STRIPS = 6  # previews that are shown at most


class LogLine(BaseModel):
    """One step in a run's log."""

    step: int
    loss: float
    seconds: float


class RunRecord(BaseModel):
    """What is used of a run's ``settings.json``."""

    token: str
    class_word: str = ""
    kind: Kind = "object"
    provenance: dict[str, Any] = {}


@dataclass(frozen=True)
class RunStatus:
    """A training run as its folder shows it.

    Attributes:
        losses: of the logged steps.
        seconds_left: of the training; None where nothing is known yet.
        training: whether a process trains in the folder right now.
        concept: the concept file, where there is one.
    """

    folder: Path
    token: str
    class_word: str
    kind: Kind
    steps: int
    losses: tuple[float, ...]
    seconds_left: float | None
    training: bool
    concept: Path | None

    @property
    def sentence(self) -> str:
        """What the run is doing, in one line."""
        done = len(self.losses)
        said = f"{self.token}: step {done} of {self.steps}"
        if self.training and done >= self.steps:
            return f"{said}, finishing"
        if self.training:
            return said + (f", {clock(self.seconds_left)} left" if self.seconds_left else ", starting")
        return said + (", finished" if done >= self.steps else ", stopped")


def run_folders(folder: Path) -> list[Path]:
    """The folders of XTI and TI runs below a folder, the newest first."""
    found = sorted(folder.glob("*/settings.json"), key=lambda path: -path.stat().st_mtime)
    return [path.parent for path in found if read_run(path.parent)]


def read_run(folder: Path) -> RunStatus | None:
    """The state of a run; None where the folder holds none yet, or one without a token (DreamBooth)."""
    try:
        record = read_json(folder / "settings.json", RunRecord, OutputError, "is no record of a run", "remove it")
        log = _log(folder / LOG)
    except (PromptPlusError, OSError):
        return None
    steps, training = int(record.provenance.get("steps", 0)), is_training(folder)
    return RunStatus(
        folder=folder,
        token=record.token,
        class_word=record.class_word,
        kind=record.kind,
        steps=steps,
        losses=tuple(line.loss for line in log),
        seconds_left=_seconds_left(log, steps) if training else None,
        training=training,
        concept=folder / CONCEPT if (folder / CONCEPT).exists() else None,
    )


def is_training(folder: Path) -> bool:
    """Whether a process holds the lock of a run folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder):
            return False
    except BusyError:
        return True


def preview_sheet(folder: Path) -> Image.Image | None:
    """The newest previews of a run, a row for each, all from the same seeds; None where there are none yet."""
    rows = read_previews(folder)
    if not rows:
        return None
    chosen = rows if len(rows) <= STRIPS else [rows[0], *rows[1 - STRIPS :]]
    return labelled_grid([row for _, row in chosen], row_labels=[f"step {step}" for step, _ in chosen], cell=CELL)


def train(job: Job, command: Sequence[str], folder: Path, output: Path) -> RunStatus:
    """Run a training command in a process of its own until it ends; a cancelled job stops it in good order.

    Args:
        job: is told the progress.
        command: the arguments of ``promptplus``.
        folder: the run folder.
        output: the file for what the command prints.

    Raises TrainingError with the command's own sentence where it failed.
    """
    with output.open("wb") as file:
        call = [sys.executable, "-m", "promptplus", *command]
        # a session of its own: Ctrl-C in the studio's terminal is the studio's, which then stops the training itself
        process = subprocess.Popen(call, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            while process.poll() is None and not job.asked_to_end:
                if status := read_run(folder):
                    job.done, job.total = len(status.losses), status.steps
                time.sleep(POLL)
        finally:
            if process.poll() is None:
                _stop(process)
    status = read_run(folder)
    if status is None or (process.returncode != 0 and not job.asked_to_end):
        raise TrainingError(_last_words(output))
    return status


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Let a training save what it learned, and end."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(output: Path) -> str:
    """The sentence that a failed command ended with."""
    lines = read_bytes(output, TrainingError, LOG_BYTES).decode("utf-8", "replace").replace("\r", "\n").splitlines()
    said = [line.removeprefix("promptplus: ") for line in lines if line.startswith("promptplus: ")]
    said = [line for line in said if not line.startswith("note: ")]
    return said[-1] if said else f"the training ended without a word; see {output}"


def _log(path: Path) -> list[LogLine]:
    """The steps in a log, which begins after a run's first steps; a line that is being written is left out."""
    lines: list[LogLine] = []
    if not path.exists():
        return lines
    for text in read_bytes(path, OutputError, LOG_BYTES).splitlines():
        try:
            lines.append(parse_json(text, LogLine, OutputError, f"{path} is no log"))
        except OutputError:
            break
    return lines


def _seconds_left(log: Sequence[LogLine], steps: int) -> float | None:
    """From the pace of the last logged steps; previews and pauses are in it."""
    recent = log[-RECENT:]
    first = next((line for line in recent if line.seconds < recent[-1].seconds), None) if recent else None
    if first is None:
        return None
    pace = (recent[-1].seconds - first.seconds) / (recent[-1].step - first.step)
    return pace * (steps - len(log))


def clock(seconds: float | None) -> str:
    """A duration, as ``1:05``."""
    whole = round(seconds or 0)
    return f"{whole // 60}:{whole % 60:02d}"
