"""PNG files that contain their generation parameters, and reading these back."""

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from tqdm import tqdm

from promptplus.concept import Concept
from promptplus.editing.edit import EditSettings, edit_batch
from promptplus.errors import Interrupted, PictureError
from promptplus.files import StrPath, check_folder, make_folder, write_new
from promptplus.formats.found import FoundConcept
from promptplus.formats.reading import read_all
from promptplus.generation import BATCH, generate_batches
from promptplus.generation_parameters import GenerationParameters
from promptplus.pictures import read_picture
from promptplus.png_chunks import SHEET_KEY, SIGNATURE, text_chunk
from promptplus.pplus import PPlus
from promptplus.report.picture_grid import contact_sheet
from promptplus.start_image import StartImage
from promptplus.text_files import parse_json

KEY = "promptplus"  # the PNG text chunk that holds the parameters
SHEET = "sheet"
_PNG = SIGNATURE[:4]  # enough to tell a PNG from a concept; the rest may be damaged


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
        verb = "edit" if parameters.edit else "generate"
        with tqdm(total=len(seeds), initial=kept, desc=verb, unit="picture", disable=not progress) as bar:
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
    shown = contact_sheet([pictures[number] for number in range(len(seeds))], [f"seed {seed}" for seed in seeds])
    return SavedPictures(saved, save_numbered(shown, folder, SHEET, parameters, first), kept)


def save_numbered(
    sheet: Image.Image, folder: StrPath, name: str, parameters: GenerationParameters, first: int = 0
) -> Path:
    """Write a sheet of several pictures as ``NAME-0000.png``, under the first number that is free."""
    names = (f"{name}-{number:04d}.png" for number in itertools.count(first))
    return _save(sheet, make_folder(folder), names, {KEY: parameters.model_dump_json(), SHEET_KEY: "1"})


def make_again(pplus: PPlus, parameters: GenerationParameters, start: StartImage | None = None) -> Image.Image:
    """Make a picture again from its parameters, bit for bit on the same machine: with the batch it was made in."""
    seeds = parameters.batch or [parameters.seed]
    return _batch(pplus, parameters.model_copy(update={"batch": seeds}), start)[seeds.index(parameters.seed)]


def _batch(pplus: PPlus, parameters: GenerationParameters, start: StartImage | None) -> list[Image.Image]:
    """The pictures of a batch."""
    if (edit := parameters.edit) is not None:
        assert start is not None
        settings = EditSettings(edit.method, parameters.steps, parameters.guidance, edit.skip)
        return edit_batch(
            pplus,
            start,
            edit.source,
            [parameters.prompt] * len(parameters.batch),
            parameters.batch,
            negative=parameters.negative,
            settings=settings,
            width=parameters.width,
            height=parameters.height,
        )
    (made,) = generate_batches(
        pplus,
        [parameters.prompt] * len(parameters.batch),
        parameters.batch,
        negative=parameters.negative,
        clip_skip=parameters.clip_skip,
        compel=parameters.compel,
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
    """What a concept's file of any tool holds, or the generation parameters of a PNG, in plain values.

    Args:
        path: a file or a folder, or a repository of the hub; see ``Concept.load``.

    Raises ConceptError or PictureError where it holds none.
    """
    if _is_png(path):
        return {"file": str(path), **read_parameters(path).model_dump()}
    read = read_all(path)
    described = [_described(one) for one in read]
    return {"file": str(path), **(described[0] if len(read) == 1 else {"concepts": described})}


def _described(found: FoundConcept) -> dict[str, Any]:
    """A concept as it lies in a file, also where it has no token yet."""
    concept = Concept(**replace(found, token=found.token or "<unnamed>").fields)
    remarks = {"left_out": list(found.left_out), "note": found.note}
    values = {**concept.describe(), "token": found.token or None, "spread": round(concept.spread, 4)}
    return {"format": found.format, **values, **{name: remark for name, remark in remarks.items() if remark}}


def _is_png(path: StrPath) -> bool:
    """Whether a file is a PNG; of what is no ordinary file, whether its name says so. A named pipe is never opened."""
    try:
        if Path(path).is_file():
            with Path(path).open("rb") as file:
                return file.read(len(_PNG)) == _PNG
    except (OSError, ValueError):
        pass
    return Path(path).suffix.lower() == ".png"


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
