"""What an inversion leaves behind: the InversionRun value and its folder on disk."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from promptplus.concept import Concept
from promptplus.files import new_folder
from promptplus.inversion.images import tile

Method = Literal["xti", "ti"]


class InversionSettings(BaseModel):
    """How to train. Defaults are the paper's (section 4), but for the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = "xti"
    steps: int = Field(default=500, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=0.005, gt=0)
    vectors: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    flip: bool = True


@dataclass(frozen=True)
class InversionRun:
    """A finished inversion.

    Attributes:
        concept: what was learned.
        settings: how.
        losses: one per step.
        moved: ``[layer]`` mean distance of each layer's rows from where they began.
        previews: (step, pictures) pairs at fixed seeds.
        seconds: wall time of the training, previews included.
        folder: the run folder, if one was asked for.
    """

    concept: Concept
    settings: InversionSettings
    losses: tuple[float, ...] = field(repr=False)
    moved: tuple[float, ...] = field(repr=False)
    previews: tuple[tuple[int, list[Image.Image]], ...] = field(repr=False)
    seconds: float
    folder: Path | None = None


class RunFolder:
    """The folder of one run: settings.json, log.jsonl, previews/, concept.safetensors, learned_embeds.safetensors.

    Made new and never overwritten: OutputError where it exists and holds anything, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = new_folder(path)
        self._start = time.monotonic()

    def write_settings(self, values: dict[str, Any]) -> None:
        """What the run was asked to do."""
        (self.path / "settings.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")

    def log(self, first_step: int, losses: Sequence[float]) -> None:
        """Append one line per step."""
        seconds = round(time.monotonic() - self._start, 3)
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            for step, loss in enumerate(losses, first_step):
                file.write(json.dumps({"step": step, "loss": loss, "seconds": seconds}) + "\n")

    def preview(self, step: int, pictures: Sequence[Image.Image]) -> None:
        """Save one strip of previews."""
        folder = self.path / "previews"
        folder.mkdir(exist_ok=True)
        tile(pictures, columns=len(pictures)).save(folder / f"step-{step:05d}.png")

    def finish(self, concept: Concept) -> None:
        """Write the concept, and beside it the approximation that stock diffusers loads."""
        concept.save(self.path / "concept.safetensors")
        concept.save_approximation(self.path / "learned_embeds.safetensors")
