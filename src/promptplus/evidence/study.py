"""What a study returns, and how it is written: a page, JSON, CSV, Markdown."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptplus.files import make_folder, write_atomically
from promptplus.report import Section, page

Table = Mapping[str, Sequence[Any]]
"""Columns by name, all of one length."""


@dataclass(frozen=True)
class Study:
    """One part of the evidence.

    Attributes:
        name: of its files.
        title, lead: of its page.
        sections: the page; ``tables``: what CSV files get; ``values``: all numbers, plain.
    """

    name: str
    title: str
    lead: str
    sections: Sequence[Section] = field(repr=False)
    values: Mapping[str, Any] = field(repr=False)
    tables: Mapping[str, Table] = field(default_factory=dict, repr=False)

    def write(self, folder: Path) -> Path:
        """Write ``NAME.html``, ``NAME.json`` and a CSV for each table; returns the page's path."""
        folder = make_folder(folder)
        for name, table in self.tables.items():
            write_atomically(folder / f"{self.name}-{name}.csv", to_csv(table).encode())
        write_atomically(folder / f"{self.name}.json", (json.dumps(self.values, indent=2) + "\n").encode())
        return write_atomically(folder / f"{self.name}.html", page(self.title, self.lead, self.sections).encode())


def to_csv(table: Table) -> str:
    """A table's rows, with a head."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """The same for documents."""
    lines = ["| " + " | ".join(table) + " |", "|" + "---|" * len(table)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in zip(*table.values(), strict=True)]
    return "\n".join(lines)
