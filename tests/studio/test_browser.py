"""The studio in a real browser, as a person uses it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="needs Playwright's Python package")

from playwright.sync_api import Browser, Page, expect

import promptplus as pp
from promptplus.pocket import CONCEPTS, LEARNED
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.studio.training_runs import read_run
from tests.browser import SCREENSHOTS, chromium, page_of, screenshot, serious_faults
from tests.conftest import make_concept
from tests.studio.test_server import running

pytestmark = [pytest.mark.slow, pytest.mark.browser]

WAIT = 150_000  # milliseconds; the machine may be busy
STEPS = "" if os.environ.get(SCREENSHOTS) else "6"  # of the training; "": the preset's, for a picture to show
FINISHED = re.compile(r"<robo>: step (\d+) of \1, finished")
ROBOT = [str(path) for path in sorted((CONCEPTS / "robot").glob("*.png"))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, pipe: object) -> Iterator[tuple[Path, str]]:
    """The folder and the address of a studio that has one concept besides the bundled one."""
    folder = tmp_path_factory.mktemp("studio")
    with pp.PPlus(pipe) as pplus:
        make_concept(pplus, "<blob>", 1).save(folder / "runs" / "blob" / "concept.safetensors")
    with running(folder) as url:
        yield folder, url


@pytest.fixture
def page(browser: Browser, studio: tuple[Path, str]) -> Iterator[Page]:
    """A fresh page of the studio. At the end, its console must have no errors."""
    with page_of(browser, studio[1]) as page:
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.set_default_timeout(WAIT)
        page.wait_for_selector(".u")
        yield page
        assert not faults


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def pick(page: Page, field: str, label: str) -> None:
    """Choose from a list whose choices come when it is opened."""
    page.click(f"#{field} input")
    page.locator(f"#{field}").get_by_role("option", name=label, exact=True).click()  # another list may still close


def fill(page: Page, field: str, text: str) -> None:
    page.fill(f"#{field} input, #{field} textarea", text)


def shown(page: Page, gallery: str, folder: Path) -> list[Path]:
    """The files of a gallery's pictures. The browser must have got them as they lie on the disk."""
    page.wait_for_selector(f"#{gallery} img")
    sources = [str(image.get_attribute("src")) for image in page.query_selector_all(f"#{gallery} .gallery-item img")]
    files = [folder / "runs" / "studio" / "pictures" / source.rpartition("/")[2] for source in sources]
    for source, file in zip(sources, files, strict=True):  # the file itself, with its generation parameters
        assert httpx.get(source).content == file.read_bytes()
    return files


def test_shape_and_colour_from_two_texts_in_two_clicks(page: Page, studio: tuple[Path, str]) -> None:
    """Two clicks: the band, and Generate. Between them one types what the colour shall be."""
    assert serious_faults(page) == []
    began = time.monotonic()
    page.click(".band.fine .name")
    page.keyboard.type("a red car on a white background")
    page.click("#try-generate")
    files = shown(page, "try-layered", studio[0])
    assert time.monotonic() - began < 60
    expect(page.locator("#try-status")).to_contain_text("8 pictures: done in")
    seen = AttributeJudge.load().classify([Image.open(path).convert("RGB") for path in files])
    assert sum(colour == "red" for colour in seen["colour"]) >= 3
    assert sum(thing == "cat" for thing in seen["object"]) >= 3
    plain = shown(page, "try-plain", studio[0])
    alone = AttributeJudge.load().classify([Image.open(path).convert("RGB") for path in plain])
    assert sum(colour == "green" for colour in alone["colour"]) >= 3
    command = page.locator("#try-command .cm-content").inner_text()
    assert "'a green cat on a white background || fine: a red car on a white background'" in command
    screenshot(page, "studio-try")
    assert serious_faults(page) == []


def test_layers_are_opened_and_closed_by_the_keyboard_alone(page: Page) -> None:
    page.locator("#try-prompt textarea, #try-prompt input").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.key") == "fine":
            break
    page.keyboard.press("Enter")
    page.keyboard.type("a red car")
    assert page.get_by_label("Text for the fine layers", exact=True).input_value() == "a red car"
    assert page.locator(".band.fine .name").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Text for the fine layers", exact=True)).to_have_count(0)
    assert page.evaluate("document.activeElement.dataset.key") == "fine"


def test_a_mistake_is_a_sentence_beside_the_button(page: Page) -> None:
    fill(page, "try-prompt", "a <nobody> || 99: a cat")
    page.click("#try-generate")
    expect(page.locator("#try-status [role=alert]")).to_contain_text("no layer '99'")
    fill(page, "try-prompt", "a <nobody>")
    page.click("#try-generate")
    expect(page.locator("#try-status [role=alert]")).to_contain_text("<nobody>", timeout=WAIT)


def test_a_second_job_waits_and_a_reload_loses_nothing(page: Page, browser: Browser, studio: tuple[Path, str]) -> None:
    tab(page, "Grid")
    fill(page, "grid-prompts", "\n".join(f"a {colour} house" for colour in ("red", "blue", "green", "pink")))
    page.click("#grid-start")
    expect(page.locator("#grid-status")).to_contain_text("a sheet of 24 pictures")
    with page_of(browser, studio[1]) as other:
        other.wait_for_selector(".u", timeout=WAIT)
        other.click("#try-generate")
        waiting = other.locator("#try-status")
        expect(waiting).to_contain_text("Waiting for 1 other job: a sheet of 24 pictures", timeout=WAIT)
        other.click("#try-cancel")
        expect(waiting).to_contain_text("cancelled")
        page.reload()
        tab(page, "Grid")
        expect(page.locator("#grid-status")).to_contain_text("done in", timeout=WAIT)
        page.wait_for_selector("#grid-sheet img")


