"""The studio's pages put together, and the server that shows them on this machine alone."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported

import gradio as gr

from promptplus.errors import OutputError
from promptplus.studio.edit_page import edit_page
from promptplus.studio.grid_page import grid_page
from promptplus.studio.inside_page import inside_page
from promptplus.studio.job_view import QUIET
from promptplus.studio.learn_page import learn_page
from promptplus.studio.mix_page import mix_page
from promptplus.studio.try_page import try_page
from promptplus.studio.uploads import HARD_LIMIT
from promptplus.studio.workplace import Workplace
from promptplus.text_files import read_text

HOST = "127.0.0.1"
CSS = read_text(Path(__file__).parent / "studio.css", OutputError)
THEME = gr.themes.Base(  # fonts of the machine: nothing is fetched from other hosts
    primary_hue="indigo",
    neutral_hue="slate",
    font=("system-ui", "sans-serif"),
    font_mono=("ui-monospace", "monospace"),
).set(
    button_primary_background_fill="*primary_700",  # white on it has a contrast above 4.5, as WCAG asks
    button_primary_background_fill_hover="*primary_800",
    block_label_text_color="*neutral_700",
    block_title_text_color="*neutral_700",
)


def build(place: Workplace) -> gr.Blocks:
    """The pages of a studio."""
    with gr.Blocks(title="promptplus studio", analytics_enabled=False) as blocks:
        gr.Markdown("# promptplus studio", elem_classes="title")
        with gr.Tabs(selected="try") as tabs:
            with gr.Tab("Try", id="try"):
                tried = try_page(place)
            with gr.Tab("Learn", id="learn"):
                learned = learn_page(place, tried, tabs)
            with gr.Tab("Mix", id="mix"):
                views = [mix_page(place, tried, tabs)]
            with gr.Tab("Edit", id="edit"):
                views.append(edit_page(place))
            with gr.Tab("Look inside", id="inside"):
                views += inside_page(place)
            with gr.Tab("Grid", id="grid"):
                views.append(grid_page(place))
        learned.on_load(blocks)
        for view in (tried.view, *views):
            view.on_load(blocks)
        tried.drop.upload(
            lambda dropped, files: [*learned.pictures.add(dropped, files), None, gr.Tabs(selected="learn")],
            [tried.drop, learned.pictures.files],
            [*learned.pictures.components, tried.drop, tabs],
            **QUIET,
        )
    return blocks


@contextmanager
def served(place: Workplace, port: int | None, open_browser: bool = False) -> Generator[str]:
    """While inside, the studio is served on this machine; yields its address.

    Args:
        port: None: the first free one from gradio's usual port on.
        open_browser: open it in the usual browser.

    Raises OutputError where the folders cannot be made, OSError where the port is in use.
    """
    place.make_folders()
    # gradio's copies of uploads and pictures lie here, and nothing outside the listed folders is ever served
    os.environ["GRADIO_TEMP_DIR"] = str(place.uploads.resolve())
    blocks = build(place)
    options: dict[str, Any] = {
        "share": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "run_history": False,
    }
    _, address, _ = blocks.launch(
        server_name=HOST,
        server_port=port,
        inbrowser=open_browser,
        prevent_thread_lock=True,
        quiet=True,
        footer_links=[],
        max_file_size=HARD_LIMIT,
        allowed_paths=[str(place.pictures.resolve())],
        theme=THEME,
        css=CSS,
        **options,
    )
    try:
        yield address
    finally:
        place.jobs.close()
        blocks.close(verbose=False)
