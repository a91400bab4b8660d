"""The study of strength: what is asked, what is counted, and where a curve turns."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.evaluation.judges import DinoJudge
from promptplus.experiments import strength
from promptplus.experiments.strength import StrengthCase, StrengthStudySettings, cases_for, judged, likeness, measure
from promptplus.experiments.strength_curves import breaks, curve_of, halfway, useful
from promptplus.experiments.takeover import PromptPair
from promptplus.generation import generate
from tests.cli.test_cli import run
from tests.pages import figures

PAIR = PromptPair({"colour": "red", "object": "house"}, {"colour": "blue", "object": "car"})
WORDS = {"colour": ("red", "blue"), "object": ("house", "car")}
FORM = "a {colour} {object}"
STRENGTHS = (-1.0, 0.0, 1.0, 2.0)


def repeated(*means: float, pairs: int = 20) -> np.ndarray:
    """Scores of 0 and 1 with these means at the strengths."""
    return np.array([[float(pair < round(mean * pairs)) for mean in means] for pair in range(pairs)])


def settings(classify: Any, dino: Any = None, **changes: Any) -> StrengthStudySettings:
    return StrengthStudySettings(WORDS, classify, dino, pairs=2, strengths=STRENGTHS, form=FORM, **changes)


def test_the_outer_band_has_the_colour_and_the_others_the_object(pplus: pp.PPlus) -> None:
    assert [str(case) for case in cases_for(pplus.layers)] == [
        "colour, fine layers",
        "object, coarse,medium layers",
        "object, coarse layers",
    ]


def test_a_part_differs_in_one_word(pplus: pp.PPlus) -> None:
    case = StrengthCase("object", "coarse")
    assert str(case.prompt(PAIR, FORM, -0.5)) == "a red house || coarse*-0.5: a red car"
    assert case.prompt(PAIR, FORM, 1).texts(pplus.layers)[4] == "a red car"
    assert str(case.prompt(PAIR, FORM, None)) == "a red car"


def test_pictures_at_0_and_1_are_those_of_the_texts(pplus: pp.PPlus) -> None:
    """Whatever a strength does in between: the ends are ordinary prompts, bit for bit."""

    class NoDino:
        def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
            return torch.nn.functional.normalize(torch.ones(len(images), 2), dim=-1)

    def classify(images: Sequence[Image.Image]) -> dict[str, list[str]]:
        return {"colour": ["blue"] * len(images), "object": ["house"] * len(images)}

    case = StrengthCase("colour", "fine")
    found = measure(pplus, case, [PAIR] * 2, settings(classify, NoDino()), steps=2)
    for column, text in ((1, "a red house"), (2, "a red house || fine: a blue house")):
        (ordinary,) = generate(pplus, [text, text], [0, 0], steps=2)[:1]
        assert found.shown[column].tobytes() == ordinary.tobytes()
    assert found.measures["both"].tolist() == [[1] * 5] * 2
    assert found.at_strengths("default").tolist() == [[0] * 4] * 2


def test_pictures_are_counted() -> None:
    seen = {"colour": ["blue", "red", "green", "blue"], "object": ["house", "house", "house", "car"]}
    half = Image.new("RGB", (2, 2), (10, 10, 10))
    half.putpixel((0, 0), (255, 9, 9))
    half.putpixel((1, 1), (9, 0, 9))
    found = judged([half] * 4, [PAIR] * 4, "colour", settings(lambda _: seen))
    assert {name: values.tolist() for name, values in found.items()} == {
        "part": [1, 0, 0, 1],
        "default": [0, 1, 0, 0],
        "neither": [0, 0, 1, 0],
        "kept": [1, 1, 1, 0],
        "both": [1, 0, 0, 0],
        "clipped": [0.5] * 4,
    }


def test_a_picture_is_not_like_its_own_pair() -> None:
    """Two pairs in two directions: each picture is compared with the other pair's ordinary pictures only."""
    a, b = torch.eye(2)
    between = torch.nn.functional.normalize(a + b, dim=0)
    ordinary = torch.stack([a, b])
    found = likeness([ordinary, torch.stack([between, a])], [ordinary], (2, 1))
    assert found == pytest.approx(np.array([[0, 0.5**0.5], [0, 1]]))
    seeds = likeness([torch.stack([b, a, a, a])], [torch.stack([a, a, b, b])], (2, 2))
    assert seeds.tolist() == [[0.5], [1]]


