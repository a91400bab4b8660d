"""What a training returns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from promptplus.concept import Concept
from promptplus.training.settings import InversionSettings


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
class InversionResult(Run):
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
