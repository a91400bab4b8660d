"""What is compared: pictures of several methods for the same concept and prompt, from folders or from an evaluation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict

from promptplus.datasets import load_pictures, read_picture_prompts, read_pictures, subfolders
from promptplus.errors import PictureError, StudyError, warn
from promptplus.evaluation.store import RecordStore
from promptplus.pictures import read_picture
from promptplus.png_metadata import read_parameters
from promptplus.report.picture_grid import GAP
from promptplus.text_files import as_json

WORD = "thing"  # what prompts call a concept that has no name; as in text similarity on the pocket
NAMED = 3  # items that a note names
_PLACEHOLDER = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True)
class Item:
    """One picture of every method, made for the same concept and prompt.

    Attributes:
        concept: name of the concept's folder.
        name: of the item, unique within its concept.
        prompt: the text as people read it; "" where it is not known.
        pictures: by method.
    """

    concept: str
    name: str
    prompt: str
    pictures: Mapping[str, Image.Image] = field(repr=False)


@dataclass(frozen=True)
class _Made:
    """One method's picture and its prompt."""

    picture: Image.Image
    prompt: str


_Found = Mapping[tuple[str, str], _Made]
"""One method's pictures by (concept, name)."""


def items_from_folders(methods: Mapping[str, Path], word: str = WORD) -> list[Item]:
    """The items of plain folders.

    Args:
        methods: each method's folder. It holds a folder for each concept. Pictures of one item have the same name in
            the folders of all methods, but for the suffix. A ``prompts.json`` in a concept's folder maps file names to
            prompts; otherwise the generation parameters in the PNG files count.
        word: stands for the concept's token in the prompts that people read.

    Raises:
        PictureError: a folder or a file cannot be read.
        StudyError: there are no common items, or their prompts differ.
    """
    return _common({method: _read_method(folder, word) for method, folder in methods.items()})


def items_from_evaluation(folder: Path, methods: Sequence[str] = (), word: str = WORD) -> list[Item]:
    """The items of an evaluation's folder: it keeps all scored pictures on sheets, which are cut here.

    Args:
        folder: what ``evaluate --out`` or ``reproduce`` (its folder ``methods``) wrote.
        methods: names with steps, as ``xti@500``; empty: all.
        word: stands for the concept in the prompts that people read.

    Raises:
        StudyError: the folder holds no such results, or no sheets of pictures.
    """
    if not (folder / "results").exists() and not (folder / "results.jsonl").exists():
        raise StudyError(f"{folder} holds no results of promptplus evaluate; give its --out")
    found: dict[str, dict[tuple[str, str], _Made]] = {}
    store = RecordStore(folder / "results")
    for entry_id in sorted(store.ids()):
        fault = f"{store.path(entry_id)} is no result"
        result = as_json(store.entry(entry_id), _Result, StudyError, fault, "evaluate again")
        label = f"{result.method}@{result.steps}"
        if methods and label not in methods:
            found.setdefault(label, {})
            continue
        made = _cut(store.path(entry_id).with_suffix(".png"), result, word)
        if made.keys() & found.setdefault(label, {}).keys():
            raise StudyError(f"{folder} holds two results of {label} on {result.concept}; give one evaluation's folder")
        found[label] |= made
    if missing := [method for method in methods if method not in found]:
        raise StudyError(f"{folder} holds no results of {missing[0]}; it has {', '.join(sorted(found)) or 'none'}")
    return _common({method: found[method] for method in methods or sorted(found)})


def read_real(folder: Path, concepts: Sequence[str]) -> dict[str, list[Image.Image]]:
    """The real pictures of concepts, from a folder with one folder for each. Raises PictureError."""
    if missing := [name for name in concepts if not (folder / name).is_dir()]:
        raise PictureError(f"{folder} holds no folder {missing[0]} with real pictures of that concept; add it")
    return {name: load_pictures(folder / name) for name in concepts}


