"""The log of one training run: its losses, previews, and what the progress bar and trackers show."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from promptplus.errors import LossError, SettingsError, first_line
from promptplus.training.run_folder import RunFolder
from promptplus.training.trainable import Trainable

LOG_EVERY = 10  # steps between reads of the loss: each read waits for the device
SMOOTHED = 50  # steps; the progress bar shows their mean loss (our choice)


class TrainingLog:
    """Takes each step's loss, and makes previews when they are due.

    Args:
        preview_every: steps between previews; 0: none.
        trackers: an accelerate ``Accelerator`` whose trackers get the losses, or None.
    """

    def __init__(
        self, trainable: Trainable[Any], folder: RunFolder | None, preview_every: int, trackers: Any = None
    ) -> None:
        self._trainable, self._folder = trainable, folder
        self._preview_every, self._trackers = preview_every, trackers
        self._pending: list[Tensor] = []
        self.losses: list[float] = []
        self.previews: list[tuple[int, list[Image.Image]]] = []

    def begin(self, losses: Sequence[float]) -> None:
        """Start with no losses, or with those of a checkpoint."""
        self.losses = list(losses)
        if self._folder:
            self._folder.cut_log(len(losses))
            self.previews = [(step, strip) for step, strip in self._folder.previews() if step <= len(losses)]
        if self._preview_every and not self.previews:
            self._preview(0)

    def record(self, loss: Tensor) -> None:
        """Take one step's loss. Losses are read together every few steps, since each read waits for the device."""
        self._pending.append(loss)
        step, steps = self._trainable.step, self._trainable.settings.steps
        if step == steps or step % LOG_EVERY == 0:
            self.read()
        if self._preview_every and (step == steps or step % self._preview_every == 0):
            self._preview(step)

    def read(self) -> None:
        """Read the pending losses from the device. Raises LossError where one is not finite."""
        if not self._pending:
            return
        values = torch.stack(self._pending).tolist()
        if not bool(self._trainable.finite) or not all(map(math.isfinite, values)):
            raise LossError(self._advice())
        if self._folder:
            self._folder.append_losses(len(self.losses), values)
        if self._trackers:
            for step, value in enumerate(values, len(self.losses)):
                self._trackers.log({"loss": value}, step=step)
        self.losses += values
        self._pending.clear()

    @property
    def summary(self) -> dict[str, str]:
        """What a progress bar shows: the smoothed loss and the learning rate."""
        recent = self.losses[-SMOOTHED:]
        loss = {"loss": f"{sum(recent) / len(recent):.4f}"} if recent else {}
        return {**loss, "lr": f"{self._trainable.settings.rate(len(self.losses)):.3g}"}

    def _advice(self) -> str:
        text = f"the loss of {self._trainable.name} is not finite near step {self._trainable.step}; "
        text += "begin anew with a lower --learning-rate or --dtype float32"
        if self._folder:
            text += f"; the last good weights are in {self._trainable.rescue(self._folder.path)}"
        return text

    def _preview(self, step: int) -> None:
        pictures = self._trainable.preview()
        self.previews = [*(p for p in self.previews if p[0] != step), (step, pictures)]
        if self._folder:
            self._folder.save_preview(step, pictures)


def open_trackers(names: Sequence[str], folder: RunFolder | None, settings: dict[str, Any]) -> Any:
    """Trackers such as tensorboard, wandb or trackio, through accelerate. Raises SettingsError for one it lacks."""
    if not names:
        return None
    from accelerate import Accelerator  # slow to import: only when asked for

    try:
        tracker = Accelerator(log_with=list(names), project_dir=str(folder.path) if folder else ".")
        tracker.init_trackers("promptplus", {k: v for k, v in settings.items() if isinstance(v, int | float | str)})
    except (ValueError, ImportError) as error:
        raise SettingsError(f"log_with {', '.join(names)}: {first_line(error)}; is the package installed?") from error
    if len(tracker.trackers) < len(set(names)):
        raise SettingsError(f"log_with {', '.join(names)}: not every one of these is installed")
    return tracker