def test_a_running_job_is_cancelled(page: Page) -> None:
    tab(page, "Grid")
    fill(page, "grid-prompts", "\n".join(f"a {colour} car" for colour in ("red", "blue", "green", "pink", "black")))
    page.click("#grid-start")
    expect(page.locator("#grid-status")).to_contain_text("left", timeout=WAIT)
    page.click("#grid-cancel")
    expect(page.locator("#grid-status")).to_contain_text("cancelled", timeout=WAIT)


def test_a_thing_is_taught_and_tried(page: Page, studio: tuple[Path, str]) -> None:
    page.set_input_files("#try-drop input[type=file]", ROBOT)  # the first page's drop zone leads to the page Learn
    expect(page.locator("#learn-dropped img")).to_have_count(5, timeout=WAIT)
    fill(page, "learn-token", "robo")
    fill(page, "learn-word", "object")
    page.get_by_role("button", name="Advanced").click()
    fill(page, "learn-steps", STEPS)
    page.click("#learn-start")
    expect(page.locator("#learn-state")).to_contain_text("<robo>: step", timeout=WAIT)
    page.reload()  # the training goes on, and the page goes on watching it
    tab(page, "Learn")
    expect(page.locator("#learn-state")).to_contain_text(FINISHED, timeout=WAIT)
    expect(page.locator("#learn-status")).to_contain_text("learning <robo>: done in", timeout=WAIT)
    page.wait_for_selector("#learn-previews img")
    page.wait_for_selector("#learn-pair img")
    screenshot(page, "studio-learn")
    assert serious_faults(page) == []
    page.click("#learn-try")
    expect(page.locator("#try-prompt textarea, #try-prompt input")).to_have_value("a photo of a <robo>")
    page.click("#try-generate")
    files = shown(page, "try-plain", studio[0])
    assert all(path.exists() for path in files)
    assert "--concept runs/robo/concept.safetensors" in page.locator("#try-command .cm-content").inner_text()


def test_stop_keeps_what_was_learned(page: Page, studio: tuple[Path, str]) -> None:
    tab(page, "Learn")
    page.set_input_files("#learn-drop input[type=file]", ROBOT)
    expect(page.locator("#learn-dropped img")).to_have_count(5, timeout=WAIT)
    fill(page, "learn-token", "<long>")
    fill(page, "learn-word", "object")
    pick(page, "learn-preset", "paper-ti")
    page.click("#learn-start")
    expect(page.locator("#learn-state")).to_contain_text(re.compile(r"<long>: step [1-9]\d* of 5000"), timeout=WAIT)
    page.click("#learn-cancel")
    expect(page.locator("#learn-state")).to_contain_text("stopped; the concept: runs/long", timeout=WAIT)
    assert pp.Concept.load(studio[0] / "runs" / "long" / "concept.safetensors").provenance["steps"] < 5000


def test_a_run_of_the_command_line_is_watched(page: Page, studio: tuple[Path, str]) -> None:
    out = studio[0] / "runs" / "outside"
    command = [sys.executable, "-m", "promptplus", "invert", str(CONCEPTS / "robot"), "--token", "<outside>"]
    command += ["--preset", "fast", "--steps", "5000", "--out", str(out), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 90
            while read_run(out) is None:
                assert time.monotonic() < until
                time.sleep(0.2)
            tab(page, "Learn")
            pick(page, "learn-run", "outside")
            expect(page.locator("#learn-state")).to_contain_text("<outside>: step", timeout=WAIT)
            expect(page.locator("#learn-state")).to_contain_text("left", timeout=WAIT)
        finally:
            process.terminate()


def test_two_concepts_are_mixed(page: Page, studio: tuple[Path, str]) -> None:
    tab(page, "Mix")
    pick(page, "mix-shape", "<blob>")
    pick(page, "mix-style", pp.Concept.load(LEARNED / "teapot.safetensors").token)
    page.click("#mix-start")
    assert len(shown(page, "mix-pictures", studio[0])) == 4
    screenshot(page, "studio-mix")
    mixed = pp.Concept.load(studio[0] / "runs" / "studio" / "concepts" / "mix.safetensors")
    assert mixed.provenance["mixed_from"]["shape"] == "<blob>"
    assert serious_faults(page) == []


def test_a_real_picture_is_edited(page: Page, studio: tuple[Path, str]) -> None:
    tab(page, "Edit")
    page.set_input_files("#edit-drop input[type=file]", ROBOT[:1])
    expect(page.locator("#edit-dropped img")).to_have_count(1, timeout=WAIT)
    fill(page, "edit-source", "a blue object on a white background")
    page.click("#edit-layers .band.fine .name")
    page.keyboard.type("a green object on a white background")
    page.click("#edit-start")
    assert len(shown(page, "edit-pictures", studio[0])) == 2
    assert (
        "promptplus edit runs/studio/uploads/edited/00-0.png" in page.locator("#edit-command .cm-content").inner_text()
    )
    assert serious_faults(page) == []


@pytest.mark.parametrize("name", ["Learn", "Mix", "Edit", "Look inside", "Grid"])
def test_every_page_can_be_used_by_everybody(page: Page, name: str) -> None:
    tab(page, name)
    page.wait_for_timeout(500)
    assert serious_faults(page) == []
