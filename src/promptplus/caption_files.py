"""Captions of pictures: a text file beside each picture, or one ``metadata.jsonl``; captions → templates for training.

The files are those of other trainers: ``p0.txt`` or ``p0.caption`` beside ``p0.png``, or the ``metadata.jsonl`` of the
Hugging Face library datasets, with ``file_name`` and ``text`` in each line.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from promptplus.errors import PictureError, check_type
from promptplus.text_files import parse_json, read_text

CAPTION_SUFFIXES, METADATA = (".txt", ".caption"), "metadata.jsonl"
MAX_BYTES = 2**24  # a metadata.jsonl of tens of thousands of lines (our choice)
SHOWN = 60  # characters of a caption that messages show


def read_captions(files: Sequence[Path | None]) -> tuple[str, ...]:
    """The caption of each picture file, on one line.

    A text file beside the picture counts before a line in ``metadata.jsonl``. Raises PictureError where a picture has
    no caption, or it cannot be read.
    """
    metadata: dict[Path, dict[str, str]] = {}
    captions: list[str] = []
    for file in files:
        if file is None:
            raise PictureError("captions are read beside picture files; these pictures come from memory")
        if file.parent not in metadata:
            metadata[file.parent] = _read_metadata(file.parent / METADATA)
        beside = _beside(file)
        text = read_text(beside, PictureError, MAX_BYTES) if beside else metadata[file.parent].get(file.name, "")
        if not (caption := " ".join(text.split())):
            what = f"{beside} is empty" if beside else f"{file} has no caption"
            raise PictureError(f"{what}; write {file.stem}.txt or a line of {METADATA}, or leave captions out")
        captions.append(caption)
    return tuple(captions)


def caption_templates(captions: Sequence[str], token: str, class_word: str) -> tuple[str, ...]:
    """Captions with ``{}`` at the place of the concept: where they have ``{}``, the token, or the class word.

    Of several places the first counts. The class word is found as a whole word, in any case. Raises PictureError where
    a caption has none of the three.
    """
    found: list[str] = []
    for caption in captions:
        word = rf"(?<!\w){re.escape(class_word)}(?!\w)"
        match = next(filter(None, (re.search(p, caption, re.I) for p in (r"\{\}", re.escape(token), word))), None)
        if match is None:
            shown = caption if len(caption) <= SHOWN else f"{caption[:SHOWN]}…"
            raise PictureError(
                f"the caption {shown!r} does not say where the concept is; write {{}}, {token} or {class_word} into it"
            )
        found.append(f"{caption[: match.start()]}{{}}{caption[match.end() :]}")
    return tuple(found)


def describing_template(text: str, token: str, class_word: str) -> str:
    """One caption for all pictures of a concept, with ``{}`` at the concept's place.

    Args:
        text: has ``{}`` once; or the token or the class word, which ``{}`` then replaces.

    Raises PictureError where the concept has no place in it, or several.
    """
    check_type(text, str, "describe: a caption", PictureError)
    text = " ".join(text.split())
    if (count := text.count("{}")) > 1:
        raise PictureError(f"the caption {text!r} has {{}} {count} times; write it once, where the concept is named")
    return caption_templates([text], token, class_word)[0]


def _beside(file: Path) -> Path | None:
    """The caption file of a picture file, if there is one."""
    suffixes = [s for suffix in CAPTION_SUFFIXES for s in (suffix, suffix.upper())]
    return next((path for suffix in suffixes if os.path.lexists(path := file.with_suffix(suffix))), None)


class _Line(TypedDict):
    """A line of ``metadata.jsonl``; it may hold more."""

    file_name: str
    text: str


def _read_metadata(path: Path) -> dict[str, str]:
    """The texts of pictures by file name; empty where the file does not exist."""
    if not os.path.lexists(path):
        return {}
    texts: dict[str, str] = {}
    for number, line in enumerate(read_text(path, PictureError, MAX_BYTES).splitlines(), 1):
        if line.strip():
            fault = f'{path}, line {number} is not {{"file_name": …, "text": …}}'
            values = parse_json(line, _Line, PictureError, fault)
            texts[values["file_name"]] = values["text"]
    return texts
