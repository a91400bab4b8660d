"""HTML pages show what they were given, and need no other files."""

import re

import numpy as np
from PIL import Image

from promptplus.report.html import Figure, Section, page
from tests.pages import figures


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))


def test_pictures_are_embedded_unchanged_with_their_captions() -> None:
    pictures = [noise(8, 4), noise(3, 9)]
    html = page("Title", "Lead", [Section("One & two", figures=[Figure(pictures[0], "a < b"), Figure(pictures[1])])])
    shown = figures(html)
    assert list(shown) == ["One & two"]
    assert [caption for caption, _ in shown["One & two"]] == ["a < b", ""]
    for (_, picture), expected in zip(shown["One & two"], pictures, strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(expected))
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_a_figure_is_shown_at_its_width() -> None:
    html = page("", "", [Section("a", figures=[Figure(noise(8, 4), width=300), Figure(noise(8, 4))])])
    assert re.findall(r"width:(\d+)px", html) == ["300", "8"]


def test_texts_and_tables_are_escaped() -> None:
    html = page("<t>", "<l>", [Section("<s>", "<p>", table={"<name>": ["<x>", 1], "value": [None, 0.5]})])
    for text in ("t", "l", "s", "name", "x"):
        assert f"&lt;{text}&gt;" in html
        assert f"<{text}>" not in html
    assert "<p>&lt;p&gt;</p>" in html
    assert re.findall(r"<td>(.*?)</td>", html) == ["&lt;x&gt;", "None", "1", "0.5"]
    assert re.findall(r"<th>(.*?)</th>", html) == ["&lt;name&gt;", "value"]


def test_a_section_without_contents_is_its_heading() -> None:
    assert "<section><h2>Empty</h2></section>" in page("", "", [Section("Empty")])
