"""Pictures with labels: grids, contact sheets, stacks."""

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from promptplus.pictures import WHITE, tile

INK, MUTED = (30, 30, 34), (110, 110, 118)


LABEL_SIZE = 13  # points; legible at README width


GAP = 6


def labelled_grid(
    rows: Sequence[Sequence[Image.Image]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    cell: int = 128,
) -> Image.Image:
    """Rows of pictures with labels at the left (of one line or more) and on top, each ``cell`` pixels wide."""
    font = ImageFont.load_default(LABEL_SIZE)
    written = [line for label in row_labels for line in label.splitlines()]
    left = max((int(font.getlength(line)) for line in written), default=-GAP) + 3 * GAP if row_labels else 0
    wrapped = [_wrap(label, font, cell) for label in column_labels]
    line = LABEL_SIZE + 4
    top = max((len(lines) for lines in wrapped), default=0) * line + (GAP if wrapped else 0)
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (left + columns * (cell + GAP) - GAP, top + len(rows) * (cell + GAP) - GAP), WHITE)
    draw = ImageDraw.Draw(sheet)
    for j, lines in enumerate(wrapped):
        for k, text in enumerate(lines):
            y = top - GAP - (len(lines) - k) * line
            draw.text((left + j * (cell + GAP) + cell / 2, y), text, INK, font, anchor="ma")
    for i, row in enumerate(rows):
        y = top + i * (cell + GAP)
        if i < len(row_labels):
            draw.text((left - 2 * GAP, y + cell / 2), row_labels[i], INK, font, anchor="rm", align="right")
        for j, picture in enumerate(row):
            sheet.paste(_enlarged(picture, cell), (left + j * (cell + GAP), y))
    return sheet


def contact_sheet(
    pictures: Sequence[Image.Image], labels: Sequence[str], columns: int = 4, cell: int = 192
) -> Image.Image:
    """Pictures in rows, each with its label beneath."""
    font = ImageFont.load_default(LABEL_SIZE)
    foot = LABEL_SIZE + 2 * GAP
    cards = []
    for picture, label in zip(pictures, labels, strict=True):
        card = Image.new("RGB", (cell, cell + foot), WHITE)
        card.paste(_enlarged(picture, cell))
        ImageDraw.Draw(card).text((cell / 2, cell + GAP), label, MUTED, font, anchor="ma")
        cards.append(card)
    return tile(cards, min(columns, len(cards)), GAP)


def stack(parts: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Titled pictures one above the other, on white."""
    font = ImageFont.load_default(LABEL_SIZE + 4)
    head, margin = LABEL_SIZE + 4 + 3 * GAP, 3 * GAP
    width = max(picture.width for _, picture in parts) + 2 * margin
    sheet = Image.new("RGB", (width, sum(p.height + head + margin for _, p in parts)), WHITE)
    y = 0
    for title, picture in parts:
        ImageDraw.Draw(sheet).text((margin, y + 2 * GAP), title, INK, font)
        sheet.paste(picture, (margin, y + head))
        y += picture.height + head + margin
    return sheet


def _enlarged(picture: Image.Image, cell: int) -> Image.Image:
    return picture.resize((cell, cell), Image.Resampling.LANCZOS) if picture.size != (cell, cell) else picture


def _wrap(text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
