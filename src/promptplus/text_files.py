"""Reading text and JSON that others may have written or damaged: every fault is one error that names its place.

All JSON that promptplus reads goes through ``parse_json`` or ``read_json``. The caller names the class of the error.
"""

import codecs
import json
import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from promptplus.errors import PromptPlusError, first_line
from promptplus.files import StrPath, as_path

T = TypeVar("T")
MAX_BYTES = 64 * 2**20  # the largest text that is read: 100 times our largest file of results
UNICODE_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""What a text begins with that says how it is encoded. Windows' Notepad writes these marks."""


def read_text(path: StrPath, error: type[PromptPlusError], limit: int = MAX_BYTES) -> str:
    """Read a text file: UTF-8, or any other Unicode encoding that the file begins with the mark of.

    Args:
        path: the file.
        error: the class of the error that is raised.
        limit: the most bytes that are read.

    Raises ``error`` where the file is missing, too large or no such text; the message names the byte.
    """
    return decode(read_bytes(path, error, limit), str(path), error)


def read_bytes(path: StrPath, error: type[PromptPlusError], limit: int = MAX_BYTES) -> bytes:
    """Read a whole file. Raises ``error`` where it cannot be read, is no ordinary file, or has more bytes."""
    path = as_path(path, error)
    try:
        if path.exists() and not path.is_file():
            raise error(f"{path} is no file; give a file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as failure:  # ValueError: a name with a null character
        if isinstance(failure, error):
            raise
        reason = getattr(failure, "strerror", None) or first_line(failure)
        raise error(f"cannot read {path}: {reason}") from failure
    if len(data) > limit:
        raise error(f"{path} has more than {limit:,} bytes; a file of this kind has fewer")
    return data


def decode(data: bytes, name: str, error: type[PromptPlusError]) -> str:
    """The text in bytes, without the mark of its encoding; ``name`` is what messages call it."""
    encoding = next((code for mark, code in UNICODE_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as failure:
        byte = f"byte {data[failure.start] if failure.start < len(data) else 0:#04x} at position {failure.start}"
        raise error(f"{name} is not {encoding.upper()} text ({byte}); save it as UTF-8") from failure


def read_json(
    path: StrPath, kind: type[T], error: type[PromptPlusError], fault: str, remedy: str = "", finite: bool = True
) -> T:
    """Read a JSON file as a value of a type; see ``parse_json``. ``fault`` follows the path, as "is no study"."""
    return parse_json(read_text(path, error), kind, error, f"{path} {fault}", remedy, finite)


def parse_json(
    text: str | bytes, kind: type[T], error: type[PromptPlusError], fault: str, remedy: str = "", finite: bool = True
) -> T:
    """Read a JSON text as a value of a type, without converting types: ``"8"`` and ``true`` are no numbers.

    Args:
        text: the text. Depth, digits and size are limited; a key may not be twice in an object.
        kind: a type that pydantic knows: a model, or such as ``dict[str, str]``.
        error: the class of the error that is raised.
        fault: begins the message, as ``"study.json is no study"``; the reason follows.
        remedy: ends the message.
        finite: refuse numbers that are not finite. Our own results may hold such numbers.

    Raises ``error`` on a text that is no JSON, or JSON that is no ``kind``.
    """
    end = f"; {remedy}" if remedy else ""
    if len(text) > MAX_BYTES:
        raise error(f"{fault}: it has more than {MAX_BYTES:,} bytes{end}")
    try:
        if isinstance(text, bytes):
            text = text.decode()
        from_json(text)  # it limits depth and digits, with which Python's reader would fail in other ways
        checks: dict[str, Any] = {"parse_float": _finite, "parse_constant": _finite} if finite else {}
        json.loads(text, object_pairs_hook=_no_duplicates, **checks)
        return cast(T, _adapter(kind).validate_json(text, strict=True))
    except (ValueError, RecursionError) as failure:  # ValueError: also ValidationError and UnicodeDecodeError
        syntax = "" if isinstance(failure, ValidationError | _ContentError) else "no JSON, "
        raise error(f"{fault}: {syntax}{first_line(failure)}{end}") from failure


def as_json(value: object, kind: type[T], error: type[PromptPlusError], fault: str, remedy: str = "") -> T:
    """A value of plain types as a value of another type, as if it was read from a JSON file; see ``parse_json``."""
    return parse_json(json.dumps(value), kind, error, fault, remedy, finite=False)


class _ContentError(ValueError):
    """JSON whose syntax is right, but which has no clear value."""


def _no_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _ContentError(f"the key {key[:40]!r} is there twice")
        found[key] = value
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise _ContentError(f"{text[:20]} is no finite number")
    return number


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter[Any])
