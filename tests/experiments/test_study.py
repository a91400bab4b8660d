"""Studies on disk: figures are named by meaning, and what is missing is said."""

from pathlib import Path

import pytest
from PIL import Image

from promptplus.experiments.study import Study
from promptplus.report.html import Figure, Section


def picture(value: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (value, 0, 0))


@pytest.fixture
def study() -> Study:
    sections = [
        Section("Trade-off", "Text.", [Figure(picture(1), name="trade-off")]),
        Section("Layers or steps?", "", [Figure(picture(2), "judge: clip", 7), Figure(picture(3), "judge: dino")]),
        Section("Mixes", "", [Figure(picture(4), name="grid"), Figure(picture(5), name="grid")]),
        Section("Numbers", "", table={"a": [1]}),
    ]
    return Study("methods", "Methods", "Lead.", sections, {"x": [0.1]}, {"t": {"a": [1]}}, "some-key")


def test_figures_are_named_by_meaning(study: Study, tmp_path: Path) -> None:
    study.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("methods.json", "methods.html", "methods-t.csv", "methods-trade-off.png"),
        *("methods-layers-or-steps-judge-clip.png", "methods-layers-or-steps-judge-dino.png"),
        *("methods-grid.png", "methods-grid-2.png"),
    }
    read = Study.read(tmp_path, "methods")
    assert read is not None
    assert (read.key, read.values, read.tables) == ("some-key", {"x": [0.1]}, {"t": {"a": [1]}})
    figures = [figure for section in read.sections for figure in section.figures]
    assert [figure.picture.getpixel((0, 0)) for figure in figures] == [(value, 0, 0) for value in (1, 2, 3, 4, 5)]
    assert [figure.width for figure in figures] == [None, 7, None, None, None]
    assert read.write(tmp_path / "again").read_text() == (tmp_path / "methods.html").read_text()


def test_missing_figures_are_left_out_and_said(study: Study, tmp_path: Path) -> None:
    study.write(tmp_path)
    (tmp_path / "methods-trade-off.png").unlink()
    (tmp_path / "methods-grid-2.png").unlink()
    read = Study.read(tmp_path, "methods")
    assert read is not None
    said = "Figures not kept: 1. Remove methods.json to measure and draw them again."
    assert [section.text for section in read.sections] == [f"Text. {said}", "", said, ""]
    assert [len(section.figures) for section in read.sections] == [0, 2, 1, 0]
    assert read.key == study.key


@pytest.mark.parametrize(("former", "name"), [("evaluation", "methods"), ("several", "two-concepts")])
def test_studies_are_found_by_their_former_names(study: Study, tmp_path: Path, former: str, name: str) -> None:
    study.write(tmp_path)
    assert Study.read(tmp_path, "several") is None
    text = (tmp_path / "methods.json").read_text()
    (tmp_path / f"{former}.json").write_text(text)
    (tmp_path / "methods.json").unlink()
    read = Study.read(tmp_path, name)
    assert read is not None
    assert (read.name, read.key) == (name, "some-key")
    assert len(read.sections[1].figures) == 2


def test_a_figure_with_a_palette_comes_back_as_it_was(tmp_path: Path) -> None:
    picture = Image.effect_noise((40, 30), 80).convert("RGB").quantize(12)
    page = Study("x", "X", "", [Section("Pictures", figures=[Figure(picture, name="grid")])], {}).write(tmp_path)
    again = Study.read(tmp_path, "x")
    assert again is not None
    assert again.write(tmp_path / "again").read_text() == page.read_text()
    assert (tmp_path / "again" / "x-grid.png").read_bytes() == (tmp_path / "x-grid.png").read_bytes()
