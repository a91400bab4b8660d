"""The main job and the model's promise, end to end, on the bundled weights."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import promptplus as pp
from benchmarks import split
from promptplus.demo import CELL, SHAPE_LAYERS
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.report.html import Figure, Section, page
from promptplus.report.picture_grid import labelled_grid
from tests.pages import figures

pytestmark = pytest.mark.slow


def test_the_demo_makes_its_page(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    call = [sys.executable, "-m", "promptplus", "demo", "--steps", "3", "--out", str(out), "--device", "cpu"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    *_, where, numbers = done.stdout.splitlines()
    assert where == f"the page: {out / 'index.html'}"
    values = json.loads(numbers)
    assert -1 <= values["subject_similarity_before"] < 1
    assert values["steps"] == 3
    html = (out / "index.html").read_text()
    assert 'src="http' not in html
    shown = figures(html)
    assert list(shown) == [
        "One prompt replaces another, layer by layer, from coarse to fine",
        "The coarse layers decide what it is, all others its colour",
        "A concept learned from five pictures",
        "The concept in new scenes",
        "One concept's shape with another's style",
    ]
    assert all(len(pairs) == 1 and pairs[0][1].width > 4 * CELL for pairs in shown.values())
    with Image.open(out / "demo.png") as sheet:
        assert sheet.width > 600
    assert pp.Concept.load(next(out.glob("*.safetensors"))).provenance["mixed_from"]["shape_layers"] == SHAPE_LAYERS


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_page_opens_in_a_browser_without_scrolling_sideways(tmp_path: Path) -> None:
    grid = labelled_grid([[Image.new("RGB", (64, 64), "red")] * 8], row_labels=["a row"], cell=104)
    section = Section("A <grid>", "Text & more.", [Figure(grid, "caption")], {"": ["a"], "value": [1]})
    measure = (
        "<script>document.title = `${document.documentElement.scrollWidth} ${document.images[0].naturalWidth}`</script>"
    )
    html = page("Title", "Lead", [section])
    (tmp_path / "page.html").write_text(html.replace("</body>", measure + "</body>"))
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    browser += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'user'}"]
    call = [*browser, "--window-size=900,800", "--dump-dom", f"file://{tmp_path / 'page.html'}"]
    dom = subprocess.run(call, capture_output=True, text=True, check=True, timeout=60).stdout
    wide, picture = map(int, re.search(r"<title>(\d+) (\d+)</title>", dom).groups())  # type: ignore[union-attr]
    assert wide <= 900
    assert picture == grid.width
    assert "A &lt;grid&gt;" in dom


@pytest.fixture(scope="module")
def result() -> split.SplitResult:
    with pp.PPlus(pp.load("pocket", device="cpu")) as pplus:
        return split.measure(pplus, AttributeJudge.load(), seeds=4)


def test_coarse_layers_decide_the_object_and_the_others_its_colour(result: split.SplitResult) -> None:
    """Far above chance, a 65th and a tenth; the interval of the leak lies below the colour's."""
    assert result.object.low > 0.5
    assert result.colour.low > 0.5
    assert result.leak.high < result.colour.low


def test_the_split_reaches_the_objects_bar(result: split.SplitResult) -> None:
    assert result.object.value >= 0.80


def test_the_split_reaches_the_colours_bars(result: split.SplitResult) -> None:
    assert result.colour.value >= 0.90
    assert result.leak.value <= 0.05
