"""PNG files that contain their generation parameters, and reading these back."""

import hashlib
import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict

from promptplus.concept import Concept
from promptplus.errors import OutputError, PictureError
from promptplus.files import StrPath, make_folder
from promptplus.generation import BATCH, generate
from promptplus.pplus import PPlus
from promptplus.report.picture_grid import contact_sheet

KEY = "promptplus"  # the PNG text chunk that holds the parameters
SHEET = "sheet"


class GenerationParameters(BaseModel):
    """All settings that determine a generated picture. With the same concept and LoRA files it can be regenerated.

    Attributes:
        prompt, negative: the prompts, in the grammar.
        model: the model, as ``load`` takes it.
        steps, guidance, clip_skip, seed: the arguments of ``generate``.
        concepts: SHA-256 of each concept's rows, by token.
        loras: name and SHA-256 of each LoRA file.
        scheduler, dtype: of the pipeline.
        version: of promptplus.
    """

    model_config = ConfigDict(frozen=True)

    prompt: str
    negative: str = ""
    model: str
    steps: int
    guidance: float
    clip_skip: int | None = None
    seed: int = 0
    concepts: dict[str, str] = {}
    loras: list[tuple[str, str]] = []
    scheduler: str = ""
    dtype: str = ""
    version: str = ""

    @classmethod
    def of(cls, pplus: PPlus, loras: Sequence[Path] = (), **values: Any) -> Self:
        """The parameters of a pipeline with its concepts.

        Args:
            pplus: the pipeline.
            loras: the LoRA files that are loaded into it.
            values: all other fields.
        """
        return cls(
            **values,
            loras=[(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in loras],
            concepts={token: concept.sha256 for token, concept in pplus.concepts.items()},
            scheduler=type(pplus.pipe.scheduler).__name__,
            dtype=str(pplus.pipe.unet.dtype).removeprefix("torch."),
            version=importlib.metadata.version("promptplus"),
        )


@dataclass(frozen=True)
class SavedPictures:
    """The files that ``make_pictures`` wrote: one PNG for each seed, and the contact sheet."""

    pictures: tuple[Path, ...]
    sheet: Path


def make_pictures(
    pplus: PPlus,
    parameters: GenerationParameters,
    seeds: Sequence[int],
    out: StrPath,
    *,
    batch: int = BATCH,
    progress: bool = True,
) -> SavedPictures:
    """Generate one PNG file for each seed and a contact sheet. Files that are in the folder already are kept.

    Args:
        pplus: the pipeline.
        parameters: what to generate; its ``seed`` is replaced by each of ``seeds``.
        seeds: one seed for each picture.
        out: the folder; it is created where it does not exist.
        batch: pictures generated at once.
        progress: show a progress bar.

    Raises:
        PromptError: the prompt cannot be encoded.
        SettingsError: steps or seeds are outside their range.
        OutputError: a file cannot be written.
    """
    pictures = generate(
        pplus,
        [parameters.prompt] * len(seeds),
        seeds,
        negative=parameters.negative,
        steps=parameters.steps,
        guidance=parameters.guidance,
        clip_skip=parameters.clip_skip,
        batch=batch,
        progress=progress,
    )
    folder = make_folder(out)
    first = _next_number(folder)
    paths: list[Path] = []
    for number, (picture, seed) in enumerate(zip(pictures, seeds, strict=True), first):
        paths.append(
            _save(picture, folder / f"{number:04d}-seed{seed}.png", parameters.model_copy(update={"seed": seed}))
        )
    labels = [f"seed {seed}" for seed in seeds]
    sheet = _save(contact_sheet(pictures, labels), folder / f"{SHEET}-{first:04d}.png", parameters)
    return SavedPictures(tuple(paths), sheet)


def describe(path: StrPath) -> dict[str, Any]:
    """The contents of a concept file, or the generation parameters of a PNG, in plain values.

    Raises ConceptError or PictureError where the file holds none.
    """
    path = Path(path)
    if path.suffix.lower() == ".png":
        return {"file": str(path), **read_parameters(path).model_dump()}
    return {"file": str(path), **Concept.load(path).describe()}


def read_parameters(path: StrPath) -> GenerationParameters:
    """Read the generation parameters in a PNG. Raises PictureError where there are none."""
    if not Path(path).is_file():
        raise PictureError(f"no picture {path}")
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return GenerationParameters.model_validate_json(picture.info[KEY])
    except (OSError, Image.DecompressionBombError, KeyError, ValueError) as error:  # ValueError: also ValidationError
        raise PictureError(f"{path} is not a PNG with generation parameters of promptplus") from error


def _save(picture: Image.Image, path: Path, parameters: GenerationParameters) -> Path:
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt(KEY, parameters.model_dump_json())
    try:
        picture.save(path, pnginfo=chunk)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _next_number(folder: Path) -> int:
    numbers = (re.match(r"(\d{4,})-seed", p.name) for p in folder.glob("*-seed*.png"))
    return max((int(m[1]) + 1 for m in numbers if m), default=0)
