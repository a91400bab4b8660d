"""What a training is asked and leaves behind: settings, the Run values, and a run's folder on disk."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptplus.concept import Concept, Tying
from promptplus.errors import OutputError, SettingsError
from promptplus.files import TEMPORARY, check_folder, make_folder, reported, whole_file, write_atomically
from promptplus.inversion import checkpoint
from promptplus.inversion.checkpoint import LOCK
from promptplus.inversion.geometry import Constraint
from promptplus.inversion.images import GAP, tile
from promptplus.inversion.speed import Speed

LOG, PREVIEWS = "log.jsonl", "previews"
WITHOUT = "without.png"
STRIPS = 5  # previews that a run makes by default, its last step's among them (our choice)

Method = Literal["xti", "ti"]
DreamBoothMethod = Literal["dreambooth", "dreambooth-lora"]
AnyMethod = Literal["xti", "ti", "dreambooth", "dreambooth-lora"]
Templates = Literal["batch", "picture"]
Schedule = Literal["constant", "cosine"]


class TrainingSettings(BaseModel):
    """How anything is trained.

    Attributes:
        micro_batch: pictures that go through the denoiser at once; default: all. Changes memory, not the gradient.
        min_snr: weigh timesteps by min(SNR, this) (Hang et al., 2023: 5); default: all alike (paper).
        jitter: copies of each picture in other colours, besides itself (our choice).
        schedule: of the learning rate: ``constant`` (paper), or ``cosine`` down to nothing at the last step.
        warmup: steps over which it rises.
        beta1, beta2: AdamW's decay rates of the gradient's mean and square; below their usual values it forgets the
            large gradients of the first steps sooner, which matters where there are few (docs/log.md).
        stratified, antithetic, timestep_bias: see ``draws.DrawRule``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    seed: int = Field(default=0, ge=0)
    flip: bool = True
    micro_batch: int | None = Field(default=None, ge=1)
    min_snr: float | None = Field(default=None, gt=0)
    jitter: int = Field(default=0, ge=0)
    schedule: Schedule = "constant"
    warmup: int = Field(default=0, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, gt=0, lt=1)
    stratified: bool = False
    antithetic: bool = False
    timestep_bias: float = Field(default=1.0, gt=0)

    @property
    def drawing(self) -> dict[str, Any]:
        """What they say about draws."""
        named = ("flip", "stratified", "antithetic", "timestep_bias")
        return {"batch": self.batch_size, **{name: getattr(self, name) for name in named}}

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps)) if self.schedule == "cosine" else 1.0
        return self.learning_rate * rise * fall


class TrainingOptions(TypedDict, total=False):
    """Keyword options of every training: those of TrainingSettings."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    flip: bool
    micro_batch: int | None
    min_snr: float | None
    jitter: int
    schedule: Schedule
    warmup: int
    beta1: float
    beta2: float
    stratified: bool
    antithetic: bool
    timestep_bias: float


class InversionSettings(TrainingSettings):
    """How rows are trained. Defaults are the paper's (section 4), but for the seed.

    Attributes:
        tying: which layers share a row; default: none for ``xti``, all for ``ti``.
        templates: one caption template for a step's whole batch (``batch``), or one for each ``picture``, which costs
            more and learns as much (docs/log.md). The paper does not say.
        constraint: where rows may lie, see ``geometry.RowSpace``.
        density: weight of the rows' mean log density among words, which is added to what is maximised (the paper mixes
            with such a term, its formula is not known; ours is ``density.TokenDensity``).
        average: decay of the moving average of the rows, which is what is learned; 0: the last rows are (paper).
        speed: how the denoiser runs, see ``speed.faster``; what is learned is the same but for rounding.
    """

    method: Method = "xti"
    steps: int = Field(default=500, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=0.005, gt=0)
    vectors: int = Field(default=1, ge=1)
    templates: Templates = "batch"
    tying: Tying | None = None
    constraint: Constraint = "none"
    density: float = Field(default=0.0, ge=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    speed: Speed = "plain"


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        losses: one per step.
        previews: (step, pictures) pairs at fixed seeds.
        without: the class word's pictures at the previews' seeds; empty where no previews were asked for.
        seconds: wall time of the training, previews included, over all sittings.
        resumed: the step this sitting began at; ``settings.steps`` where the run was finished before.
        folder: the run folder, if one was asked for.
    """

    losses: tuple[float, ...] = field(repr=False)
    previews: tuple[tuple[int, list[Image.Image]], ...] = field(repr=False)
    without: tuple[Image.Image, ...] = field(repr=False)
    seconds: float
    resumed: int
    folder: Path | None


