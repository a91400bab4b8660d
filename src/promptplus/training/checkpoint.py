"""What lets a run be stopped and continued: its checkpoint, its lock, and the handling of signals.

All randomness is a function of (seed, concept, step, sample). So {weights, optimiser, step, settings} is a whole run.
"""

import json
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from promptplus.errors import BusyError, Interrupted, OutputError, SettingsError
from promptplus.files import whole_file

NAME = "checkpoint.safetensors"
ROWS_BYTES = 512 * 2**20  # SDXL's 70 layers with 64 rows of 2048 numbers, three times in float32, take 110 MB
LOCK = ".lock"
FREE = ("steps", "device", "threads", "micro_batch", "speed")
"""Settings that may differ when a run continues: steps may grow, the others may be anything."""
HASHES = {
    "pictures": "pictures",
    "class_pictures": "class pictures",
    "captions": "captions",
    "denoiser": "denoiser weights",
    "text_encoder": "text encoder weights",
    "token_table": "text encoder weights",
    "vae": "VAE weights",
}
"""Settings that are hashes, and what each is a hash of."""


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

    def save(self, folder: Path) -> None:
        """Write the file whole or not at all. Raises OutputError where that fails; the last checkpoint then stays."""
        parts = {"weight": self.weights, "moment": self.moments}
        tensors = {f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()}
        tensors = {k: v.detach().cpu().contiguous() for k, v in {**tensors, "losses": self.losses}.items()}
        record = {"step": self.step, "settings": self.settings, "seconds": self.seconds}
        with whole_file(folder / NAME) as temporary:
            save_file(tensors, temporary, {"run": json.dumps(record)})

    @classmethod
    def load(cls, folder: Path, room: int = ROWS_BYTES) -> Self | None:
        """The folder's checkpoint; None if there is none.

        Args:
            room: the most bytes that such a checkpoint may have.

        Raises OutputError on a file that is no checkpoint.
        """
        path = folder / NAME
        if not path.exists():
            return None
        try:
            if path.stat().st_size > room:
                raise ValueError("it is too large")
            with safe_open(path, "pt") as file:
                record = json.loads((file.metadata() or {})["run"])
                # copies: the file itself is mapped, and stays in use as long as its tensors
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
            losses = tensors.pop("losses")
            named: dict[str, dict[str, Tensor]] = {"weight": {}, "moment": {}}
            for key, value in tensors.items():
                part, name = key.split(".", 1)
                named[part][name] = value
            step, seconds = int(record["step"]), float(record["seconds"])
            int(record["settings"]["steps"])  # what ``check`` counts on
            return cls(step, named["weight"], named["moment"], losses, dict(record["settings"]), seconds)
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise OutputError(f"{path} is no checkpoint of an inversion ({error}); give another folder") from error

    def check(self, settings: Mapping[str, Any], folder: Path) -> None:
        """Check that a run of this record may continue from here. Raises SettingsError naming a difference."""
        for name in sorted({*self.settings, *settings} - {*FREE}):
            before, now = self.settings.get(name), settings.get(name)
            if before != now:
                what = f"other {HASHES[name]}" if name in HASHES else f"{name} {before!r}, not {now!r}"
                raise SettingsError(f"{folder} was begun with {what}; give the run a new folder")
        before, now = self.settings["steps"], settings["steps"]
        if before != now and settings["schedule"] != "constant":
            raise SettingsError(f"{folder} was begun with steps {before}, not {now}; its schedule ends with them")
        if now < self.step:
            raise SettingsError(f"{folder} was begun with steps {self.step}, not {now}; steps may only grow")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the run folder: a second training in it is refused. The lock ends with its process."""
    lock = FileLock(folder / LOCK, fallback_to_soft=False)  # a soft lock would outlive its holder
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(f"another run is training in {folder} right now; wait for it, or give another folder") from None
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror or error}") from error
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
            raise Interrupted(f"stopped by a second {signal.Signals(number).name}")
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
