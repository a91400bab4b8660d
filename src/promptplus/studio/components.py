"""Parts that several pages of the studio have."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from PIL import Image

from promptplus.errors import PromptPlusError
from promptplus.pictures import read_picture
from promptplus.png_metadata import SavedPictures
from promptplus.report.html import data_url
from promptplus.studio.job_view import QUIET, alert
from promptplus.studio.recipe import Recipe
from promptplus.studio.uploads import MOST, check_uploads
from promptplus.studio.workplace import Workplace

THUMBNAIL = 96  # pixels


def gallery(label: str, elem_id: str, columns: int = 2) -> gr.Gallery:
    """Pictures as they lie on the disk: PNG files with their generation parameters. Hidden until there are some."""
    return gr.Gallery(
        label=label,
        elem_id=elem_id,
        columns=columns,
        object_fit="contain",
        height="auto",
        format="png",
        interactive=False,
        visible=False,
    )


def offer_concepts(place: Workplace, field: gr.Dropdown) -> None:
    """Let a field offer the concept files that there are when it is opened."""
    field.focus(lambda: gr.Dropdown([one.label for one in place.concept_files.all()]), None, field, **QUIET)


def captioned(made: SavedPictures, seeds: Sequence[int]) -> list[tuple[str, str]]:
    """The files of pictures with the captions that a gallery shows."""
    return [(str(path), f"seed {seed}") for path, seed in zip(made.pictures, seeds, strict=True)]


def sheet(elem_id: str) -> gr.HTML:
    """A place for one large picture; see ``shown_sheet``. gradio's own picture has no text for screen readers."""
    return gr.HTML(elem_id=elem_id, visible=False, padding=False)


def shown_sheet(picture: Image.Image | Path | None, caption: str) -> gr.HTML:
    """What a handler returns for a sheet: the picture with its caption and a link to keep it, or nothing."""
    if picture is None:
        return gr.HTML("", visible=False)
    source = f"/gradio_api/file={quote(str(picture.resolve()))}" if isinstance(picture, Path) else data_url(picture)
    name = picture.name if isinstance(picture, Path) else f"{re.sub('[^a-z]+', '-', caption.lower()).strip('-')}.png"
    says = html.escape(caption)
    return gr.HTML(
        f'<figure class="sheet"><figcaption>{says} <a href="{source}" download="{name}">Download</a></figcaption>'
        f'<img src="{source}" alt="{says}"></figure>',
        visible=True,
    )


class PictureDrop:
    """A place to drop pictures, and what was dropped so far, as it will be read.

    Attributes:
        files: their paths on this machine.
    """

    def __init__(self, label: str, name: str, most: int = MOST) -> None:
        self._most = most
        self.drop = gr.File(label=label, file_count="multiple", height=150, elem_id=f"{name}-drop")
        self.fault = gr.HTML("", elem_id=f"{name}-drop-fault")
        self.thumbs = gr.HTML("", elem_id=f"{name}-dropped", padding=False)
        self.clear = gr.Button("Clear the pictures", size="sm", visible=False)
        self.files = gr.State([])
        changed = [self.drop, self.fault, self.thumbs, self.clear, self.files]
        self.drop.upload(self.add, [self.drop, self.files], changed, **QUIET)
        self.clear.click(self.empty, None, changed, **QUIET)

    @property
    def components(self) -> list[Any]:
        """What ``add`` and ``empty`` give values for."""
        return [self.drop, self.fault, self.thumbs, self.clear, self.files]

    def add(self, dropped: Sequence[str] | None, files: Sequence[str]) -> list[Any]:
        """Take further pictures. Where one cannot be read, all stays as it was, and a sentence says why."""
        return add_pictures(dropped, files, self._most)

    def empty(self) -> list[Any]:
        """Forget the pictures."""
        return [None, "", "", gr.update(visible=False), []]


def add_pictures(dropped: Sequence[str] | None, files: Sequence[str], most: int = MOST) -> list[Any]:
    """The values of a ``PictureDrop`` with further pictures; of one that takes a single picture, with the new one."""
    paths = [*(files if most > 1 else []), *(dropped or [])]
    try:
        shown = "".join(map(thumbnail, check_uploads(paths, most)))
    except PromptPlusError as error:
        return [None, alert(str(error)), gr.skip(), gr.skip(), gr.skip()]
    return [None, "", f'<div class="thumbs">{shown}</div>', gr.update(visible=True), paths]


def thumbnail(path: Path) -> str:
    """A small picture as HTML, turned and coloured as it will be read. Raises PictureError where it cannot be."""
    picture = read_picture(path)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    name = html.escape(path.name)
    return f'<img src="{data_url(picture)}" alt="{name}" title="{name}">'


class RecipeView:
    """The command line and the Python of what a page has made; hidden until there is something."""

    def __init__(self, name: str) -> None:
        options: dict[str, Any] = {"interactive": False, "wrap_lines": True, "lines": 1}
        with gr.Accordion("Make them again", open=True, visible=False, elem_classes="recipe") as again:
            self.command = gr.Code(language="shell", label="Command line", elem_id=f"{name}-command", **options)
            self.python = gr.Code(language="python", label="Python", elem_id=f"{name}-python", **options)
        self.again = again

    @property
    def components(self) -> list[Any]:
        """What ``values`` gives values for."""
        return [self.again, self.command, self.python]

    def values(self, recipe: Recipe) -> list[Any]:
        """The components with a recipe in them."""
        return [gr.Accordion(visible=True), recipe.command, recipe.python]
