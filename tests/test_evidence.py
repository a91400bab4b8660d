"""Studies on the pocket, at tiny sizes: every figure, table and number has its place."""

import csv
import json
from pathlib import Path

import pytest

import promptplus as pp
from promptplus.analysis.attention import AskedPrompt
from promptplus.analysis.attributes import by_classifier
from promptplus.evaluation.judges import AttributeJudge
from promptplus.evidence import attention, attributes, tokens
from promptplus.evidence.study import to_csv, to_markdown
from tests.conftest import make_concept
from tests.test_cli import run

WORDS = {"colour": ("red", "blue"), "object": ("house", "car"), "style": ("sketch", "neon")}


@pytest.fixture
def judge() -> AttributeJudge:
    return AttributeJudge.load()


def test_attributes(pplus: pp.PPlus, judge: AttributeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "SHOWN", 1)
    plan = attributes.Plan(WORDS, by_classifier(judge), pairs=2)
    study = attributes.study(pplus, plan, progress=False, steps=2, guidance=3.0)
    page = study.write(tmp_path)
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    assert html.count("<img") == 1 + 1 + 1 + 1 + 3
    values = json.loads((tmp_path / "attributes.json").read_text())["values"]
    assert set(values["subsets"]) == set(WORDS)
    assert all(len(values["subsets"][name]["relative"]) == 8 for name in WORDS)
    assert set(values["halfway"]) == {*WORDS, "object < style", "style < colour", "object < colour"}
    assert list(values["single_layers"]["object"]) == list(pplus.layers.names)
    with (tmp_path / "attributes-single.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == list(pplus.layers.names)
    assert float(rows[3]["colour"]) == values["single_layers"]["colour"][pplus.layers.names[3]]


def test_attention(pplus: pp.PPlus, tmp_path: Path) -> None:
    prompts = [AskedPrompt("a red house", "house", ("red",)), AskedPrompt("a blue car, neon", "car", ("blue", "neon"))]
    study = attention.study(pplus, prompts, [0], steps=2, guidance=3.0)
    assert study.write(tmp_path).read_text().count("<img") == 3
    values = json.loads((tmp_path / "attention.json").read_text())["values"]
    for share in (values["of_all"], values["of_words"]):
        assert [sum(column) for column in zip(*share.values(), strict=True)] == pytest.approx([1] * 16, abs=1e-3)


def test_density(pplus: pp.PPlus, tmp_path: Path) -> None:
    concepts = [make_concept(pplus, token, seed) for seed, token in enumerate(("<a>", "<b>"))]
    study = tokens.study(pplus, {"TI": concepts[:1], "XTI": concepts[1:]})
    html = study.write(tmp_path).read_text()
    assert html.count("<img") == 1
    assert "Nearest words of &lt;b&gt;" in html
    values = json.loads((tmp_path / "density.json").read_text())["values"]
    assert list(values["nearest"]) == ["<a>, TI", "<b>, XTI"]
    assert (tmp_path / "density-log-density.csv").read_text().startswith(",rows,median,")


def test_tables() -> None:
    table = {"a": [1, 2], "b": ["x", "y,z"]}
    assert to_csv(table) == 'a,b\n1,x\n2,"y,z"\n'
    assert to_markdown(table) == "| a | b |\n|---|---|\n| 1 | x |\n| 2 | y,z |"


def test_the_command_line_writes_each_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pplus: pp.PPlus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes, "SHOWN", 1)
    few = ("--colours", "red,blue", "--objects", "house, car", "--styles", "sketch,neon", "--steps", "1", "--json")
    files = [str(make_concept(pplus, f"<{n}>", i).save(tmp_path / f"{n}.safetensors")) for i, n in enumerate("ab")]
    calls = {
        "attributes": ("--pairs", "2", *few),
        "attention": ("--prompts", "2", "--seeds", "1", *few),
        "density": (*files, "--json"),
    }
    for name, words in calls.items():
        code, printed, _ = run("analyze", name, *words, "--out", str(tmp_path / name), "--device", "cpu", capsys=capsys)
        assert code == 0
        assert Path(json.loads(printed)["page"]).read_text().startswith("<!doctype html>")
    code, _, said = run("analyze", "attributes", "--objects", "house", "--out", str(tmp_path / "x"), capsys=capsys)
    assert code == 2
    assert "object: two words or more" in said
