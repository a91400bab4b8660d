"""What the settings classes say about themselves: rows, function signatures, and the table of ``docs/settings.md``.

``python -m promptplus.training.settings_help`` writes that file.
"""

import inspect
import textwrap
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from promptplus.training.settings import (
    PRESETS,
    DreamBoothSettings,
    InversionSettings,
    LoraSettings,
    TrainingSettings,
)

F = TypeVar("F", bound=Callable[..., Any])

PAGE = Path("docs/settings.md")
_WIDTH = 110  # of docstrings
_HEAD = """\
# Settings of training

`make docs` writes this page from `promptplus.training.settings`; a test compares them. Each setting is a keyword of
`promptplus.invert` or of `promptplus.training.dreambooth.dreambooth`. On the command line it is `--set name=value`; the
settings that people change most have an option of their own (`promptplus invert --help`).

Defaults of `xti` and `ti` are the paper's (section 4), except the seed. Defaults of `dreambooth` and `dreambooth-lora`
are those of diffusers' examples for Stable Diffusion 1. A dash: the method does not have the setting.

"""
_PRESETS = """
## Presets

A preset sets several settings at once: `--preset NAME`, in Python `preset="NAME"`. An option given beside it wins.
Sources: the paper, section 4, for `paper-…` (`paper-single` is for one picture); our choice for `fast` ([log](log.md)).

"""
_COLUMNS = {"`xti`, `ti`": InversionSettings, "`dreambooth`": DreamBoothSettings, "`dreambooth-lora`": LoraSettings}


@dataclass(frozen=True)
class Setting:
    """One field of a settings class: its name, type in words, default (``...`` where it is required), description."""

    name: str
    type: str
    default: Any
    description: str


def documented(kind: type[TrainingSettings]) -> list[Setting]:
    """The fields of a settings class, the method first."""
    rows = []
    for name, field in kind.model_fields.items():
        assert field.description, f"{kind.__name__}.{name} has no description"
        default = ... if field.is_required() else field.default
        rows.append(Setting(name, type_text(field.annotation), default, field.description))
    return sorted(rows, key=lambda row: row.name != "method")


def type_text(annotation: Any) -> str:
    """A type in words: ``int``, ``float or None``, ``xti or ti``."""
    words = _type_words(annotation)
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _type_words(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    if get_origin(annotation) in (Union, types.UnionType):
        return [word for one in get_args(annotation) for word in _type_words(one)]
    return ["None" if annotation is type(None) else annotation.__name__]


def setting_help(name: str, *kinds: type[TrainingSettings]) -> str:
    """A setting's description and default, and the defaults of other methods where they differ.

    ``kinds``: the classes that may have the setting. Description and default are those of the first that has it.
    """
    having = [kind for kind in kinds if name in kind.model_fields]
    row = next(row for row in documented(having[0]) if row.name == name)
    notes = [f"{_method(kind)} only" for kind in having if len(having) < len(kinds)]
    for kind in having[1:] if name != "method" else ():
        if (default := kind.model_fields[name].default) != row.default:
            notes.append(f"{_method(kind)}: {default}")
    more = f" ({', '.join(notes)})" if notes else ""
    return f"{row.description} Default: {row.default}{more}."


def takes_settings(*kinds: type[TrainingSettings]) -> Callable[[F], F]:
    """Show the fields of settings classes in ``help`` of a function that takes them as ``**options``.

    The function's signature gets a keyword for each field in place of ``**options``, and its docstring a list
    "Options:". Types and defaults are those of the first class that has the field. What the function receives does
    not change.
    """
    rows = {row.name: row for kind in reversed(kinds) for row in documented(kind)}
    fields = {name: field for kind in reversed(kinds) for name, field in kind.model_fields.items()}

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        for name, row in rows.items():
            keyword = inspect.Parameter.KEYWORD_ONLY
            annotation = fields[name].annotation
            parameters.append(inspect.Parameter(name, keyword, default=row.default, annotation=annotation))
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        lines = [
            textwrap.fill(
                f"{name} ({row.type}): {setting_help(name, *kinds)}",
                width=_WIDTH,
                initial_indent="    ",
                subsequent_indent="        ",
            )
            for name, row in rows.items()
        ]
        function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Options:", *lines])
        return function

    return decorate


def _method(kind: type[TrainingSettings]) -> str:
    return str(kind.model_fields["method"].default)


def page() -> str:
    """The text of ``docs/settings.md``."""
    kinds = list(_COLUMNS.values())
    rows = {(row.name, row.description): row for kind in kinds for row in documented(kind)}
    defaults = {(kind, row.name, row.description): row.default for kind in kinds for row in documented(kind)}
    table: list[tuple[str, ...]] = []
    for name, description in rows:
        shown = [defaults.get((kind, name, description), ...) for kind in kinds]
        cells = ["–" if value is ... else f"`{value}`" for value in shown]
        table.append((f"`{name}`", rows[name, description].type, *cells, description))
    presets = [(f"`{name}`", ", ".join(f"`{k}={v}`" for k, v in values.items())) for name, values in PRESETS.items()]
    settings = _markdown(("setting", "values", *_COLUMNS, "meaning"), table)
    return _HEAD + settings + _PRESETS + _markdown(("preset", "settings"), presets)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Write ``docs/settings.md`` below the working directory."""
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
