"""One training's place at a sitting: what it was asked, where it left off, what it has learned."""

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

import torch
from PIL import Image
from torch import Tensor

from promptplus.concept import Concept
from promptplus.files import sweep
from promptplus.fingerprints import tensor_hash, weights_hash
from promptplus.pplus import PPlus
from promptplus.training.batches import LatentCache, jittered
from promptplus.training.checkpoint import ROWS_BYTES, Checkpoint, surroundings
from promptplus.training.distributed import Distributed
from promptplus.training.log import TrainingLog
from promptplus.training.previews import preview, preview_prompt
from promptplus.training.result import InversionResult, Run
from promptplus.training.run_folder import PREVIEWS, RunFolder
from promptplus.training.settings import InversionSettings, TrainingSettings
from promptplus.training.token_rows import RowsTrainable
from promptplus.training.trainable import Trainable

CONCEPT, APPROXIMATION = "concept.safetensors", "learned_embeds.safetensors"
STILL = 0.01  # rows that moved less than this share of their norm have learned nothing (our choice)

T = TypeVar("T", bound=Trainable)
R = TypeVar("R", bound=Run)


class Common(TypedDict):
    """The fields that every Run has."""

    losses: tuple[float, ...]
    previews: tuple[tuple[int, list[Image.Image]], ...]
    without: tuple[Image.Image, ...]
    seconds: float
    resumed: int
    folder: Path | None


class Seat(ABC, Generic[T, R]):
    """Trains one thing; where ``folder`` holds a checkpoint, from there on.

    Attributes:
        name: what is trained, as people call it.
        record: all that the run depends on, as plain values: what a checkpoint is compared with.
    """

    trainee: T
    journal: TrainingLog

    def __init__(
        self,
        name: str,
        settings: TrainingSettings,
        record: dict[str, Any],
        folder: RunFolder | None,
        room: int = ROWS_BYTES,
    ) -> None:
        self.name, self.settings, self.record, self.folder = name, settings, record, folder
        self.before = self._checkpoint(room)
        self.seconds = self.before.seconds if self.before else 0.0
        self.began = time.monotonic() - self.seconds
        if folder:
            folder.start = self.began

    @abstractmethod
    def prepare(self, timesteps: int) -> T:
        """What will be trained, as it begins; ``timesteps``: how many the noise schedule has."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What was asked, for people."""

    @abstractmethod
    def look_without(self) -> list[Image.Image]:
        """What the model draws for the class word, untrained."""

    @abstractmethod
    def finished(self) -> R | None:
        """The run as it lies in the folder, if there is nothing left to do."""

    @abstractmethod
    def finish(self, without: Sequence[Image.Image]) -> R:
        """Write what was learned; ``without``: the class word's pictures."""

    def latents(self, vae: Any, pixels: Tensor) -> LatentCache:
        """The pictures' latents, and their colour copies'."""
        copies = self.settings.jitter
        copied = jittered(pixels, copies, f"{self.settings.seed}/{self.name}")
        return LatentCache.encode(vae, copied, variants=1 + copies)

    @property
    def done(self) -> int:
        """Steps that earlier sittings took."""
        return self.before.step if self.before else 0

    def take_from_first(self, processes: Distributed) -> None:
        """Let all processes go on from what the first one found."""
        if processes.count == 1:
            return
        before = self.before
        told = (before.step, before.losses, before.settings, before.seconds) if before else None
        told = processes.from_first(told)
        if told:
            step, losses, settings, seconds = told
            weights, moments = (
                processes.tensors_from_first(named)
                for named in ((before.weights, before.moments) if before else ({}, {}))
            )
            self.before = Checkpoint(step, weights, moments, losses, settings, seconds)

    def sit_down(self, timesteps: int, preview_every: int, trackers: Any) -> None:
        """Make ready to train; from here on the folder holds a checkpoint."""
        self.trainee = self.prepare(timesteps)
        if self.before:
            self.trainee.restore(self.before.step, self.before.weights, self.before.moments)
            self.before = replace(self.before, weights={}, moments={})  # they may be as large as the model
        self.journal = TrainingLog(self.trainee, self.folder, preview_every, trackers)
        if not self.before:
            self.save(None)  # the folder's first file: whatever happens now, the run can go on
        self.journal.begin(self.before.losses.tolist() if self.before else [])
        if self.folder:
            self.folder.write_settings(self.describe())

    def save(self, micro_batch: int | None) -> None:
        """Write the checkpoint, if there is a folder."""
        self.journal.read()
        self.seconds = time.monotonic() - self.began
        if self.folder:
            losses = torch.tensor(self.journal.losses, dtype=torch.float64)
            settings = {**self.record, "micro_batch": micro_batch or self.record["micro_batch"]}
            trainee = self.trainee
            Checkpoint(trainee.step, trainee.state(), trainee.moments(), losses, settings, self.seconds).save(
                self.folder.path
            )

    def now(self, without: Sequence[Image.Image]) -> Common:
        """The common fields of a run that has just ended."""
        return self._common(self.journal.losses, self.journal.previews, without)

    def then(self) -> Common | None:
        """The common fields of a run whose steps were all taken at earlier sittings."""
        if not (self.folder and self.before and self.before.step == self.settings.steps):
            return None
        return self._common(self.before.losses.tolist(), self.folder.previews(), self.folder.without())

    def _common(
        self,
        losses: Sequence[float],
        previews: Sequence[tuple[int, list[Image.Image]]],
        without: Sequence[Image.Image],
    ) -> Common:
        return Common(
            losses=tuple(losses),
            previews=tuple(previews),
            without=tuple(without),
            seconds=self.seconds,
            resumed=self.done,
            folder=self.folder.path if self.folder else None,
        )

    def _checkpoint(self, room: int) -> Checkpoint | None:
        """The checkpoint to go on from, if the folder has one that fits."""
        if self.folder is None:
            return None
        for folder in (self.folder.path, self.folder.path / PREVIEWS):
            sweep(folder)
        found = Checkpoint.load(self.folder.path, room)
        if found:
            found.check(self.record, self.folder.path)
            before, now = found.settings["threads"], self.record["threads"]
            if found.step < self.settings.steps and before != now:
                warnings.warn(
                    f"{self.folder.path} was trained with {before} threads, now with {now}: "
                    "the weights will differ in their last bits from an uninterrupted run's",
                    stacklevel=7,
                )
        return found


