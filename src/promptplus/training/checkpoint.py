"""What lets a run be stopped and continued: its checkpoint, its lock, and the handling of signals.

All randomness is a function of (seed, concept, step, sample). So {weights, optimiser, step, settings} is a whole run.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Self

import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from promptplus.errors import BusyError, Interrupted, OutputError, SettingsError, first_line
from promptplus.files import cannot, whole_file
from promptplus.text_files import parse_json
from promptplus.training.picture_record import PICTURE_FILES, changed_pictures

NAME, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
ROWS_BYTES = 512 * 2**20  # SDXL's 70 layers with 64 rows of 2048 numbers, three times in float32, take 110 MB
LOCK = ".lock"
FREE = ("steps", "device", "threads", "micro_batch", "speed")
"""Settings that may differ when a run continues: steps may grow, the others may be anything."""
USED = ("micro_batch", "threads")  # of these, what a run that continues looks at
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's
HASHES = {
    "pictures": "pictures",
    "class_pictures": "class pictures",
    "captions": "captions",
    "denoiser": "denoiser weights",
    "text_encoder": "text encoder weights",
    "text_encoder_2": "text encoder weights",
    "token_table": "text encoder weights",
    "vae": "VAE weights",
}
"""Settings that are hashes, and what each is a hash of."""


Count = Annotated[int, Field(ge=1)]


class RunSettings(BaseModel):
    """What of a run's record is used when it continues; the rest is only compared."""

    model_config = ConfigDict(extra="allow")

    steps: Count
    micro_batch: Count | None = None
    threads: Count = 1


class CheckpointRecord(BaseModel):
    """The JSON record in a checkpoint file."""

    step: Annotated[int, Field(ge=0)]
    settings: RunSettings
    seconds: Annotated[FiniteFloat, Field(ge=0)]


