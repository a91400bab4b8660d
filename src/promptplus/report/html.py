"""Self-contained HTML pages of text, tables and figures."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from promptplus.report.tables import Table


@dataclass(frozen=True)
class Figure:
    """A picture with a caption.

    Attributes:
        picture: the picture.
        caption: text below it.
        width: width on the page, in pixels. Default: that of the picture.
        name: of its file, such as ``trade-off``.
    """

    picture: Image.Image = field(repr=False)
    caption: str = ""
    width: int | None = None
    name: str = ""


@dataclass(frozen=True)
class Section:
    """A section of a page: a heading, a paragraph, figures and a table."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    table: Table | None = None


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """An HTML page that needs no other files: pictures are embedded.

    Args:
        title: title and heading.
        lead: paragraph below the heading.
        sections: the contents.
    """
    body = "\n".join(map(_section, sections))
    return _PAGE.format(title=html.escape(title), lead=html.escape(lead), body=body, style=_STYLE)


def data_url(picture: Image.Image) -> str:
    """A picture as an address that holds the picture itself, as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.figures:
        parts.append('<div class="figures">' + "".join(map(_figure, section.figures)) + "</div>")
    if section.table:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in section.table)
        rows = zip(*section.table.values(), strict=True)
        body = ("<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row) + "</tr>" for row in rows)
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>")
    return "<section>" + "".join(parts) + "</section>"


def _figure(figure: Figure) -> str:
    width = figure.width or figure.picture.width
    caption = html.escape(figure.caption)
    image = f'<img src="{data_url(figure.picture)}" alt="{caption or "figure"}" style="width:{width}px">'
    return f"<figure>{image}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"


_STYLE = """
:root { color-scheme: light; }
body {
  font: 16px/1.55 system-ui, sans-serif; color: #1e1e22; background: #fff;
  max-width: 70rem; margin: 0 auto; padding: 2rem 1.25rem 4rem;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; margin: .4rem 0 1rem; }
.lead { font-size: 1.1rem; color: #4a4a52; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; max-width: 100%; overflow-x: auto; }
img { max-width: 100%; height: auto; display: block; border-radius: 4px; }
figcaption { color: #6e6e76; font-size: .9rem; margin-top: .3rem; max-width: 46rem; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem 1.2rem .25rem 0; border-bottom: 1px solid #e4e4e8; }
th { color: #6e6e76; font-weight: 600; }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1><p class="lead">{lead}</p>
{body}
</body></html>
"""
