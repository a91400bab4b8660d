"""What a training is asked and leaves behind: settings, the Run values, and a run's folder on disk."""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptplus.concept import Tying
from promptplus.errors import SettingsError
from promptplus.training.compilation import Speed
from promptplus.training.norm_constraint import Constraint

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
        stratified, antithetic, timestep_bias: see ``draws.BatchRule``.
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
        constraint: where rows may lie, see ``geometry.NormConstraint``.
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


LORA: DreamBoothMethod = "dreambooth-lora"


class DreamBoothSettings(TrainingSettings):
    """How a denoiser is trained. Defaults are those of diffusers' DreamBooth examples for Stable Diffusion 1.

    Attributes:
        identifier: the word that will name the subject; one that no training caption uses.
        class_count: pictures of the class that the model draws before it is trained.
        prior_weight: weight of their loss (prior preservation); 0: none are drawn.
    """

    method: DreamBoothMethod = "dreambooth"
    steps: int = Field(default=800, ge=1)
    batch_size: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=5e-6, gt=0)
    identifier: str = Field(default="sks", min_length=1)
    class_count: int = Field(default=200, ge=1)
    prior_weight: float = Field(default=1.0, ge=0)

    def subject(self, class_word: str) -> str:
        """What the subject is called in prompts."""
        return f"{self.identifier} {class_word}"


class LoraSettings(DreamBoothSettings):
    """The same for LoRA matrices of a ``rank``."""

    method: DreamBoothMethod = LORA
    steps: int = Field(default=500, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    rank: int = Field(default=4, ge=1)


def settings_kind(options: Mapping[str, Any]) -> type[DreamBoothSettings]:
    """The settings of the method that options name."""
    return LoraSettings if options.get("method") == LORA else DreamBoothSettings
