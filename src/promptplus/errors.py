"""The exception tree, and warnings. Every error a user can cause is a ``PromptPlusError`` with one clear sentence."""

import inspect
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class PromptPlusError(Exception):
    """Base of all errors promptplus raises on purpose."""


class PromptError(PromptPlusError, ValueError):
    """A prompt breaks the grammar, or holds a token that no concept defines."""


class LayerError(PromptPlusError, ValueError):
    """A layer, group or range that the denoiser does not have."""


class ConceptError(PromptPlusError, ValueError):
    """A token, concept or concept file that cannot be used (with this model)."""


class PictureError(PromptPlusError, ValueError):
    """A picture or picture folder that cannot be used."""


class ModelError(PromptPlusError, ValueError):
    """A model that cannot be found or that P+ cannot condition."""


class OutputError(PromptPlusError, ValueError):
    """An output file or folder that cannot be written."""


class BusyError(OutputError):
    """An output folder that another process is working in."""


class SettingsError(PromptPlusError, ValueError):
    """A setting outside its range."""


class TrainingError(PromptPlusError):
    """The training itself failed (a run's fault, not its caller's)."""


class LossError(TrainingError):
    """The loss, or a gradient, is no finite number: this training is lost, others need not be."""


class Interrupted(PromptPlusError):
    """A run was asked to stop, and did; it can go on."""


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def warn(message: str) -> None:
    """Warn at the line that called this library: the first frame outside of it."""
    level, frame = 1, inspect.currentframe()
    while frame and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
