"""Settings of training: every option of every method, with its type, default, bounds and description.

These classes are the only place where an option is described. The Python keywords, the command line, the checkpoint
record and ``docs/settings.md`` are made from them (see ``training.settings_help``).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from promptplus.choices import (
    Constraint,
    DreamBoothMethod,
    InversionMethod,
    Preset,
    Schedule,
    Speed,
    Templates,
    TrainingMethod,
    Tying,
)
from promptplus.errors import SettingsError, one_of, short

# More than any use of these settings; beyond, a run would end for lack of memory, minutes after it began.
MAX_STEPS, MAX_BATCH, MAX_VECTORS, MAX_JITTER, MAX_CLASS_COUNT = 10**7, 4096, 512, 1000, 10**5
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS, description="Number of training steps: one optimiser step each.")]
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH, description="Pictures in a training step, for each concept.")]
LearningRate = Annotated[float, Field(gt=0, description="Learning rate of AdamW.")]


class TrainingSettings(BaseModel):
    """Settings that all methods share."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Steps
    batch_size: BatchSize
    learning_rate: LearningRate
    seed: int = Field(default=0, ge=0, description="Seed of all random draws of the training run.")
    flip: bool = Field(default=True, description="Mirror each picture with probability 1/2 (textual inversion's code).")
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="Pictures that pass the denoiser at once; None: the whole batch. A small number saves memory. "
        "The gradient stays the same.",
    )
    min_snr: float | None = Field(
        default=None,
        gt=0,
        description="Weigh the loss of a timestep by min(SNR, this) / SNR (Hang et al., 2023: 5). None: all timesteps "
        "have the same weight (the paper).",
    )
    jitter: int = Field(
        default=0,
        ge=0,
        le=MAX_JITTER,
        description="Extra copies of each picture with changed brightness, contrast and saturation (our choice).",
    )
    schedule: Schedule = Field(
        default="constant",
        description="Learning rate over the run: constant (the paper), or cosine, which falls to 0 at the last step.",
    )
    warmup: int = Field(default=0, ge=0, description="First steps, over which the learning rate rises from 0.")
    beta1: float = Field(
        default=0.9,
        ge=0,
        lt=1,
        description="AdamW's decay rate for the mean of the gradient. A value below .9 forgets the large gradients of "
        "the first steps sooner, which helps in short runs (docs/log.md).",
    )
    beta2: float = Field(
        default=0.999,
        gt=0,
        lt=1,
        description="AdamW's decay rate for the squared gradient. See beta1; the usual value is .999.",
    )
    stratified: bool = Field(
        default=False,
        description="Draw one timestep from each of equal parts of the noise schedule (our choice).",
    )
    antithetic: bool = Field(
        default=False, description="Use each noise for two samples, once with the opposite sign (our choice)."
    )
    timestep_bias: float = Field(
        default=1.0,
        gt=0,
        description="Timestep = (1 - u^bias) * T for uniform u and T timesteps. 1 is uniform; a value above 1 draws "
        "more noisy timesteps (our choice).",
    )

    def rate(self, step: int) -> float:
        """The learning rate of a step (0, 1, …)."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps)) if self.schedule == "cosine" else 1.0
        return self.learning_rate * rise * fall


class InversionSettings(TrainingSettings):
    """Settings of methods that train token rows. Defaults are the paper's (section 4), except the seed."""

    method: InversionMethod = Field(
        default="xti",
        description="xti: one row for each cross-attention layer (SDXL: transformer). ti: one row for all layers.",
    )
    steps: Steps = 500
    batch_size: BatchSize = 8
    learning_rate: LearningRate = 0.005
    vectors: int = Field(
        default=1,
        ge=1,
        le=MAX_VECTORS,
        description="Token embeddings for each row; each takes one position of a caption (textual inversion's "
        "multi-vector form).",
    )
    templates: Templates = Field(
        default="batch",
        description="batch: one caption template for all samples of a step. picture: one for each sample, which is "
        "slower and learns as much (docs/log.md). The paper does not say.",
    )
    tying: Tying | None = Field(
        default=None,
        description="Which layers share a row (our choice). None: with xti those of a transformer, which has one layer "
        "in most models; with ti all.",
    )
    learn: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # so that results and runs without it keep their hashes
        description="The layers whose rows are trained, as fine or 0-3,12 (our choice). The rows of all other layers "
        "stay at the class word's token embeddings, of which there must be as many as vectors. None: all layers (the "
        "paper).",
    )
    constraint: Constraint = Field(
        default="none",
        description="Where rows may lie. none: anywhere (the paper). norm: at the mean norm of the vocabulary (our "
        "choice). direction: the same, and only the direction is trained (arXiv 2512.13672).",
    )
    density: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the rows' mean log density among the vocabulary, which is maximised too. The paper has "
        "such a term; its formula is not known, ours is density.TokenDensity.",
    )
    average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay rate of a moving average of the rows, which becomes the result (Polyak averaging). 0: the "
        "result is the last rows (the paper).",
    )
    speed: Speed = Field(
        default="plain",
        description="How the frozen denoiser runs: plain, compiled (torch.compile), or graphed (CUDA graphs). Results "
        "are equal up to rounding.",
    )


