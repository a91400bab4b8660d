"""Exceptions and warnings. Every error that a user can cause is a ``PromptPlusError`` with a one-sentence message.

The message states the value, what was expected and the remedy. Where the caller's value is wrong, the exception is
also a ``ValueError``.
"""

import inspect
import warnings

_LIBRARIES = ("promptplus", "torch", "transformers", "diffusers", "accelerate")  # a warning points to no line of these


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
    """An output file or folder cannot be written."""


class BusyError(OutputError):
    """Another process is working in the output folder."""


class SettingsError(PromptPlusError, ValueError):
    """A setting is outside its range."""


class TrainingError(PromptPlusError):
    """A training run failed for a reason other than the caller's values."""


class LossError(TrainingError):
    """The loss or a gradient is not a finite number. This training run cannot continue; others can."""


class Interrupted(PromptPlusError):
    """A run stopped because it was asked to. It can be continued."""


def first_line(error: Exception) -> str:
    """The first line of an error's message; of a pydantic ``ValidationError``, its first field and what is wrong."""
    from pydantic import ValidationError  # slow to import: only when there is an error to report

    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
    return (str(error) or type(error).__name__).splitlines()[0]


def warn(message: str) -> None:
    """Issue a warning that points to the line of the caller's code that called this library, or the pipeline."""
    level, frame = 1, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
