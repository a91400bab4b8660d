"""What a study returns, and how it is kept: a page, JSON, CSV and PNG files, from which it can be read again."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from PIL import Image

from promptplus.errors import OutputError
from promptplus.files import make_folder, write_atomically
from promptplus.report.html import Figure, Section, page
from promptplus.report.tables import Table, to_csv


@dataclass(frozen=True)
class Study:
    """One part of the evidence.

    Attributes:
        name: of its files.
        title, lead: of its page.
        sections: the page; ``tables``: what CSV files get; ``values``: all numbers, plain.
        key: what it was asked, as a hash; a study that is read again is used only if that is the same.
    """

    name: str
    title: str
    lead: str
    sections: Sequence[Section] = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    tables: Mapping[str, Table] = field(default_factory=dict, repr=False)
    key: str = ""

    def write(self, folder: Path) -> Path:
        """Write ``NAME.html``, ``NAME.json``, a PNG for each figure, a CSV for each table; returns the page's path."""
        folder = make_folder(folder)
        for name, table in self.tables.items():
            write_atomically(folder / f"{self.name}-{name}.csv", to_csv(table).encode())
        write_atomically(folder / f"{self.name}.html", page(self.title, self.lead, self.sections).encode())
        told = {"key": self.key, "title": self.title, "lead": self.lead, "tables": self.tables, "values": self.values}
        told["sections"] = [self._write_section(folder, number, one) for number, one in enumerate(self.sections)]
        write_atomically(folder / f"{self.name}.json", (json.dumps(told, indent=1) + "\n").encode())
        return folder / f"{self.name}.html"

    def _write_section(self, folder: Path, number: int, section: Section) -> dict[str, Any]:
        figures = []
        for count, figure in enumerate(section.figures):
            path = folder / f"{self.name}-{number}-{count}.png"
            buffer = io.BytesIO()
            figure.picture.save(buffer, "PNG", optimize=True)
            write_atomically(path, buffer.getvalue())
            figures.append({"file": path.name, "caption": figure.caption, "width": figure.width})
        return {"title": section.title, "text": section.text, "table": section.table, "figures": figures}

    @classmethod
    def read(cls, folder: Path, name: str) -> Self | None:
        """What ``write`` left in a folder; None where there is nothing. Raises OutputError on a file that is none."""
        path = folder / f"{name}.json"
        if not path.exists():
            return None
        try:
            told = json.loads(path.read_text("utf-8"))
            sections = [_read_section(folder, one) for one in told["sections"]]
            return cls(name, told["title"], told["lead"], sections, told["values"], told["tables"], told["key"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise OutputError(f"{path} is no study ({error}); give another folder") from error


def _read_section(folder: Path, told: dict[str, Any]) -> Section:
    figures = []
    for one in told["figures"]:
        with Image.open(folder / Path(one["file"]).name, formats=["PNG"]) as picture:
            figures.append(Figure(picture.convert("RGB"), one["caption"], one["width"]))
    return Section(told["title"], told["text"], figures, told["table"])
