"""What a training returns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from promptplus.concept import Concept
from promptplus.training.settings import DreamBoothSettings, InversionSettings


@dataclass(frozen=True)
class TrainingResult:
    """What every finished training has.

    Attributes:
        losses: one per step.
        previews: (step, pictures) pairs at fixed seeds.
        class_word_previews: the class word's pictures at the same seeds; empty where no previews were asked for.
        seconds: wall time of the training, previews included, over all calls that took part in it.
        resumed: the step this call began at; ``settings.steps`` where the training was finished before.
        folder: the run folder, if one was asked for.
    """

    losses: tuple[float, ...] = field(repr=False)
    previews: tuple[tuple[int, list[Image.Image]], ...] = field(repr=False)
    class_word_previews: tuple[Image.Image, ...] = field(repr=False)
    seconds: float
    resumed: int
    folder: Path | None


@dataclass(frozen=True)
class InversionResult(TrainingResult):
    """A finished inversion.

    Attributes:
        concept: what was learned.
        settings: how it was learned.
        moved: per layer, the mean distance of its rows from where they began.
    """

    concept: Concept
    settings: InversionSettings
    moved: tuple[float, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """What the concept is called in prompts."""
        return self.concept.token

    @property
    def class_word(self) -> str:
        """The plain word for its class."""
        return self.concept.class_word

    @property
    def facts(self) -> dict[str, Any]:
        """What was asked, for people."""
        names = {"token": self.name, "initializer": self.concept.initializer, "model": self.concept.base_model}
        return {**names, **self.settings.model_dump()}

    @property
    def share_moved(self) -> tuple[float, ...]:
        """Per layer, how far its rows moved, as a share of their norm at the end."""
        norms = self.concept.rows.norm(dim=-1).mean(dim=1).tolist()
        return tuple(moved / norm for moved, norm in zip(self.moved, norms, strict=True))


@dataclass(frozen=True)
class DreamBoothResult(TrainingResult):
    """A finished DreamBooth training.

    Attributes:
        product: the folder ``pipeline``, which diffusers and ``promptplus.load`` open; or the LoRA's file.
        settings: how it was trained.
        class_word: the subject is called ``{identifier} {class_word}`` in prompts.
        model: the model it was trained on, in words.
        moved: how far the trained weights moved, as a share of their norm.
    """

    product: Path
    settings: DreamBoothSettings
    class_word: str
    model: str
    moved: float

    @property
    def name(self) -> str:
        """What the subject is called in prompts."""
        return self.settings.subject(self.class_word)

    @property
    def facts(self) -> dict[str, Any]:
        """What was asked, for people."""
        return {"class_word": self.class_word, "model": self.model, **self.settings.model_dump()}
