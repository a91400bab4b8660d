"""Studies on the pocket, at tiny sizes: every figure, table and number has its place."""

import csv
import json
from pathlib import Path

import pytest

import promptplus as pp
from promptplus.analysis.attributes import by_classifier
from promptplus.evaluation.judges import AttributeJudge
from promptplus.evidence import attributes
from promptplus.evidence.study import to_csv, to_markdown

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
    values = json.loads((tmp_path / "attributes.json").read_text())
    assert set(values["subsets"]) == set(WORDS)
    assert all(len(values["subsets"][name]["relative"]) == 8 for name in WORDS)
    assert set(values["halfway"]) == {*WORDS, "object < style", "style < colour", "object < colour"}
    assert list(values["single_layers"]["object"]) == list(pplus.layers.names)
    with (tmp_path / "attributes-single.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == list(pplus.layers.names)
    assert float(rows[3]["colour"]) == values["single_layers"]["colour"][pplus.layers.names[3]]


def test_tables() -> None:
    table = {"a": [1, 2], "b": ["x", "y,z"]}
    assert to_csv(table) == 'a,b\n1,x\n2,"y,z"\n'
    assert to_markdown(table) == "| a | b |\n|---|---|\n| 1 | x |\n| 2 | y,z |"
