"""Exceptions and warnings. Every error that a user can cause is a ``PromptPlusError`` with a one-sentence message.

The message states the value, what was expected and the remedy. Where the caller's value is wrong, the exception is
also a ``ValueError``.
"""

import errno
import inspect
import warnings
from collections.abc import Iterable

_NAMES = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EFBIG", "EMFILE", "ENFILE", "ENOMEM")
DISK_ERRORS = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
"""Numbers of the system's errors that no other file name would avoid."""
_LIBRARIES = ("promptplus", "torch", "transformers", "diffusers", "accelerate", "jaxtyping", "beartype")
"""A warning points to no line of these."""


class PromptPlusError(Exception):
    """Base class of all exceptions that promptplus raises on purpose."""


class PromptError(PromptPlusError, ValueError):
    """A prompt does not follow the grammar, or contains a token that no concept defines."""


class LayerError(PromptPlusError, ValueError):
    """The denoiser has no such layer, group or range of layers."""


class ConceptError(PromptPlusError, ValueError):
    """A token, concept or concept file cannot be used, or cannot be used with this model."""


class PictureError(PromptPlusError, ValueError):
    """A picture or a folder of pictures cannot be used."""


class ModelError(PromptPlusError, ValueError):
    """A model cannot be found, or P+ does not support it."""


class OutputError(PromptPlusError, ValueError):
    """An output file or folder cannot be used: no permission, something else is there, a file that is no such file."""


class WriteError(PromptPlusError):
    """Writing failed, and other values would not help: the disk is full, read-only or broken."""


class BusyError(OutputError):
    """Another process is working in the output folder."""


class SettingsError(PromptPlusError, ValueError):
    """A setting is outside its range."""


class StudyError(PromptPlusError, ValueError):
    """A user study cannot be built, read or served, or its votes cannot be counted."""


class VoteError(StudyError):
    """A vote or a participant of a user study is refused."""


class TrainingError(PromptPlusError):
    """A training run failed for a reason other than the caller's values."""


class LossError(TrainingError):
    """The loss or a gradient is not a finite number. This training run cannot continue; others can."""


class Interrupted(PromptPlusError):
    """A run stopped because it was asked to. It can be continued.

    Attributes:
        by: the name of the signal that asked, such as ``SIGINT``; "" where another process did.
    """

    def __init__(self, message: str, by: str = "") -> None:
        super().__init__(message)
        self.by = by


SHOWN = 40  # characters of a wrong value in a message


def first_line(error: BaseException) -> str:
    """The first line of an error's message, with those after it while it ends in a colon; else the class's name.

    Of a pydantic ``ValidationError``: its first field, what is wrong, and the value, which is cut where it is long.
    """
    from pydantic import ValidationError  # slow to import: only when there is an error to report

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        line = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
        if first["type"] in ("missing", "extra_forbidden", "json_invalid"):  # there is no value, or all of the text
            return line
        return f"{line}, not {short(first['input'])}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    end = next((number for number, line in enumerate(lines, 1) if not line.endswith(":")), len(lines))
    return " ".join(lines[:end])


def short(value: object) -> str:
    """A value as it is written in Python, on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def check_type(value: object, kind: type, what: str, error: type[PromptPlusError]) -> None:
    """Raise ``error`` where a caller's value is of another type; ``what``: how messages call it."""
    if not isinstance(value, kind):
        name = {str: "text", dict: "dictionary"}.get(kind, kind.__name__)
        raise error(f"{what} is a {name}, not {short(value)}")


def one_of(value: object, texts: Iterable[str]) -> bool:
    """Whether a caller's value, which may be of any type, is one of several texts."""
    return isinstance(value, str) and value in texts


def warn(message: str) -> None:
    """Issue a warning that points to the line of the caller's code that called this library, or the pipeline."""
    level, frame = 1, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