LORA: DreamBoothMethod = "dreambooth-lora"
_DREAMBOOTH_METHOD = "dreambooth: train the whole denoiser. dreambooth-lora: train a LoRA of its attention layers."


class DreamBoothSettings(TrainingSettings):
    """Settings of DreamBooth. Defaults are those of diffusers' DreamBooth example for Stable Diffusion 1."""

    method: DreamBoothMethod = Field(default="dreambooth", description=_DREAMBOOTH_METHOD)
    steps: Steps = 800
    batch_size: BatchSize = 1
    learning_rate: LearningRate = 5e-6
    identifier: str = Field(
        default="sks",
        min_length=1,
        description="The word that names the subject, before its class word. Choose a word that no caption uses.",
    )
    class_count: int = Field(
        default=200,
        ge=1,
        le=MAX_CLASS_COUNT,
        description="Pictures of the class that the model draws before training (prior images).",
    )
    prior_weight: float = Field(
        default=1.0, ge=0, description="Weight of the loss on prior images (prior preservation). 0: there are none."
    )

    def subject(self, class_word: str) -> str:
        """The subject's name in prompts."""
        return f"{self.identifier} {class_word}"


class LoraSettings(DreamBoothSettings):
    """Settings of DreamBooth with a LoRA. Defaults are those of diffusers' DreamBooth LoRA example."""

    method: DreamBoothMethod = Field(default=LORA, description=_DREAMBOOTH_METHOD)
    steps: Steps = 500
    learning_rate: LearningRate = 1e-4
    rank: int = Field(default=4, ge=1, description="Rank of the LoRA's matrices.")


SETTINGS: dict[TrainingMethod, type[TrainingSettings]] = {
    "xti": InversionSettings,
    "ti": InversionSettings,
    "dreambooth": DreamBoothSettings,
    "dreambooth-lora": LoraSettings,
}
"""The settings class of each method."""

PRESETS: dict[Preset, dict[str, Any]] = {
    "paper-ti": {"method": "ti", "batch_size": 8, "steps": 5000, "learning_rate": 0.005},
    "paper-xti": {"method": "xti", "batch_size": 8, "steps": 500, "learning_rate": 0.005},
    "paper-single": {"method": "xti", "batch_size": 8, "steps": 500, "learning_rate": 0.001},
    "fast": {
        "method": "xti",
        "batch_size": 8,
        "steps": 50,
        "learning_rate": 0.01,
        "beta1": 0.7,
        "beta2": 0.9,
        "vectors": 8,
    },
}
"""Named values of InversionSettings.

``paper-…``: the paper, section 4. ``paper-single`` is for one picture, which learns too fast otherwise.
``fast``: our choice, found on the pocket model's ``dev`` concepts (docs/log.md). It is untried on other models.
"""

S = TypeVar("S", bound=TrainingSettings)


def validated(kind: type[S], values: Mapping[str, Any]) -> S:
    """Make settings from options. Raises SettingsError with one sentence on the first mistake."""
    try:
        settings = kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name, method = ".".join(map(str, first["loc"])), values.get("method", kind.model_fields["method"].default)
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{name} is no option of the method {method}; leave it out") from error
        raise SettingsError(f"{name}: {first['msg'].lower()}, not {short(first['input'])}") from error
    for name in ("stratified", "antithetic"):
        if getattr(settings, name) and settings.batch_size == 1:
            raise SettingsError(f"{name} needs a batch_size of 2 or more, not 1")
    return settings


def inversion_settings(preset: Preset | None, options: Mapping[str, Any]) -> InversionSettings:
    """Make settings from a preset and options; where both give a value, the option's is used.

    Raises SettingsError on a preset that does not exist and on what ``validated`` rejects.
    """
    if preset is not None and not one_of(preset, PRESETS):
        raise SettingsError(f"no preset {short(preset)}; there are {', '.join(PRESETS)}")
    return validated(InversionSettings, {**(PRESETS[preset] if preset else {}), **options})


def settings_kind(options: Mapping[str, Any]) -> type[DreamBoothSettings]:
    """The DreamBooth settings class for options: LoraSettings where they name that method."""
    return LoraSettings if options.get("method") == LORA else DreamBoothSettings


def value_of_text(kind: type[TrainingSettings], name: str, text: str) -> Any:
    """The value that ``text`` has as the field ``name``; ``none`` where the field may be None.

    Raises SettingsError on a field that ``kind`` does not have, and on text that is no value of its type. Bounds are
    checked by ``validated``.
    """
    if name not in kind.model_fields:
        raise SettingsError(f"no option {name!r}; there are {', '.join(sorted(kind.model_fields))}")
    annotation: Any = kind.model_fields[name].annotation
    try:
        return TypeAdapter(annotation).validate_strings(text)
    except ValidationError as error:
        if text.lower() == "none" and type(None) in get_args(annotation):
            return None
        raise SettingsError(f"{name}: {error.errors()[0]['msg'].lower()}, not {text!r}") from error
