"""Tables as CSV and Markdown text."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

Table = Mapping[str, Sequence[Any]]
"""Columns by name, all of the same length."""


def from_rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table from the names of its columns and its rows."""
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}


def to_csv(table: Table) -> str:
    """CSV text: a header line, then one line for each row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """A Markdown table: a header, a rule, then one line for each row."""
    lines = ["| " + " | ".join(table) + " |", "|" + "---|" * len(table)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in zip(*table.values(), strict=True)]
    return "\n".join(lines)
