"""Figures and one self-contained HTML page per run. Draws what the other modules return; computes nothing."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from promptplus.figures import blank_canvas, finished
from promptplus.inversion.dreambooth import DreamBoothRun
from promptplus.inversion.images import WHITE, tile
from promptplus.inversion.run import InversionRun

INK, MUTED = (30, 30, 34), (110, 110, 118)
LABEL_SIZE = 13  # points; legible at README width
GAP = 6


@dataclass(frozen=True)
class Figure:
    """A picture with a caption; drawn ``width`` pixels wide."""

    picture: Image.Image = field(repr=False)
    caption: str = ""
    width: int | None = None


@dataclass(frozen=True)
class Section:
    """One part of a page: a heading, a paragraph, figures and a table (column → values)."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    table: Mapping[str, Sequence[Any]] | None = None


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


def loss_curve(losses: Sequence[float], window: int = 25) -> Image.Image:
    """The loss of each step, and its running mean over ``window`` steps."""
    canvas, axes = blank_canvas(height=2.6)
    steps = range(1, len(losses) + 1)
    means = [sum(part := losses[max(0, s - window) : s]) / len(part) for s in steps]
    axes.plot(steps, losses, color="0.8", linewidth=0.8, label="each step")
    axes.plot(steps, means, color="C0", linewidth=1.6, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="loss (mean squared error)")
    axes.legend(frameon=False)
    return finished(canvas)


def run_page(run: InversionRun | DreamBoothRun) -> str:
    """The page of one training: settings, previews, loss, and how far what was trained has moved."""
    facts = {**run.facts, "seconds": round(run.seconds, 1)}
    sections = [Section("Settings", table={"": list(facts), "value": list(facts.values())})]
    if run.previews:
        grid = labelled_grid([p for _, p in run.previews], row_labels=[f"step {step}" for step, _ in run.previews])
        sections.append(Section("Previews", "The same seeds after more and more steps.", [Figure(grid)]))
    if run.without and run.previews:
        pair = [run.previews[-1][1], list(run.without)]
        names = [f"with {run.name}", f"without: {run.class_word}"]
        figure = Figure(labelled_grid(pair, row_labels=names))
        sections.append(Section("With and without", "The same seeds.", [figure]))
    sections.append(Section("Loss", figures=[Figure(loss_curve(run.losses))]))
    sections.append(_rows(run) if isinstance(run, InversionRun) else _weights(run))
    return page(f"{run.name}: {run.settings.method}", "", sections)


def _rows(run: InversionRun) -> Section:
    layers = {
        "layer": run.concept.layers.names,
        "row norm": [f"{n:.3f}" for n in run.concept.rows.norm(dim=-1).mean(dim=1).tolist()],
        "moved by": [f"{m:.3f}" for m in run.moved],
        "of its norm": [f"{share:.0%}" for share in run.share_moved],
    }
    return Section("Rows", "Token embeddings by layer, forward order.", table=layers)


def _weights(run: DreamBoothRun) -> Section:
    return Section("Weights", f"They moved by {run.moved:.2%} of their norm, to {run.product.name}.")


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """One HTML page that needs no other file."""
    body = "\n".join(map(_section, sections))
    return _PAGE.format(title=html.escape(title), lead=html.escape(lead), body=body, style=_STYLE)


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.figures:
        parts.append('<div class="figures">' + "".join(map(_figure, section.figures)) + "</div>")
    if section.table:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in section.table)
        lines = zip(*section.table.values(), strict=True)
        rows = ("<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in line) + "</tr>" for line in lines)
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
    return "<section>" + "".join(parts) + "</section>"


def _figure(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.picture.save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    width = figure.width or figure.picture.width
    caption = html.escape(figure.caption)
    image = f'<img src="data:image/png;base64,{data}" alt="{caption or "figure"}" style="width:{width}px">'
    return f"<figure>{image}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"


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
