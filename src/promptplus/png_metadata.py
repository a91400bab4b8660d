"""Pictures on disk that carry their whole recipe, and reading it back."""

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

KEY = "promptplus"  # the PNG text chunk that holds the recipe
SHEET = "sheet"


class GenerationParameters(BaseModel):
    """All that decides a picture but its seed.

    ``concepts`` maps tokens to the sha256 of their rows; ``loras`` are file names, each with that of its bytes.
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
        """A recipe for this pipeline, its concepts and LoRA files; ``make_pictures`` checks the prompts against it."""
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
    """The files one call wrote."""

    pictures: tuple[Path, ...]
    sheet: Path


def make_pictures(
    pplus: PPlus,
    recipe: GenerationParameters,
    seeds: Sequence[int],
    out: StrPath,
    *,
    batch: int = BATCH,
    progress: bool = True,
) -> SavedPictures:
    """Generate one PNG per seed, and a contact sheet, into a folder; files there already are kept."""
    pictures = generate(
        pplus,
        [recipe.prompt] * len(seeds),
        seeds,
        negative=recipe.negative,
        steps=recipe.steps,
        guidance=recipe.guidance,
        clip_skip=recipe.clip_skip,
        batch=batch,
        progress=progress,
    )
    folder = make_folder(out)
    first = _next_number(folder)
    paths = []
    for number, (picture, seed) in enumerate(zip(pictures, seeds, strict=True), first):
        paths.append(_save(picture, folder / f"{number:04d}-seed{seed}.png", recipe.model_copy(update={"seed": seed})))
    labels = [f"seed {seed}" for seed in seeds]
    sheet = _save(contact_sheet(pictures, labels), folder / f"{SHEET}-{first:04d}.png", recipe)
    return SavedPictures(tuple(paths), sheet)


def describe(path: StrPath) -> dict[str, Any]:
    """What a concept file or a picture with a recipe says of itself."""
    path = Path(path)
    if path.suffix.lower() == ".png":
        return {"file": str(path), **read_parameters(path).model_dump()}
    return {"file": str(path), **Concept.load(path).describe()}


def read_parameters(path: StrPath) -> GenerationParameters:
    """The recipe in a PNG. Raises PictureError where there is none."""
    if not Path(path).is_file():
        raise PictureError(f"no picture {path}")
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return GenerationParameters.model_validate_json(picture.info[KEY])
    except (OSError, Image.DecompressionBombError, KeyError, ValueError) as error:  # ValueError: also ValidationError
        raise PictureError(f"{path} is not a PNG with a promptplus recipe") from error


def _save(picture: Image.Image, path: Path, recipe: GenerationParameters) -> Path:
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt(KEY, recipe.model_dump_json())
    try:
        picture.save(path, pnginfo=chunk)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _next_number(folder: Path) -> int:
    numbers = (re.match(r"(\d{4,})-seed", p.name) for p in folder.glob("*-seed*.png"))
    return max((int(m[1]) + 1 for m in numbers if m), default=0)
