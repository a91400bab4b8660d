"""A real headless Chromium for tests of web pages; see the marker ``browser``."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

SERIOUS = ("serious", "critical")
DESKTOP = (1280, 900)
PHONE = (390, 844)
SCREENSHOTS = "PROMPTPLUS_SCREENSHOTS"  # a variable of the environment: the folder for screenshots
COLOURS = 128  # of a screenshot: the files go into the documentation


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser: Browser, url: str, size: tuple[int, int] = DESKTOP) -> Iterator[Page]:
    """A page in a session of its own: other pages share no cookies with it. It reaches no other host."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    host = url.split("/")[2]
    context.route(lambda one: one.split("/")[0] in ("http:", "https:") and one.split("/")[2] != host, _refuse)
    page = context.new_page()
    try:
        page.goto(url)
        yield page
    finally:
        context.close()


def _refuse(route: object) -> None:
    route.abort()  # type: ignore[attr-defined]


def serious_faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical on a page: rule, help text, and the first place."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']} ({one['nodes'][0]['html'][:200]})" for one in found if one["impact"] in SERIOUS
    ]


def screenshot(page: Page, name: str) -> None:
    """A picture of the whole page, as NAME.png in the folder that PROMPTPLUS_SCREENSHOTS names; without it, none."""
    if folder := os.environ.get(SCREENSHOTS):
        data = page.screenshot(full_page=True)
        with Image.open(io.BytesIO(data)) as picture:
            picture.convert("RGB").quantize(COLOURS).save(Path(folder) / f"{name}.png", optimize=True)
