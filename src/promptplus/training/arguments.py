"""The arguments of a training call that are no settings: the concept's names, and what the run shows and logs."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptplus.datasets import FolderNote
from promptplus.errors import ConceptError, SettingsError, short
from promptplus.pplus import PPlus


class RunArguments(BaseModel):
    """What a run shows and logs. See ``training.invert.invert``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    preview_every: Annotated[int | None, Field(ge=0)]
    progress: bool
    log_with: Sequence[str]
    captions: bool = False


def check_arguments(pplus: Any, **values: Any) -> None:
    """Check the pipeline that is given, and what a run shows and logs; ``values``: fields of RunArguments.

    Raises SettingsError with one sentence on the first that is of a wrong type or outside its range.
    """
    if not isinstance(pplus, PPlus):
        raise SettingsError(f"the first argument is a PPlus, as PPlus(load()), not a {type(pplus).__name__}")
    try:
        RunArguments.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from error


def concept_names(**names: Any) -> FolderNote:
    """The names of a concept as a caller gives them: token, initializer, class_word and kind; None where not given.

    Raises ConceptError with one sentence on the first that is of a wrong type.
    """
    try:
        return FolderNote.model_validate(names, strict=True)
    except ValidationError as error:
        raise ConceptError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    """The first field, what is wrong with it, and its value."""
    first = error.errors()[0]
    return f"{first['loc'][0]}: {first['msg'].lower()}, not {short(first['input'])}"
