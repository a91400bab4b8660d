"""What is kept while a run goes on: losses, previews, the log, the progress bar, other people's trackers."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.errors import SettingsError, TrainingError
from promptplus.generation import denoise, pack_kwargs, quiet
from promptplus.inversion.rows import Trainee
from promptplus.inversion.run import RunFolder
from promptplus.inversion.steps import out_of_memory
from promptplus.text import Placeholder

PREVIEW_SEEDS = (0, 1, 2, 3)
PREVIEW_PROMPTS = {"object": "a photo of a {}", "style": "a painting in the style of {}"}
LOG_EVERY = 10  # steps between reads of the loss: each read waits for the device
SMOOTHED = 50  # steps whose mean loss the progress bar shows


class Journal:
    """Takes each step's loss and shows how the run goes on."""

    def __init__(
        self, pplus: PPlus, trainee: Trainee, folder: RunFolder | None, preview_every: int, trackers: Any = None
    ) -> None:
        self._pplus, self._trainee, self._folder = pplus, trainee, folder
        self._preview_every, self._trackers = preview_every, trackers
        self._pending: list[Tensor] = []
        self.losses: list[float] = []
        self.previews: list[tuple[int, list[Image.Image]]] = []

    def begin(self, losses: Sequence[float]) -> None:
        """Start with nothing, or where a checkpoint left off."""
        self.losses = list(losses)
        if self._folder:
            self._folder.cut_log(len(losses))
            self.previews = [(step, strip) for step, strip in self._folder.previews() if step <= len(losses)]
        if self._preview_every and not self.previews:
            self._look(0)

    def record(self, loss: Tensor) -> None:
        """Take one step's loss; every few steps read them all at once (each read waits for the device)."""
        self._pending.append(loss)
        step, steps = self._trainee.step, self._trainee.settings.steps
        if step == steps or step % LOG_EVERY == 0:
            self.read()
        if self._preview_every and (step == steps or step % self._preview_every == 0):
            self._look(step)

    def read(self) -> None:
        """Read the losses that wait on the device. Raises TrainingError where one is not finite."""
        if not self._pending:
            return
        values = torch.stack(self._pending).tolist()
        sound = bool(self._trainee.sound)
        if not sound or not all(map(math.isfinite, values)):
            raise TrainingError(self._advice())
        if self._folder:
            self._folder.log(len(self.losses), values)
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
        return {**loss, "lr": f"{self._trainee.settings.learning_rate:g}"}

    def _advice(self) -> str:
        token, near = self._trainee.concept.token, self._trainee.step
        text = f"the loss of {token} is not finite near step {near}; "
        text += "begin anew with a lower --learning-rate or --dtype float32"
        if self._folder:
            text += f"; the last good rows are in {self._folder.rescue(self._trainee.learned)}"
        return text

    def _look(self, step: int) -> None:
        pictures = preview(self._pplus, self._trainee.concept, self._trainee.rows.placeholder)
        self.previews = [*(p for p in self.previews if p[0] != step), (step, pictures)]
        if self._folder:
            self._folder.preview(step, pictures)


def preview(pplus: PPlus, concept: Concept, placeholder: Placeholder | None) -> list[Image.Image]:
    """The concept at fixed seeds; without a placeholder, its class word."""
    word = concept.token if placeholder else concept.class_word
    text, layers = PREVIEW_PROMPTS[concept.kind].format(word), len(pplus.layers)
    with torch.no_grad(), quiet(pplus.pipe):
        states = pplus.states([[text] * layers], {concept.token: placeholder} if placeholder else {})
        negative = pplus.states([[""] * layers])

        def sample(seeds: Sequence[int]) -> list[Image.Image]:
            return denoise(pplus.pipe, pack_kwargs(states.expand(len(seeds), -1, -1, -1), negative), seeds)

        try:
            return sample(PREVIEW_SEEDS)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        return [sample([seed])[0] for seed in PREVIEW_SEEDS]


def open_trackers(names: Sequence[str], folder: RunFolder | None, settings: dict[str, Any]) -> Any:
    """Trackers such as tensorboard, wandb or trackio, through accelerate. Raises SettingsError for one it lacks."""
    if not names:
        return None
    from accelerate import Accelerator  # slow to import: only when asked for

    try:
        tracker = Accelerator(log_with=list(names), project_dir=str(folder.path) if folder else ".")
        tracker.init_trackers("promptplus", {k: v for k, v in settings.items() if v is not None})
    except (ValueError, ImportError) as error:
        raise SettingsError(f"log_with {', '.join(names)}: {error}; is the package installed?") from error
    if len(tracker.trackers) < len(set(names)):
        raise SettingsError(f"log_with {', '.join(names)}: not every one of these is installed")
    return tracker