def test_halfway_is_between_two_strengths() -> None:
    found = halfway(repeated(1, 0, 0.25, 0.75, pairs=40), STRENGTHS)
    assert found is not None
    assert found.value == pytest.approx(1.5), "what is below 0 does not count"
    assert found.low < 1.5 < found.high
    assert halfway(repeated(1, 0, 0.25, 0.3), STRENGTHS) is None


def test_useful_strengths_are_those_around_the_best() -> None:
    assert useful(repeated(0, 0, 1, 0), STRENGTHS) == (1, 1, 1)
    assert useful(repeated(0.9, 0, 0.9, 0.85), STRENGTHS) == (-1, -1, -1), "no gap in between"
    assert useful(repeated(0, 0, 0.9, 0.85), STRENGTHS) == (1, 1, 2)


def test_what_breaks_first() -> None:
    assert breaks(repeated(0.5, 1, 0.95, 0.5), STRENGTHS) == {"below 0": -1, "above 0": 2}
    assert breaks(repeated(1, 1, 1, 1), STRENGTHS) == {"below 0": None, "above 0": None}


def test_a_curve_has_its_interval() -> None:
    curve = curve_of(repeated(0.5, 1))
    assert curve.values == [0.5, 1]
    assert curve.low is not None
    assert curve.high is not None
    assert curve.low[0] < 0.5 < curve.high[0]
    assert (curve.low[1], curve.high[1]) == (1, 1)


def test_0_and_1_are_always_measured() -> None:
    plan = settings(lambda _: {}).with_strengths([3, -1])
    assert plan.strengths == (-1, 0, 1, 3)


def test_the_study_on_the_pocket(pplus: pp.PPlus, tmp_path: Path) -> None:
    words = {**WORDS, "style": ("sketch", "neon")}
    plan = StrengthStudySettings.of(pplus.pipe, words)
    assert plan.form == strength.SCENE_FORM
    assert "sunset" in plan.words["background"]
    with pytest.raises(pp.PromptPlusError, match="does not know the colour 'beige'"):
        StrengthStudySettings.of(pplus.pipe, {**words, "colour": ("red", "beige")})
    few = settings(plan.classify, DinoJudge.load()).with_strengths([])
    page = strength.study(pplus, few, progress=False, steps=1).write(tmp_path)
    assert list(figures(page.read_text())) == ["By strength", "Pictures"]
    values = json.loads((tmp_path / "strength.json").read_text())["values"]
    assert set(values["found"]["colour, fine layers"]) == {"half", "best", "useful", "breaks"}
    with (tmp_path / "strength-shares.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["strength"] for row in rows] == 3 * ["0", "1", "one text"]
    assert all(0 <= float(row["the rest as asked, low"]) <= float(row["the rest as asked"]) <= 1 for row in rows)


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--pairs", "2", "--steps", "1", "--strengths=-1,2", "--device", "cpu", "--judge", "clip", "--json")
    words = ("--colours", "red,blue", "--objects", "house,car", "--styles", "sketch,neon")
    code, printed, _ = run("analyze", "strength", *few, *words, "--out", str(tmp_path / "s"), capsys=capsys)
    assert code == 0
    told = json.loads(printed)
    assert set(told["found"]) == {"colour, fine layers", "object, coarse,medium layers", "object, coarse layers"}
    values = json.loads((tmp_path / "s" / "strength.json").read_text())["values"]
    assert (values["columns"], values["form"]) == (["-1", "0", "1", "2", "one text"], "a {colour} {object}, {style}")
