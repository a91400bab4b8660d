"""One concept's place at a sitting: what it was asked, where it left off, what it has learned."""

import hashlib
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.inversion.checkpoint import Checkpoint, surroundings, sweep
from promptplus.inversion.journal import Journal
from promptplus.inversion.objective import LatentCache, jittered
from promptplus.inversion.rows import Trainee
from promptplus.inversion.run import InversionRun, InversionSettings, RunFolder

SAMPLED = 16  # numbers per tensor in the denoiser's hash: enough to tell trainings apart, read in no time
STILL = 0.01  # rows that moved less than this share of their norm have learned nothing (our choice)


class Seat:
    """Trains ``blank``'s rows on ``pixels`` ``[N, 3, H, W]``; where ``folder`` holds a checkpoint, from there on."""

    trainee: Trainee
    journal: Journal

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

    @property
    def done(self) -> int:
        """Steps that earlier sittings took."""
        return self.before.step if self.before else 0

    def sit_down(self, timesteps: int, preview_every: int, trackers: Any) -> None:
        """Make ready to train; from here on the folder holds a checkpoint."""
        key = f"{self.settings.seed}/{self.blank.token}"
        pixels = jittered(self.pixels, self.settings.jitter, key)
        cache = LatentCache.encode(self.pplus.pipe.vae, pixels, variants=1 + self.settings.jitter)
        self.trainee = Trainee(self.pplus, self.blank, cache, self.settings, timesteps)
        if self.before:
            self.trainee.restore(self.before.step, self.before.rows, self.before.moments)
        self.journal = Journal(self.pplus, self.trainee, self.folder, preview_every, trackers)
        if not self.before:
            self.save(None)  # the folder's first file: whatever happens now, the run can go on
        self.journal.begin(self.before.losses.tolist() if self.before else [])
        if self.folder:
            self.folder.write_settings({k: v for k, v in self.blank.describe().items() if k != "row_norms"})

    def save(self, micro_batch: int | None) -> None:
        """Write the checkpoint, if there is a folder."""
        self.journal.read()
        self.seconds = time.monotonic() - self.began
        if self.folder:
            losses = torch.tensor(self.journal.losses, dtype=torch.float64)
            rows, moments = self.trainee.rows.unique, self.trainee.moments()
            settings = {**self.record, "micro_batch": micro_batch or self.record["micro_batch"]}
            Checkpoint(self.trainee.step, rows, moments, losses, settings, self.seconds).save(self.folder.path)

    def finish(self, without: Sequence[Image.Image]) -> InversionRun:
        """Write what was learned; ``without``: the class word's pictures."""
        learned = self.trainee.learned
        if self.folder:
            self.folder.finish(learned, without)
        return self._result(learned, self.journal.losses, self.journal.previews, without)

    def finished(self) -> InversionRun | None:
        """The run as it lies in the folder, if there is nothing left to do."""
        learned = self.folder.concept() if self.folder else None
        if not (self.folder and self.before and learned and self.before.step == self.settings.steps):
            return None
        if learned.provenance != self.blank.provenance:  # of fewer steps: the last sitting ended before it was written
            return None
        return self._result(learned, self.before.losses.tolist(), self.folder.previews(), self.folder.without())

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
                    stacklevel=6,
                )
        return found

    def _result(
        self,
        learned: Concept,
        losses: Sequence[float],
        previews: Sequence[tuple[int, list[Image.Image]]],
        without: Sequence[Image.Image],
    ) -> InversionRun:
        run = InversionRun(
            concept=learned,
            settings=self.settings,
            losses=tuple(losses),
            moved=tuple((learned.rows - self.blank.rows).norm(dim=-1).mean(dim=1).tolist()),
            previews=tuple(previews),
            without=tuple(without),
            seconds=self.seconds,
            resumed=self.done,
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
            stacklevel=6,
        )
