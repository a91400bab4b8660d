"""docs/files.md's table: what is read, written and refused of each format, from the tests that ran."""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from promptplus.formats.found import DIFFUSERS, FORMATS, KOHYA_XTI, OURS, SDXL
from tests.formats.samples import FOLDER, INVOKE, OUR_FOLDER

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "files.md"
MODULES = ("reading", "writing", "refusals", "hub")
"""The test modules with such tests."""
BEGIN, END = "<!-- made by make files, from the tests -->", "<!-- end -->"
COLUMNS = ("read", "write", "bit-equal", "refused")
TARGETS = {
    OURS: "`--to ours`",
    KOHYA_XTI: "`--to kohya`",
    DIFFUSERS: "`--to textual-inversion`",
    SDXL: "`--to textual-inversion`",
    OUR_FOLDER: "`--to hub`",
}
ROWS = {
    **FORMATS,
    INVOKE: "as diffusers'",
    FOLDER: "learned_embeds.bin, token_identifier.txt",
    OUR_FOLDER: "concept.safetensors",
}
NOTHING, FAILS = "–", "**fails**"


class Case(NamedTuple):
    """One entry of a cell: of a format, in a column, what was read or refused."""

    format: str
    column: str
    what: str


def case_of(arguments: Sequence[str], parameters: Mapping[str, Any]) -> Case:
    """The case of a test, from its mark's arguments and its parameters."""
    column, *given = arguments
    sample = parameters.get("sample")
    form = given[0] if given else sample.format
    what = (
        given[1]
        if len(given) > 1
        else {"read": sample and sample.container, "refused": parameters.get("damage")}.get(column)
    )
    return Case(form, column, what or "yes")


def tested() -> list[Case]:
    """All cases that have tests."""
    return list(dict.fromkeys(_tested()))


def _tested() -> Iterator[Case]:
    for name in MODULES:
        module = importlib.import_module(f"tests.formats.test_{name}")
        for test in vars(module).values():
            marks = list(getattr(test, "pytestmark", ()))
            choices = {mark.args[0]: mark.args[1] for mark in marks if mark.name == "parametrize"}
            for mark in (mark for mark in marks if mark.name == "file_format"):
                for sample in choices.get("sample", [None]) if len(mark.args) < 2 else [None]:
                    for damage in choices.get("damage", [None]):
                        yield case_of(mark.args, {"sample": sample, "damage": damage})


def table(outcomes: Mapping[Case, Sequence[str]]) -> str:
    """The table in Markdown."""
    lines = [["format", "its files hold", *COLUMNS], ["---"] * (2 + len(COLUMNS))]
    for name, holds in ROWS.items():
        lines.append([name, holds, *(_cell(name, column, outcomes) for column in COLUMNS)])
    return f"{_lines(lines)}\n\n{_lines(_refusals(outcomes))}"


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |".replace("<", "&lt;") for row in rows)


def _refusals(outcomes: Mapping[Case, Sequence[str]]) -> list[list[str]]:
    """Which formats' files were refused with each kind of damage."""
    cases = [case for case, seen in outcomes.items() if case.column == "refused" and {*seen} == {"passed"}]
    rows = [["refused", "in files of"], ["---"] * 2]
    everywhere = {case.format for case in cases if case.what == "truncated"}
    for kind in dict.fromkeys(case.what for case in cases):
        formats = [name for name in ROWS if Case(name, "refused", kind) in cases]
        rows.append([kind, "all formats" if {*formats} == everywhere else ", ".join(formats)])
    return rows


def _cell(form: str, column: str, outcomes: Mapping[Case, Sequence[str]]) -> str:
    found = {case.what: seen for case, seen in outcomes.items() if (case.format, case.column) == (form, column)}
    if any("failed" in seen for seen in found.values()):
        return FAILS
    passed = [what for what, seen in found.items() if "passed" in seen]
    if column == "write" and passed:
        return TARGETS[form]
    if column == "refused" and passed:
        return f"{len(passed)} of {len(found)} kinds"
    return "; ".join(passed) or NOTHING


def write(outcomes: Mapping[Case, Sequence[str]], path: Path = PAGE) -> None:
    """Put the table into the page."""
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n\n{table(outcomes)}\n\n{END}{rest.partition(END)[2]}", "utf-8")


def read(path: Path = PAGE) -> str:
    """The table of the page."""
    return re.findall(f"{BEGIN}\n\n(.*?)\n\n{END}", path.read_text("utf-8"), re.DOTALL)[0]