@dataclass(frozen=True)
class InversionRun(Run):
    """A finished inversion.

    Attributes:
        concept: what was learned.
        settings: how.
        moved: ``[layer]`` mean distance of each layer's rows from where they began.
    """

    concept: Concept
    settings: InversionSettings
    moved: tuple[float, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """What the concept is called in prompts."""
        return self.concept.token

    @property
    def facts(self) -> dict[str, Any]:
        """What was asked, for people."""
        told = {"token": self.name, "initializer": self.concept.initializer, "model": self.concept.base_model}
        return {**told, **self.settings.model_dump()}

    @property
    def class_word(self) -> str:
        """The plain word for its class."""
        return self.concept.class_word

    @property
    def share_moved(self) -> tuple[float, ...]:
        """``[layer]`` how far the rows moved, as a share of their norm at the end."""
        norms = self.concept.rows.norm(dim=-1).mean(dim=1).tolist()
        return tuple(moved / norm for moved, norm in zip(self.moved, norms, strict=True))


class RunFolder:
    """The folder of one run: settings.json, log.jsonl, previews/, the checkpoint, and what was learned.

    A folder that holds a run may be opened again, to go on with it; any other that is not empty is refused.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = make_folder(check_run_folder(path))
        self.start = time.monotonic()

    def write_settings(self, values: dict[str, Any]) -> None:
        """What the run was asked to do."""
        write_atomically(self.path / "settings.json", (json.dumps(values, indent=2) + "\n").encode())

    def log(self, first_step: int, losses: Sequence[float]) -> None:
        """Append one line per step."""
        seconds = round(time.monotonic() - self.start, 3)
        lines = [
            json.dumps({"step": step, "loss": loss, "seconds": seconds}) for step, loss in enumerate(losses, first_step)
        ]
        with reported(self.path / LOG), (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))

    def cut_log(self, steps: int) -> None:
        """Forget what was logged after the checkpoint that a run goes on from."""
        path = self.path / LOG
        if path.exists():
            lines = path.read_text("utf-8").splitlines(keepends=True)[:steps]
            write_atomically(path, "".join(lines).encode())

    def preview(self, step: int, pictures: Sequence[Image.Image]) -> None:
        """Save one strip of previews."""
        self._save_strip(f"step-{step:05d}.png", pictures)

    def previews(self) -> list[tuple[int, list[Image.Image]]]:
        """The strips that are there, by step."""
        paths = sorted((self.path / PREVIEWS).glob("step-*.png"))
        return [(int(path.stem.removeprefix("step-")), _cut(path)) for path in paths]

    def without(self) -> list[Image.Image]:
        """The strip of the class word, if there is one."""
        path = self.path / PREVIEWS / WITHOUT
        return _cut(path) if path.exists() else []

    def keep_without(self, pictures: Sequence[Image.Image]) -> None:
        """Save the strip of the class word, if there are pictures of it."""
        if pictures:
            self._save_strip(WITHOUT, pictures)

    def _save_strip(self, name: str, pictures: Sequence[Image.Image]) -> None:
        with whole_file(self.path / PREVIEWS / name) as temporary:
            tile(pictures, columns=len(pictures)).save(temporary, "PNG")


def _cut(path: Path) -> list[Image.Image]:
    """The square pictures of a strip."""
    with Image.open(path) as strip:
        side = strip.height
        return [strip.crop((x, 0, x + side, side)) for x in range(0, strip.width, side + GAP)]


def check_run_folder(path: str | os.PathLike[str]) -> Path:
    """See, before any work, that a run can begin or go on in a folder. Raises OutputError where it cannot."""
    folder = check_folder(path)
    held = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    ours = {name for name in held if name == LOCK or name.startswith(TEMPORARY)}
    if held - ours and checkpoint.NAME not in held:
        raise OutputError(f"{folder} already holds something; nothing is overwritten, so give another folder")
    return folder


S = TypeVar("S", bound=TrainingSettings)


def checked(kind: type[S], values: Mapping[str, Any]) -> S:
    """Settings from options. Raises SettingsError in one sentence."""
    try:
        settings = kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name, method = ".".join(map(str, first["loc"])), values.get("method", kind.model_fields["method"].default)
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{name} is no option of the method {method}; leave it out") from error
        raise SettingsError(f"{name}: {first['msg'].lower()}, not {first['input']!r}") from error
    for name in ("stratified", "antithetic"):
        if getattr(settings, name) and settings.batch_size == 1:
            raise SettingsError(f"{name} needs a batch_size of 2 or more, not 1")
    return settings


def often(asked: int | None, settings: TrainingSettings, folder: RunFolder | None) -> int:
    """Steps between preview strips."""
    if asked is not None:
        return asked
    return math.ceil(settings.steps / STRIPS) if folder else 0
