"""Study: the result of an experiment, and its files: one JSON file, a page, PNG figures and CSV tables."""

import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from PIL import Image
from pydantic import BaseModel

from promptplus.errors import OutputError, first_line
from promptplus.files import make_folder, write_atomically
from promptplus.report.html import Figure, Section, page
from promptplus.report.tables import Table, to_csv
from promptplus.text_files import read_json

FORMER_NAMES = {"methods": "evaluation", "two-concepts": "several"}
"""Former names of studies: ``Study.read`` finds their files too, so that earlier results are reused."""


class FigureRecord(BaseModel):
    """A figure in the JSON file; ``file`` lies in the same folder."""

    file: str
    caption: str
    width: int | None


class SectionRecord(BaseModel):
    """A section in the JSON file."""

    title: str
    text: str
    table: dict[str, list[Any]] | None
    figures: list[FigureRecord]


class StudyRecord(BaseModel):
    """The JSON file of a study."""

    key: str
    title: str
    lead: str
    tables: dict[str, dict[str, list[Any]]]
    values: dict[str, Any]
    sections: list[SectionRecord]


@dataclass(frozen=True)
class Study:
    """The result of one experiment.

    Attributes:
        name: begins the names of its files.
        title: of its page; ``lead``: the first paragraph there.
        sections: of its page, with figures.
        values: all numbers, as plain JSON values.
        tables: by name; each becomes a CSV file.
        key: hash of everything the study depends on; a study is read again only if its key is the same.
    """

    name: str
    title: str
    lead: str
    sections: Sequence[Section] = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    tables: Mapping[str, Table] = field(default_factory=dict, repr=False)
    key: str = ""

    def write(self, folder: Path) -> Path:
        """Write ``NAME.html``, ``NAME.json``, a PNG per figure and a CSV per table; returns the path of the page.

        The JSON file comes last: where it is, all others are.
        """
        folder = make_folder(folder)
        for name, table in self.tables.items():
            write_atomically(folder / f"{self.name}-{name}.csv", to_csv(table).encode())
        write_atomically(folder / f"{self.name}.html", page(self.title, self.lead, self.sections).encode())
        record = {"key": self.key, "title": self.title, "lead": self.lead, "tables": self.tables, "values": self.values}
        record["sections"] = self._write_figures(folder)
        write_atomically(folder / f"{self.name}.json", (json.dumps(record, indent=1) + "\n").encode())
        return folder / f"{self.name}.html"

    def _write_figures(self, folder: Path) -> list[dict[str, Any]]:
        """Write all figures; returns the sections with the figures' file names."""
        records: list[dict[str, Any]] = []
        names: Counter[str] = Counter()
        for section in self.sections:
            figures: list[dict[str, Any]] = []
            for figure in section.figures:
                name = figure.name or _figure_name(section.title, figure.caption)
                names[name] += 1  # figures without a name and a caption are numbered
                file = f"{self.name}-{name}{f'-{names[name]}' if names[name] > 1 else ''}.png"
                buffer = io.BytesIO()
                figure.picture.save(buffer, "PNG", optimize=True)
                write_atomically(folder / file, buffer.getvalue())
                figures.append({"file": file, "caption": figure.caption, "width": figure.width})
            records.append({"title": section.title, "text": section.text, "table": section.table, "figures": figures})
        return records

    @classmethod
    def read(cls, folder: Path, name: str) -> Self | None:
        """Read what ``write`` left in a folder; None where there is nothing.

        A figure whose file is missing is left out, and the text of its section says so. Raises OutputError on a file
        that is no study.
        """
        names = [one for one in (name, FORMER_NAMES.get(name)) if one and (folder / f"{one}.json").exists()]
        if not names:
            return None
        path = folder / f"{names[0]}.json"
        remedy = "remove it to measure it again, or give another folder"
        record = read_json(path, StudyRecord, OutputError, "is no study", remedy, finite=False)
        try:
            sections = [_read_section(path, section) for section in record.sections]
        except (ValueError, SyntaxError, OSError, Image.DecompressionBombError) as error:  # what Pillow raises
            raise OutputError(f"{path} is no study: {first_line(error)}; {remedy}") from error
        return cls(name, record.title, record.lead, sections, record.values, record.tables, record.key)


def _read_section(path: Path, record: SectionRecord) -> Section:
    figures, missing = [], 0
    for figure in record.figures:
        file = path.parent / Path(figure.file).name
        if not file.exists():
            missing += 1
            continue
        with Image.open(file, formats=["PNG"]) as picture:
            name = file.stem.removeprefix(f"{path.stem}-")
            same = picture.copy() if picture.mode == "P" else picture.convert("RGB")  # a palette makes small pages
            figures.append(Figure(same, figure.caption, figure.width, name))
    text = record.text
    if missing:
        text = f"{text} Figures not kept: {missing}. Remove {path.name} to measure and draw them again.".strip()
    return Section(record.title, text, figures, record.table)


def _figure_name(title: str, caption: str) -> str:
    """The words of a section's title and a figure's caption, joined by hyphens."""
    return "-".join(re.findall(r"[a-z0-9]+", f"{title} {caption}".lower()))