class RowSeat(Seat[RowsTrainable, InversionResult]):
    """Trains ``blank``'s rows on ``pixels`` ``[N, 3, H, W]``."""

    settings: InversionSettings

    def __init__(
        self, pplus: PPlus, blank: Concept, pixels: Tensor, settings: InversionSettings, folder: RunFolder | None
    ) -> None:
        self.pplus, self.blank, self.pixels = pplus, blank, pixels
        named = ("token", "initializer", "class_word", "kind", "base_model", "token_table")
        told = {name: getattr(blank, name) for name in named}
        super().__init__(blank.token, settings, {**told, **record_of(pixels, settings, pplus.pipe)}, folder)

    def prepare(self, timesteps: int) -> RowsTrainable:
        cache = self.latents(self.pplus.pipe.vae, self.pixels)
        return RowsTrainable(self.pplus, self.blank, cache, self.settings, timesteps)

    def describe(self) -> dict[str, Any]:
        return {key: value for key, value in self.blank.describe().items() if key != "row_norms"}

    def look_without(self) -> list[Image.Image]:
        return preview(self.pplus, preview_prompt(self.blank.kind, self.blank.class_word))

    def finished(self) -> InversionResult | None:
        common = self.then()
        path = self.folder.path / CONCEPT if self.folder else None
        if common is None or path is None or not path.exists():
            return None
        learned = Concept.load(path)
        if learned.provenance != self.blank.provenance:  # of fewer steps: the last sitting ended before it was written
            return None
        return self._run(learned, common)

    def finish(self, without: Sequence[Image.Image]) -> InversionResult:
        learned = self.trainee.learned
        if self.folder:
            self.folder.keep_without(without)
            learned.save_approximation(self.folder.path / APPROXIMATION)
            learned.save(self.folder.path / CONCEPT)
        return self._run(learned, self.now(without))

    def _run(self, learned: Concept, common: Common) -> InversionResult:
        moved = (learned.rows - self.blank.rows).norm(dim=-1).mean(dim=1).tolist()
        run = InversionResult(concept=learned, settings=self.settings, moved=tuple(moved), **common)
        still = [name for name, share in zip(learned.layers.names, run.share_moved, strict=True) if share < STILL]
        if still:  # a run without effect should not look like one with it
            warnings.warn(
                f"the rows of {self.name} hardly moved (layers {', '.join(still)}); "
                "train for more steps, or raise the learning rate",
                stacklevel=6,
            )
        return run


def record_of(pixels: Tensor, settings: TrainingSettings, pipe: Any) -> dict[str, Any]:
    """What every run depends on."""
    parts = {"denoiser": pipe.unet, "text_encoder": pipe.text_encoder, "vae": pipe.vae}
    return {
        **settings.model_dump(),
        "pictures": tensor_hash(pixels),
        **{name: weights_hash(part) for name, part in parts.items()},
        "dtype": str(pipe.unet.dtype).removeprefix("torch."),
        **surroundings(pipe.unet.device),
    }
