"""Pictures side by side on one sheet: plain tiles, labelled grids, contact sheets, stacks."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from promptplus.picture_colours import WHITE

BLACK, GREY = (30, 30, 34), (110, 110, 118)
LABEL_SIZE = 13  # points; legible at README width
GAP = 2  # pixels between tiles
SPACING = 6  # pixels between labelled pictures

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def tile(pictures: Sequence[Image.Image], columns: int, gap: int = GAP) -> Image.Image:
    """Pictures of one size in rows of ``columns``, with ``gap`` white pixels between them."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), WHITE)
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * (width + gap), i // columns * (height + gap)))
    return sheet


def labelled_grid(
    rows: Sequence[Sequence[Image.Image]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    cell: int = 128,
) -> Image.Image:
    """Rows of pictures with labels.

    Args:
        rows: the pictures; rows may differ in length.
        row_labels: texts to the left of the rows; a line break starts a new line.
        column_labels: texts above the columns, wrapped to the width of a picture.
        cell: width and height of a picture on the sheet, in pixels.
    """
    font = ImageFont.load_default(LABEL_SIZE)
    label_lines = [line for label in row_labels for line in label.splitlines()]
    left = max((int(font.getlength(line)) for line in label_lines), default=-SPACING) + 3 * SPACING if row_labels else 0
    wrapped = [_wrap(label, font, cell) for label in column_labels]
    line = LABEL_SIZE + 4
    top = max((len(lines) for lines in wrapped), default=0) * line + (SPACING if wrapped else 0)
    columns = max(len(row) for row in rows)
    step = cell + SPACING
    sheet = Image.new("RGB", (left + columns * step - SPACING, top + len(rows) * step - SPACING), WHITE)
    draw = ImageDraw.Draw(sheet)
    for j, lines in enumerate(wrapped):
        for k, text in enumerate(lines):
            y = top - SPACING - (len(lines) - k) * line
            draw.text((left + j * step + cell / 2, y), text, BLACK, font, anchor="ma")
    for i, row in enumerate(rows):
        y = top + i * step
        if i < len(row_labels):
            draw.text((left - 2 * SPACING, y + cell / 2), row_labels[i], BLACK, font, anchor="rm", align="right")
        for j, picture in enumerate(row):
            sheet.paste(_resize(picture, cell), (left + j * step, y))
    return sheet


def contact_sheet(
    pictures: Sequence[Image.Image], labels: Sequence[str], columns: int = 4, cell: int = 192
) -> Image.Image:
    """Pictures in rows of at most ``columns``, each ``cell`` pixels wide and high, with its label below."""
    font = ImageFont.load_default(LABEL_SIZE)
    height = cell + LABEL_SIZE + 2 * SPACING
    cards: list[Image.Image] = []
    for picture, label in zip(pictures, labels, strict=True):
        card = Image.new("RGB", (cell, height), WHITE)
        card.paste(_resize(picture, cell))
        ImageDraw.Draw(card).text((cell / 2, cell + SPACING), label, GREY, font, anchor="ma")
        cards.append(card)
    return tile(cards, min(columns, len(cards)), SPACING)


def stack(titled: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """(title, picture) pairs, one below the other on white."""
    font = ImageFont.load_default(LABEL_SIZE + 4)
    head, margin = LABEL_SIZE + 4 + 3 * SPACING, 3 * SPACING
    width = max(picture.width for _, picture in titled) + 2 * margin
    sheet = Image.new("RGB", (width, sum(picture.height + head + margin for _, picture in titled)), WHITE)
    y = 0
    for title, picture in titled:
        ImageDraw.Draw(sheet).text((margin, y + 2 * SPACING), title, BLACK, font)
        sheet.paste(picture, (margin, y + head))
        y += picture.height + head + margin
    return sheet


def _resize(picture: Image.Image, cell: int) -> Image.Image:
    return picture.resize((cell, cell), Image.Resampling.LANCZOS) if picture.size != (cell, cell) else picture


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Lines of whole words that are at most ``width`` pixels long, where a word is not longer itself."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
