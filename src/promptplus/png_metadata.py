"""PNG files that contain their generation parameters, and reading these back."""

import hashlib
import importlib.metadata
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, cast

from PIL import Image, PngImagePlugin
from pydantic import BaseModel, BeforeValidator, ConfigDict
from tqdm import tqdm

from promptplus.concept import Concept
from promptplus.errors import Interrupted, PictureError
from promptplus.files import StrPath, check_folder, make_folder, write_new
from promptplus.generation import BATCH, DrawingOptions, generate_batches
from promptplus.lora import Lora
from promptplus.pictures import read_picture
from promptplus.png_chunks import SHEET_KEY, text_chunk
from promptplus.pplus import PPlus
from promptplus.report.picture_grid import contact_sheet
from promptplus.start_image import StartImage
from promptplus.text_files import parse_json

KEY = "promptplus"  # the PNG text chunk that holds the parameters
SHEET = "sheet"


def _with_strength(lora: Any) -> Any:
    """Version 0.1 wrote (name, hash) without the strength, which was 1."""
    if not isinstance(lora, list | tuple):
        return lora
    values = cast(list[Any], lora)
    return (*values, 1.0) if len(values) == 2 else tuple(values)


LoraRecord = Annotated[tuple[str, str, float], BeforeValidator(_with_strength)]
"""Name, SHA-256 and strength of a LoRA file."""


class GenerationParameters(BaseModel):
    """All settings that determine a generated picture. With the same files it can be made again, bit for bit.

    Attributes:
        prompt, negative: the prompts, in the grammar.
        model: the model, as ``load`` takes it.
        steps, guidance, clip_skip, seed: the arguments of ``generate``.
        width, height: as they were given; None: the model's.
        image, mask: name and SHA-256 of the file of the start picture and of its mask; None: there was none.
        strength: of the start picture.
        concepts: SHA-256 of each concept's rows, by token.
        loras: name, SHA-256 and strength of each LoRA file.
        batch: the seeds of the pictures that were made together, its own among them: they decide the rounding.
        scheduler, dtype: of the pipeline.
        version: of promptplus.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    prompt: str
    negative: str = ""
    model: str
    steps: int
    guidance: float
    clip_skip: int | None = None
    seed: int = 0
    width: int | None = None
    height: int | None = None
    image: tuple[str, str] | None = None
    mask: tuple[str, str] | None = None
    strength: float | None = None
    concepts: dict[str, str] = {}
    loras: list[LoraRecord] = []
    batch: list[int] = []
    scheduler: str = ""
    dtype: str = ""
    version: str = ""

    @classmethod
    def of(cls, pplus: PPlus, loras: Sequence[Lora] = (), **values: Any) -> Self:
        """The parameters of a pipeline with its concepts.

        Args:
            pplus: the pipeline.
            loras: the LoRA files that are loaded into it.
            values: all other fields. Default of ``scheduler``: the pipeline's.
        """
        made_by: dict[str, Any] = {"scheduler": type(pplus.pipe.scheduler).__name__, **values}
        return cls(
            **made_by,
            loras=lora_records(loras),
            concepts={token: concept.sha256 for token, concept in pplus.concepts.items()},
            dtype=str(pplus.pipe.unet.dtype).removeprefix("torch."),
            version=importlib.metadata.version("promptplus"),
        )

    def options(self, pplus: PPlus, start: StartImage | None) -> DrawingOptions:
        """The arguments of ``generate`` besides prompts, seeds and ``clip_skip``."""
        own = type(pplus.pipe.scheduler).__name__
        return {
            "steps": self.steps,
            "guidance": self.guidance,
            "scheduler": None if self.scheduler in ("", own) else self.scheduler,
            "width": self.width,
            "height": self.height,
            "start": start,
        }


def file_hash(path: Path) -> str:
    """SHA-256 of a file: 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lora_records(loras: Sequence[Lora]) -> list[tuple[str, str, float]]:
    """Name, hash and strength of LoRA files, as generation parameters hold them."""
    return [(lora.path.name, file_hash(lora.path), lora.strength) for lora in loras]


@dataclass(frozen=True)
class SavedPictures:
    """The files that ``make_pictures`` wrote: one PNG for each seed, and the contact sheet.

    Attributes:
        kept: how many of the pictures were there before.
    """

    pictures: tuple[Path, ...]
    sheet: Path
    kept: int = 0


