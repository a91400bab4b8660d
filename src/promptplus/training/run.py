"""One training run: its trainable, where it left off, and what it leaves in its folder."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic

import torch
from PIL import Image
from torch import Tensor

from promptplus.denoisers import models_of
from promptplus.errors import warn
from promptplus.files import reported, sweep
from promptplus.fingerprints import tensor_hash, weights_hash
from promptplus.training.checkpoint import NAME, PREVIOUS, Checkpoint, surroundings
from promptplus.training.distributed import Distributed
from promptplus.training.log import TrainingLog
from promptplus.training.picture_record import PICTURE_FILES, picture_files_record
from promptplus.training.result import TrainingResult
from promptplus.training.run_folder import PREVIEWS, RunFolder
from promptplus.training.settings import TrainingSettings
from promptplus.training.trainable import R, Trainable


class TrainingRun(Generic[R]):
    """Trains one trainable; where the folder holds a checkpoint, from there on.

    Args:
        record: all that the training depends on, as plain values. A checkpoint with another record is refused.
        folder: where the run is kept; None: in memory alone.

    Attributes:
        checkpoint: where an earlier call left off, if one did.
        seconds: wall time spent so far.
    """

    log: TrainingLog

    def __init__(self, trainable: Trainable[R], record: dict[str, Any], folder: RunFolder | None) -> None:
        self.trainable, self.record, self.folder = trainable, record, folder
        self.checkpoint = self._read_checkpoint()
        self.seconds = self.checkpoint.seconds if self.checkpoint else 0.0
        self.began = time.monotonic() - self.seconds
        if folder:
            folder.start = self.began

    @property
    def name(self) -> str:
        """What is trained, as prompts call it."""
        return self.trainable.name

    @property
    def resumed(self) -> int:
        """Steps that earlier calls took."""
        return self.checkpoint.step if self.checkpoint else 0

    def receive_checkpoint(self, distributed: Distributed) -> None:
        """Let all processes continue from the checkpoint that the first process read."""
        if distributed.count == 1:
            return
        before = self.checkpoint
        plain = (before.step, before.losses, before.settings, before.seconds) if before else None
        plain = distributed.from_first(plain)
        if plain:
            step, losses, settings, seconds = plain
            weights, moments = (
                distributed.tensors_from_first(named)
                for named in ((before.weights, before.moments) if before else ({}, {}))
            )
            self.checkpoint = Checkpoint(step, weights, moments, losses, settings, seconds)

    def begin(self, timesteps: int, preview_every: int, trackers: Any) -> None:
        """Prepare the training; afterwards the folder holds a checkpoint.

        Args:
            timesteps: how many timesteps the noise schedule has.
            preview_every: steps between previews; 0: none.
            trackers: an accelerate ``Accelerator`` whose trackers get the losses, or None.
        """
        self.trainable.prepare(timesteps)
        before = self.checkpoint
        if before:
            self.trainable.restore(before.step, before.weights, before.moments)
            self.checkpoint = replace(before, weights={}, moments={})  # they may be as large as the model
        self.log = TrainingLog(self.trainable, self.folder, preview_every, trackers)
        if not before:
            self.save(None)  # the folder's first file: whatever happens now, the run can be resumed
        self.log.begin(before.losses.tolist() if before else [])
        if self.folder:
            self.folder.write_settings(self.trainable.describe())

    def save(self, micro_batch: int | None) -> None:
        """Write the checkpoint, if there is a folder."""
        self.log.read()
        self.seconds = time.monotonic() - self.began
        if self.folder:
            trainable, losses = self.trainable, torch.tensor(self.log.losses, dtype=torch.float64)
            settings = {**self.record, "micro_batch": micro_batch or self.record["micro_batch"]}
            state, moments = trainable.state(), trainable.moments()
            checkpoint = Checkpoint(trainable.step, state, moments, losses, settings, self.seconds)
            checkpoint.save(self.folder.path, trainable.keeps_previous)

    def saved_result(self) -> R | None:
        """The result as it lies in the folder, if every step was taken by earlier calls."""
        if not (self.folder and self.checkpoint and self.checkpoint.step == self.trainable.settings.steps):
            return None
        previews, class_word_previews = self.folder.previews(), self.folder.class_word_previews()
        base = self._base(self.checkpoint.losses.tolist(), previews, class_word_previews)
        result = self.trainable.saved_result(self.folder.path, base)
        return self._checked(result) if result else None

    def finish(self, class_word_previews: Sequence[Image.Image]) -> R:
        """Write what was learned. ``class_word_previews``: the class word's pictures, or none."""
        result = self.trainable.result(self._base(self.log.losses, self.log.previews, class_word_previews))
        if self.folder:
            self.folder.save_class_word_previews(class_word_previews)
            self.trainable.save(self.folder.path, result)
        return self._checked(result)

    def _checked(self, result: R) -> R:
        """The result; warns where the training had no effect."""
        if warning := self.trainable.no_effect(result):
            warn(warning)
        return result

    def _base(
        self,
        losses: Sequence[float],
        previews: Sequence[tuple[int, list[Image.Image]]],
        class_word_previews: Sequence[Image.Image],
    ) -> TrainingResult:
        folder = self.folder.path if self.folder else None
        return TrainingResult(
            tuple(losses), tuple(previews), tuple(class_word_previews), self.seconds, self.resumed, folder
        )

    def _read_checkpoint(self) -> Checkpoint | None:
        """The checkpoint to continue from, if the folder has one of this very training."""
        if self.folder is None:
            return None
        for folder in (self.folder.path, self.folder.path / PREVIEWS):
            sweep(folder)
        checkpoint, fault = Checkpoint.newest(self.folder.path, self.trainable.checkpoint_bytes)
        if checkpoint:
            checkpoint.check(self.record, self.folder.path)
            if fault:  # the damaged file must not become the previous one
                with reported(self.folder.path / NAME):
                    (self.folder.path / PREVIOUS).replace(self.folder.path / NAME)
                warn(
                    f"{fault.rpartition(';')[0]}; going on from the checkpoint before it, after step {checkpoint.step}"
                )
            before, now = checkpoint.settings["threads"], self.record["threads"]
            if checkpoint.step < self.trainable.settings.steps and before != now:
                warn(
                    f"{self.folder.path} was trained with {before} threads, now with {now}: "
                    "the weights will differ in their last bits from an uninterrupted run's"
                )
        return checkpoint


def record_of(pixels: Tensor, settings: TrainingSettings, pipe: Any, names: Sequence[str]) -> dict[str, Any]:
    """What every training depends on: settings, hashes of pictures and weights, device, dtype and threads.

    ``names``: what messages call the pictures, in their order.
    """
    models = models_of(pipe)
    denoiser: Any = models["denoiser"]
    return {
        **settings.model_dump(),
        "pictures": tensor_hash(pixels),
        PICTURE_FILES: picture_files_record(pixels, names),
        **{name: weights_hash(model) for name, model in models.items()},
        "dtype": str(denoiser.dtype).removeprefix("torch."),
        **surroundings(denoiser.device),
    }
