"""Reads an HTML page of promptplus, so that tests can check what it shows."""

import base64
import io
import re
from html import unescape

from PIL import Image


def figures(page: str) -> dict[str, list[tuple[str, Image.Image]]]:
    """The (caption, picture) pairs of each section that has any, by the section's title."""
    sections = re.findall(r"<section><h2>(.*?)</h2>(.*?)</section>", page, re.DOTALL)
    shown = {unescape(title): [_figure(figure) for figure in _FIGURE.findall(body)] for title, body in sections}
    return {title: pairs for title, pairs in shown.items() if pairs}


_FIGURE = re.compile(r"<figure>(.*?)</figure>", re.DOTALL)


def _figure(html: str) -> tuple[str, Image.Image]:
    caption = re.search(r"<figcaption>(.*?)</figcaption>", html, re.DOTALL)
    data = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert data, "a page needs no other files"
    picture = Image.open(io.BytesIO(base64.b64decode(data[1])))
    picture.load()
    return unescape(caption[1]) if caption else "", picture