@dataclass(frozen=True)
class Checkpoint:
    """A training run after ``step`` steps.

    Attributes:
        weights: the trained tensors by name, in the precision they are trained in.
        moments: the optimiser's state by name.
        losses: ``[step]`` float64.
        settings: the run's record: settings and hashes, as plain values.
        seconds: wall time spent so far.
    """

    step: int
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    losses: Tensor
    settings: dict[str, Any]
    seconds: float

    def save(self, folder: Path, keep_previous: bool = True) -> None:
        """Write the file whole or not at all. Raises WriteError where that fails; the last checkpoint then stays.

        With ``keep_previous`` the last checkpoint is kept under another name, where the file system has hard links.
        """
        parts = {"weight": self.weights, "moment": self.moments}
        tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
        tensors = {k: v.detach().cpu().contiguous() for k, v in {**tensors, "losses": self.losses}.items()}
        record = {"step": self.step, "settings": self.settings, "seconds": self.seconds}
        with whole_file(folder / NAME) as temporary:
            save_file(tensors, temporary, {"run": json.dumps(record)})
            if keep_previous:
                with suppress(OSError):  # the first checkpoint, or a file system without hard links
                    os.link(folder / NAME, temporary.with_name(PREVIOUS))
                    temporary.with_name(PREVIOUS).replace(folder / PREVIOUS)

    @classmethod
    def newest(cls, folder: Path, room: int = ROWS_BYTES) -> tuple[Self | None, str]:
        """The newest checkpoint that is whole; None if there is none. With it, what is wrong with a newer one.

        Args:
            room: the most bytes that such a checkpoint may have.

        Raises OutputError where there are checkpoints, and none is whole.
        """
        faults: list[OutputError] = []
        for name in (NAME, PREVIOUS):
            try:
                if found := cls.load(folder, room, name):
                    found.check_moments(folder / name)
                    return found, str(faults[0]) if faults else ""
            except OutputError as error:
                faults.append(error)
        if faults:
            raise faults[0]
        return None, ""

    @classmethod
    def load(cls, folder: Path, room: int = ROWS_BYTES, name: str = NAME) -> Self | None:
        """The folder's checkpoint; None if there is none.

        Args:
            room: the most bytes that such a checkpoint may have.
            name: of the file.

        Raises OutputError on a file that is no checkpoint.
        """
        path = folder / name
        if not path.exists():
            return None
        fault = f"{path} is no checkpoint of an inversion"
        try:
            if path.stat().st_size > room:
                raise ValueError("it is too large")
            with safe_open(path, "pt") as file:
                text = (file.metadata() or {}).get("run", "")
                # copies: the file itself is mapped, and stays in use as long as its tensors
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
        except (SafetensorError, TypeError, ValueError, OSError) as error:
            raise _no_checkpoint(path, first_line(error)) from error
        record = parse_json(text, CheckpointRecord, OutputError, fault, "give another folder")
        settings = record.settings.model_dump(exclude_unset=True)  # as it was written, without defaults
        losses = tensors.pop("losses", torch.empty(0))
        if losses.dtype != torch.float64 or losses.shape != (record.step,) or not losses.isfinite().all():
            raise _no_checkpoint(path, f"it does not hold the losses of {record.step} steps")
        named: dict[str, dict[str, Tensor]] = {"weight": {}, "moment": {}}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            if part not in named or not value.is_floating_point():
                raise _no_checkpoint(path, f"the tensor {key} is neither a weight nor a moment")
            named[part][name] = value
        return cls(record.step, named["weight"], named["moment"], losses, settings, record.seconds)

    def check_moments(self, path: Path) -> None:
        """Check that the optimiser's state belongs to the weights. Raises OutputError where it does not.

        Each weight has all moments or none: moving averages, which lie beside the trained weights, have none.
        """
        owners = {key.rpartition("/")[0] for key in self.moments}
        wanted = {f"{owner}/{moment}": owner for owner in owners for moment in MOMENTS}
        if self.moments.keys() != wanted.keys() or not owners <= self.weights.keys() or (self.step and not owners):
            raise _no_checkpoint(path, "the optimiser's state is not that of its weights")
        for key, owner in wanted.items():
            weight, moment = self.weights[owner], self.moments[key]
            counts = key.endswith("/step")
            if moment.shape != (torch.Size() if counts else weight.shape):
                raise _no_checkpoint(path, f"{key} has the shape {list(moment.shape)}")
            if moment.dtype != (torch.float32 if counts else weight.dtype):
                raise _no_checkpoint(path, f"{key} holds {moment.dtype}")
            if not moment.isfinite().all() or (not key.endswith("/exp_avg") and (moment < 0).any()):
                raise _no_checkpoint(path, f"{key} holds numbers that no optimiser has")
            if counts and moment > self.step:
                raise _no_checkpoint(path, f"{key} counts more than {self.step} steps")

    def check(self, settings: Mapping[str, Any], folder: Path) -> None:
        """Check that a run of this record may continue from here.

        Raises SettingsError naming a difference, and OutputError where the record lacks something.
        """
        if missing := [name for name in USED if name in settings and name not in self.settings]:
            raise _no_checkpoint(folder / NAME, f"its record does not name {missing[0]}")
        for name in sorted({*self.settings, *settings} - {*FREE, PICTURE_FILES}):
            before, now = self.settings.get(name), settings.get(name)
            if before != now:
                what = f"other {HASHES[name]}" if name in HASHES else f"{name} {before!r}, not {now!r}"
                if name == "pictures":
                    what += changed_pictures(self.settings.get(PICTURE_FILES), settings.get(PICTURE_FILES))
                raise SettingsError(f"{folder} was begun with {what}; give the run a new folder")
        before, now = self.settings["steps"], settings["steps"]
        if before != now and settings["schedule"] != "constant":
            raise SettingsError(f"{folder} was begun with steps {before}, not {now}; its schedule ends with them")
        if now < self.step:
            raise SettingsError(f"{folder} was begun with steps {self.step}, not {now}; steps may only grow")


def _no_checkpoint(path: Path, reason: str) -> OutputError:
    return OutputError(f"{path} is no checkpoint of an inversion: {reason}; give another folder")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the run folder: a second training in it is refused. The lock ends with its process."""
    lock = FileLock(folder / LOCK, fallback_to_soft=False)  # a soft lock would outlive its holder
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(f"another run is training in {folder} right now; wait for it, or give another folder") from None
    except OSError as error:
        raise cannot(f"write into {folder}", error) from error
    try:
        yield
    finally:
        lock.release()


class StopSignal:
    """The name of the signal that asked the run to stop; empty before."""

    def __init__(self) -> None:
        self.name = ""

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.name == signal.Signals(number).name:  # asked twice: at once, then
            raise Interrupted(f"stopped by a second {self.name}", self.name)
        self.name = signal.Signals(number).name


@contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """While inside, Ctrl-C and SIGTERM are only noted, so that the step can be finished and saved.

    Outside the main thread Python allows no handlers: there nothing changes.
    """
    asked = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def surroundings(device: torch.device) -> dict[str, Any]:
    """What the last bits depend on besides the settings. It is recorded, and may change."""
    return {"device": str(device), "threads": torch.get_num_threads()}
