"""One sitting at a run: begin or go on, step after step, save, stop in good order."""

import hashlib
import time
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.errors import Interrupted
from promptplus.inversion.checkpoint import Checkpoint, stop_signals, surroundings, sweep
from promptplus.inversion.journal import Journal, open_trackers, preview
from promptplus.inversion.objective import LatentCache
from promptplus.inversion.rows import RowTrainer, frozen
from promptplus.inversion.run import InversionRun, InversionSettings, RunFolder

CHECKPOINT_EVERY = 50  # steps; a kill loses at most these (our choice)
STILL = 0.01  # rows that moved less than this share of their norm have learned nothing (our choice)


class Sitting:
    """Trains ``blank``'s rows on ``pixels`` ``[N, 3, H, W]``; where ``folder`` holds a checkpoint, from there on."""

    def __init__(
        self,
        pplus: PPlus,
        blank: Concept,
        pixels: Tensor,
        settings: InversionSettings,
        folder: RunFolder | None,
        preview_every: int,
        progress: bool,
        log_with: Sequence[str],
    ) -> None:
        self.pplus, self.blank, self.pixels, self.settings = pplus, blank, pixels, settings
        self.folder, self.preview_every, self.progress, self.log_with = folder, preview_every, progress, log_with
        self.began = time.monotonic()
        self.record = record_of(blank, pixels, settings, pplus.pipe)
        self.saved = self._saved()

    def run(self) -> InversionRun:
        """Take the steps that are left, and keep what they gave."""
        pipe, saved = self.pplus.pipe, self.saved
        with frozen(pipe.unet, pipe.text_encoder, pipe.vae):
            cache = LatentCache.encode(pipe.vae, self.pixels)
            self.trainer = RowTrainer(self.pplus, self.blank, cache, self.settings)
            if saved:
                self.trainer.restore(saved.step, saved.rows, saved.moments)
            if self.folder and not self._nothing_new:
                self.folder.write_settings({k: v for k, v in self.blank.describe().items() if k != "row_norms"})
            trackers = open_trackers(self.log_with, self.folder, self.record)
            title = f"{self.settings.method} {self.blank.token}"
            with tqdm(total=self.settings.steps, desc=title, disable=not self.progress) as bar:
                self.journal = Journal(self.trainer, self.folder, self.preview_every, bar, trackers)
                self.journal.begin(saved.losses.tolist() if saved else [])
                self._train()
            without = preview(self.pplus, self.blank, None) if self.preview_every else []
        if trackers:
            trackers.end_training()
        if self.folder and not (self.folder.finished and self._nothing_new):
            self.folder.finish(self.trainer.learned, without)
        run = self._result(without)
        _warn_if_nothing_moved(run)
        return run

    def _train(self) -> None:
        if not self.saved:
            self._save()
        with stop_signals() as asked:
            while self.trainer.step < self.settings.steps:
                self.journal.record(self.trainer.advance())
                step = self.trainer.step
                if asked.name or step % CHECKPOINT_EVERY == 0 or step == self.settings.steps:
                    self._save()
                if asked.name:
                    self._stop(asked.name)

    def _save(self) -> None:
        self.journal.read()
        if self.folder:
            losses = torch.tensor(self.journal.losses, dtype=torch.float64)
            trainer = self.trainer
            now = Checkpoint(trainer.step, trainer.rows.unique, trainer.moments(), losses, self.record, self._seconds())
            now.save(self.folder.path)

    def _stop(self, name: str) -> NoReturn:
        if self.folder is None:
            raise KeyboardInterrupt
        step = self.trainer.step
        raise Interrupted(f"stopped by {name} after step {step}, which is saved; the same command goes on from there")

    def _saved(self) -> Checkpoint | None:
        """The checkpoint to go on from, if the folder has one."""
        if self.folder is None:
            return None
        sweep(self.folder.path)
        saved = Checkpoint.load(self.folder.path)
        if saved:
            saved.check(self.record, self.folder.path)
            before, now = saved.settings["threads"], self.record["threads"]
            if saved.step < self.settings.steps and before != now:
                warnings.warn(
                    f"{self.folder.path} was trained with {before} threads, now with {now}: "
                    "the rows will differ in their last bits from an uninterrupted run's",
                    stacklevel=5,
                )
        return saved

    @property
    def _nothing_new(self) -> bool:
        return self.saved is not None and self.saved.step == self.settings.steps

    def _seconds(self) -> float:
        return time.monotonic() - self.began + (self.saved.seconds if self.saved else 0.0)

    def _result(self, without: Sequence[Any]) -> InversionRun:
        learned = self.trainer.learned
        return InversionRun(
            concept=learned,
            settings=self.settings,
            losses=tuple(self.journal.losses),
            moved=tuple((learned.rows - self.blank.rows).norm(dim=-1).mean(dim=1).tolist()),
            previews=tuple(self.journal.previews),
            without=tuple(without),
            seconds=self.saved.seconds if self.saved and self._nothing_new else self._seconds(),
            resumed=self.saved.step if self.saved else 0,
            folder=self.folder.path if self.folder else None,
        )


def record_of(blank: Concept, pixels: Tensor, settings: InversionSettings, pipe: Any) -> dict[str, Any]:
    """All that a run depends on, as plain values: what a checkpoint is compared with."""
    named = ("token", "initializer", "class_word", "kind", "base_model", "token_table")
    return {
        **{name: getattr(blank, name) for name in named},
        **settings.model_dump(),
        "pictures": hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
        "dtype": str(pipe.unet.dtype).removeprefix("torch."),
        **surroundings(pipe.unet.device),
    }


def _warn_if_nothing_moved(run: InversionRun) -> None:
    """A run without effect should not look like one with it."""
    still = [name for name, share in zip(run.concept.layers.names, run.share_moved, strict=True) if share < STILL]
    if still:
        warnings.warn(
            f"the rows of {run.concept.token} hardly moved (layers {', '.join(still)}); "
            "train for more steps, or raise the learning rate",
            stacklevel=5,
        )