def make_pictures(
    pplus: PPlus,
    parameters: GenerationParameters,
    seeds: Sequence[int],
    out: StrPath,
    *,
    start: StartImage | None = None,
    batch: int = BATCH,
    resume: bool = False,
    progress: bool = True,
) -> SavedPictures:
    """Generate one PNG file for each seed and a contact sheet. Files that are in the folder already are kept.

    Every batch is written as soon as it is made.

    Args:
        pplus: the pipeline.
        parameters: what to generate; its ``seed`` is replaced by each of ``seeds``.
        seeds: one seed for each picture.
        out: the folder; it is created where it does not exist.
        start: the picture to start from.
        batch: pictures generated at once.
        resume: whether pictures of the same parameters that are in the folder are left as they are.
        progress: show a progress bar.

    Raises:
        PromptError: the prompt cannot be encoded.
        SettingsError: steps or seeds are outside their range.
        OutputError: a file cannot be written.
        Interrupted: Ctrl-C; what was made before is in the folder.
    """
    folder = check_folder(out)
    wanted = [
        parameters.model_copy(update={"seed": seed, "batch": list(seeds[begin : begin + batch])})
        for begin in range(0, len(seeds), batch)
        for seed in seeds[begin : begin + batch]
    ]
    paths = _existing(folder, wanted) if resume else {}
    kept, first = len(paths), _next_number(folder)
    pictures: dict[int, Image.Image] = {number: read_picture(path) for number, path in paths.items()}
    try:
        with tqdm(total=len(seeds), initial=kept, desc="generate", unit="picture", disable=not progress) as bar:
            for begin in range(0, len(seeds), batch):
                numbers = range(begin, min(begin + batch, len(seeds)))
                missing = [number for number in numbers if number not in paths]
                if not missing:
                    continue
                made = _batch(pplus, wanted[begin], start)
                make_folder(folder)  # not before: a wrong prompt leaves nothing behind
                for number in missing:
                    pictures[number] = made[number - begin]
                    names = _numbered(first + number - kept, wanted[number].seed)
                    paths[number] = _save(pictures[number], folder, names, {KEY: wanted[number].model_dump_json()})
                bar.update(len(missing))
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; {len(paths)} of {len(seeds)} pictures are in {folder}; the same command with --resume goes on",
            by="SIGINT",
        ) from None
    saved = tuple(paths[number] for number in range(len(seeds)))
    if kept == len(seeds) and (sheets := sorted(folder.glob(f"{SHEET}-*.png"))):
        return SavedPictures(saved, sheets[-1], kept)
    shown = [pictures[number] for number in range(len(seeds))]
    sheet = _save(
        contact_sheet(shown, [f"seed {seed}" for seed in seeds]),
        folder,
        (f"{SHEET}-{number:04d}.png" for number in itertools.count(first)),
        {KEY: parameters.model_dump_json(), SHEET_KEY: "1"},
    )
    return SavedPictures(saved, sheet, kept)


def make_again(pplus: PPlus, parameters: GenerationParameters, start: StartImage | None = None) -> Image.Image:
    """Make a picture again from its parameters, bit for bit on the same machine: with the batch it was made in."""
    seeds = parameters.batch or [parameters.seed]
    return _batch(pplus, parameters.model_copy(update={"batch": seeds}), start)[seeds.index(parameters.seed)]


def _batch(pplus: PPlus, parameters: GenerationParameters, start: StartImage | None) -> list[Image.Image]:
    """The pictures of a batch."""
    (made,) = generate_batches(
        pplus,
        [parameters.prompt] * len(parameters.batch),
        parameters.batch,
        negative=parameters.negative,
        clip_skip=parameters.clip_skip,
        batch=len(parameters.batch),
        **parameters.options(pplus, start),
    )
    return made


def _existing(folder: Path, wanted: Sequence[GenerationParameters]) -> dict[int, Path]:
    """The pictures in a folder that have the wanted parameters, by their number in ``wanted``."""
    left = {_without_version(one): number for number, one in enumerate(wanted)}
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*-seed*.png")):
        try:
            number = left.pop(_without_version(read_parameters(path)), None)
        except PictureError:
            continue
        if number is not None:
            found[number] = path
    return found


def _without_version(parameters: GenerationParameters) -> str:
    return parameters.model_copy(update={"version": ""}).model_dump_json()


def _numbered(first: int, seed: int) -> Iterator[str]:
    return (f"{number:04d}-seed{seed}.png" for number in itertools.count(first))


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
    fault = f"{path} is not a PNG with generation parameters of promptplus"
    if not os.path.lexists(path):
        raise PictureError(f"no picture {path}")
    text = text_chunk(Path(path), KEY)
    if text is None:
        raise PictureError(f"{fault}: it has none; give a picture that promptplus generate made")
    return parse_json(text, GenerationParameters, PictureError, fault)


def save_picture(picture: Image.Image, parameters: GenerationParameters, out: StrPath) -> Path:
    """Write one picture with its parameters into a folder. Returns the path."""
    folder = make_folder(out)
    names = _numbered(_next_number(folder), parameters.seed)
    return _save(picture, folder, names, {KEY: parameters.model_dump_json()})


def _save(picture: Image.Image, folder: Path, names: Iterator[str], chunks: dict[str, str]) -> Path:
    """Write a PNG with text chunks under the first name that is free."""
    info = PngImagePlugin.PngInfo()
    for key, text in chunks.items():
        info.add_itxt(key, text)
    return write_new(folder, names, lambda path: picture.save(path, "PNG", pnginfo=info))


def _next_number(folder: Path) -> int:
    numbers = (re.match(r"(\d{4,})-seed", p.name) for p in folder.glob("*-seed*.png"))
    return max((int(m[1]) + 1 for m in numbers if m), default=0)
