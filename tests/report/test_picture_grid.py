"""Sheets of pictures."""

import numpy as np
from PIL import Image

from promptplus.report.picture_grid import LABEL_SIZE, SPACING, contact_sheet, labelled_grid, stack, tile

COLOURS = ("red", "lime", "blue")
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def squares(side: int = 4) -> list[Image.Image]:
    return [Image.new("RGB", (side, side), colour) for colour in COLOURS]


def test_tiles_go_row_by_row_with_a_white_gap() -> None:
    sheet = tile(squares(), columns=2, gap=1)
    assert sheet.size == (9, 9)
    assert [sheet.getpixel(at) for at in ((0, 0), (8, 0), (0, 8), (8, 8), (4, 0))] == [RED, GREEN, BLUE, WHITE, WHITE]


def test_a_grid_without_labels_is_its_pictures() -> None:
    grid = labelled_grid([squares()[:2], squares()[2:]], cell=8)
    far = 8 + SPACING
    assert grid.size == (far + 8, far + 8)
    assert [grid.getpixel(at) for at in ((0, 0), (far, 0), (0, far), (far, far))] == [RED, GREEN, BLUE, WHITE]


def test_labels_stand_left_of_rows_and_above_columns() -> None:
    picture = Image.new("RGB", (64, 64), "red")
    grid = labelled_grid([[picture]], row_labels=["row"], column_labels=["two words that wrap"], cell=64)
    ink = np.asarray(grid.convert("L")) < 40  # letters, which are darker than red
    left, top = grid.width - 64, grid.height - 64
    assert ink[top:, :left].any()
    assert ink[:top, left:].any()
    assert not ink[:top, :left].any()
    assert top > 2 * LABEL_SIZE, "the column's label has more than one line"


def test_a_label_of_two_lines_is_as_wide_as_its_longer_one() -> None:
    red = [Image.new("RGB", (64, 64), "red")]
    one, two = (labelled_grid([red], row_labels=[label], cell=64) for label in ("a long line", "a line\na long line"))
    assert two.size == one.size
    ink = [np.asarray(grid.convert("L"))[:, :-64].min(axis=1) < 128 for grid in (one, two)]
    assert ink[1].sum() > 1.5 * ink[0].sum(), "both lines are written"


def test_a_contact_sheet_has_a_label_below_each_picture() -> None:
    sheet = contact_sheet(squares(), ["one", "two", "three"], columns=2, cell=32)
    height = 32 + LABEL_SIZE + 2 * SPACING
    assert sheet.size == (2 * 32 + SPACING, 2 * height + SPACING)
    assert sheet.getpixel((0, 0)) == RED
    assert sheet.getpixel((32 + SPACING, 0)) == GREEN
    assert sheet.getpixel((0, height + SPACING)) == BLUE
    assert (np.asarray(sheet.convert("L"))[32:height, :32] < 200).any()


def test_a_stack_shows_titles_above_pictures() -> None:
    sheet = stack([("one", squares(32)[0]), ("two", squares(16)[1])])
    pixels = np.asarray(sheet).reshape(-1, 3).tolist()
    assert (pixels.count(list(RED)), pixels.count(list(GREEN))) == (32 * 32, 16 * 16)
    assert (np.asarray(sheet.convert("L"))[: sheet.height - 16] < 60).any()
