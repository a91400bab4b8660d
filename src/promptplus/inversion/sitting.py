"""One sitting at a run: begin or go on, step after step, save, stop in good order."""

import hashlib
import time
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.errors import Interrupted
from promptplus.inversion.checkpoint import Checkpoint, StopSignal, stop_signals, surroundings, sweep
from promptplus.inversion.journal import Journal, open_trackers, preview
from promptplus.inversion.objective import LatentCache
from promptplus.inversion.rows import RowTrainer, frozen
from promptplus.inversion.run import InversionRun, InversionSettings, RunFolder

CHECKPOINT_EVERY = 50  # steps; a kill loses at most these (our choice)
SAMPLED = 16  # numbers per tensor in the denoiser's hash: enough to tell trainings apart, read in no time
STILL = 0.01  # rows that moved less than this share of their norm have learned nothing (our choice)


class Sitting:
    """Trains ``blank``'s rows on ``pixels`` ``[N, 3, H, W]``; where ``folder`` holds a checkpoint, from there on."""

    def __init__(
        self, pplus: PPlus, blank: Concept, pixels: Tensor, settings: InversionSettings, folder: RunFolder | None
    ) -> None:
        self.pplus, self.blank, self.pixels, self.settings, self.folder = pplus, blank, pixels, settings, folder
        self.record = record_of(blank, pixels, settings, pplus.pipe)
        self.before = self._checkpoint()
        self.seconds = self.before.seconds if self.before else 0.0
        self.began = time.monotonic() - self.seconds
        if folder:
            folder.start = self.began

    def run(self, preview_every: int, progress: bool, log_with: Sequence[str]) -> InversionRun:
        """Take the steps that are left, and keep what they gave."""
        if finished := self._finished():
            return finished
        trackers = open_trackers(log_with, self.folder, self.record)
        pipe, done = self.pplus.pipe, self.before.step if self.before else 0
        bar = tqdm(
            total=self.settings.steps,
            initial=done,
            desc=f"{self.settings.method} {self.blank.token}",
            disable=not progress,
        )
        try:
            with frozen(pipe.unet, pipe.text_encoder, pipe.vae), stop_signals() as asked, bar:
                trainer = self._trainer()
                journal = Journal(trainer, self.folder, preview_every, bar, trackers)
                if not self.before:
                    self._save(trainer, journal)  # the folder's first file: whatever happens now, the run can go on
                journal.begin(self.before.losses.tolist() if self.before else [])
                self._train(trainer, journal, asked)
                without = preview(self.pplus, self.blank, None) if preview_every else []
        finally:
            if trackers:
                trackers.end_training()
        if self.folder:
            self.folder.finish(trainer.learned, without)
        return self._result(trainer.learned, journal.losses, journal.previews, without)

    def _trainer(self) -> RowTrainer:
        trainer = RowTrainer(
            self.pplus, self.blank, LatentCache.encode(self.pplus.pipe.vae, self.pixels), self.settings
        )
        if self.before:
            trainer.restore(self.before.step, self.before.rows, self.before.moments)
            if self.settings.micro_batch is None:  # as small as memory made it before
                trainer.micro_batch = min(trainer.micro_batch, self.before.settings["micro_batch"])
        return trainer

    def _train(self, trainer: RowTrainer, journal: Journal, asked: StopSignal) -> None:
        if self.folder:
            self.folder.write_settings({k: v for k, v in self.blank.describe().items() if k != "row_norms"})
        while trainer.step < self.settings.steps:
            journal.record(trainer.advance())
            if asked.name or trainer.step % CHECKPOINT_EVERY == 0 or trainer.step == self.settings.steps:
                self._save(trainer, journal)
            if asked.name:
                self._stop(asked.name, trainer.step)

    def _save(self, trainer: RowTrainer, journal: Journal) -> None:
        journal.read()
        self.seconds = time.monotonic() - self.began
        if self.folder:
            losses = torch.tensor(journal.losses, dtype=torch.float64)
            settings = {**self.record, "micro_batch": trainer.micro_batch}
            rows, moments = trainer.rows.unique, trainer.moments()
            Checkpoint(trainer.step, rows, moments, losses, settings, self.seconds).save(self.folder.path)

    def _stop(self, name: str, step: int) -> NoReturn:
        if self.folder is None:
            raise KeyboardInterrupt
        raise Interrupted(f"stopped by {name} after step {step}, which is saved; the same command goes on from there")

    def _checkpoint(self) -> Checkpoint | None:
        """The checkpoint to go on from, if the folder has one that fits."""
        if self.folder is None:
            return None
        sweep(self.folder.path)
        found = Checkpoint.load(self.folder.path)
        if found:
            found.check(self.record, self.folder.path)
            before, now = found.settings["threads"], self.record["threads"]
            if found.step < self.settings.steps and before != now:
                warnings.warn(
                    f"{self.folder.path} was trained with {before} threads, now with {now}: "
                    "the rows will differ in their last bits from an uninterrupted run's",
                    stacklevel=5,
                )
        return found

    def _finished(self) -> InversionRun | None:
        """The run as it lies in the folder, if there is nothing left to do."""
        learned = self.folder.concept() if self.folder else None
        if not (self.folder and self.before and learned and self.before.step == self.settings.steps):
            return None
        if learned.provenance != self.blank.provenance:  # of fewer steps: the last sitting ended before it was written
            return None
        return self._result(learned, self.before.losses.tolist(), self.folder.previews(), self.folder.without())

    def _result(
        self,
        learned: Concept,
        losses: Sequence[float],
        previews: Sequence[tuple[int, list[Image.Image]]],
        without: Sequence[Image.Image],
    ) -> InversionRun:
        done = self.before.step if self.before else 0
        run = InversionRun(
            concept=learned,
            settings=self.settings,
            losses=tuple(losses),
            moved=tuple((learned.rows - self.blank.rows).norm(dim=-1).mean(dim=1).tolist()),
            previews=tuple(previews),
            without=tuple(without),
            seconds=self.seconds,
            resumed=done,
            folder=self.folder.path if self.folder else None,
        )
        _warn_if_nothing_moved(run)
        return run


def record_of(blank: Concept, pixels: Tensor, settings: InversionSettings, pipe: Any) -> dict[str, Any]:
    """All that a run depends on, as plain values: what a checkpoint is compared with."""
    named = ("token", "initializer", "class_word", "kind", "base_model", "token_table")
    return {
        **{name: getattr(blank, name) for name in named},
        **settings.model_dump(),
        "pictures": hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
        "denoiser": weights_hash(pipe.unet),
        "dtype": str(pipe.unet.dtype).removeprefix("torch."),
        **surroundings(pipe.unet.device),
    }


def weights_hash(module: nn.Module) -> str:
    """Tells one model's weights from another's by the first numbers of every tensor; the same on any device."""
    digest = hashlib.sha256()
    for name, weight in module.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().flatten()[:SAMPLED].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _warn_if_nothing_moved(run: InversionRun) -> None:
    """A run without effect should not look like one with it."""
    still = [name for name, share in zip(run.concept.layers.names, run.share_moved, strict=True) if share < STILL]
    if still:
        warnings.warn(
            f"the rows of {run.concept.token} hardly moved (layers {', '.join(still)}); "
            "train for more steps, or raise the learning rate",
            stacklevel=5,
        )