class _Result(BaseModel):
    """What is needed of a stored result of the experiment grid."""

    model_config = ConfigDict(extra="ignore")

    concept: str
    method: str
    seed: int
    steps: int
    by_prompt: dict[str, Any]


def _read_method(folder: Path, word: str) -> _Found:
    """The pictures of one method's folder."""
    concepts = subfolders(folder)
    if not concepts:
        raise PictureError(f"{folder} holds no folders; give a folder with one folder of pictures for each concept")
    found: dict[tuple[str, str], _Made] = {}
    for concept in concepts:
        prompts = read_picture_prompts(concept)
        for path, picture in read_pictures(concept):
            assert path is not None  # read from a folder
            if (key := (concept.name, path.stem)) in found:
                raise StudyError(f"{concept} holds two pictures with the name {path.stem}; rename one")
            found[key] = _Made(picture, _shown(_prompt_of(path, prompts), word, path))
    return found


def _prompt_of(path: Path, prompts: Mapping[str, str] | None) -> str:
    """A picture's prompt; "" where none is known."""
    if prompts is not None:
        return prompts.get(path.name, "")
    try:
        return read_parameters(path).prompt
    except PictureError:
        return ""


def _shown(prompt: str, word: str, path: Path) -> str:
    """A prompt as people read it: without tokens, which may name a method."""
    if "||" in prompt:
        raise StudyError(
            f"{path} was made from texts for single layers ({prompt!r}), which people cannot judge; "
            "write the text that they read into a prompts.json beside it"
        )
    return _PLACEHOLDER.sub(word, prompt).replace("\\<", "<").strip()


def _cut(path: Path, result: _Result, word: str) -> dict[tuple[str, str], _Made]:
    """The pictures of a sheet: one column for each prompt; see ``evaluation.grid``."""
    if not path.is_file():
        raise StudyError(
            f"{path} is missing: the pictures of {result.method} on {result.concept} were not kept; evaluate again"
        )
    sheet, columns = read_picture(path), len(result.by_prompt)
    side = (sheet.width + GAP) // max(columns, 1) - GAP
    rows = (sheet.height + GAP) // (side + GAP) if side > 0 else 0
    if not rows or sheet.size != (columns * (side + GAP) - GAP, rows * (side + GAP) - GAP):
        raise StudyError(f"{path} is no sheet of square pictures for {columns} prompts; evaluate again")
    made: dict[tuple[str, str], _Made] = {}
    for column, prompt in enumerate(result.by_prompt):
        for row in range(rows):
            x, y = column * (side + GAP), row * (side + GAP)
            name = f"seed{result.seed}-prompt{column}-{row}"
            made[result.concept, name] = _Made(sheet.crop((x, y, x + side, y + side)), prompt.replace("{}", word))
    return made


def _common(found: Mapping[str, _Found]) -> list[Item]:
    """The items that all methods have, in the order of their names."""
    if len(found) < 2:
        raise StudyError(f"a study compares two or more methods, not {', '.join(found) or 'none'}; give another one")
    everywhere = reduce(lambda a, b: a & b, (set(pictures) for pictures in found.values()))
    anywhere = {key for pictures in found.values() for key in pictures}
    if not everywhere:
        raise StudyError(
            f"{' and '.join(found)} have no picture in common; pictures that are compared have the same concept's "
            "folder and file name"
        )
    if left := sorted("/".join(key) for key in anywhere - everywhere):
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        warn(f"left out {len(left)} pictures that not all methods have: {', '.join(left[:NAMED])}{more}")
    items: list[Item] = []
    for concept, name in sorted(everywhere):
        made = {method: pictures[concept, name] for method, pictures in found.items()}
        prompts = {one.prompt for one in made.values()}
        if len(prompts) > 1:
            both = " and ".join(map(repr, sorted(prompts)[:2]))
            raise StudyError(
                f"{concept}/{name}: the methods' pictures have other prompts: {both}; compare like with like"
            )
        items.append(Item(concept, name, prompts.pop(), {method: one.picture for method, one in made.items()}))
    return items
