"""Studies on the pocket, at tiny sizes: every figure, table and number has its place."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import promptplus as pp
from promptplus.experiments import attention, attributes
from promptplus.experiments import token_density as tokens
from promptplus.experiments.attention import LabelledPrompt
from promptplus.experiments.split import measure_split
from promptplus.experiments.takeover import judges_for
from promptplus.reproduce import claims
from tests.cli.test_cli import run
from tests.conftest import make_concept
from tests.pages import figures

WORDS = {"colour": ("red", "blue"), "object": ("house", "car"), "style": ("sketch", "neon")}


@pytest.mark.slow
def test_attributes(pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "SHOWN", 1)
    plan = attributes.AttributeStudySettings(WORDS, judges_for(pplus.pipe, None, WORDS), pairs=2)
    study = attributes.study(pplus, plan, progress=False, steps=2, guidance=3.0)
    page = study.write(tmp_path)
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    judges = ["judge: classifier", "judge: clip"]
    assert {title: [caption for caption, _ in pairs] for title, pairs in figures(html).items()} == {
        "From coarse to fine": judges,
        "Pictures": [""],
        "Layers or steps?": judges,
        "Each layer and each block alone": judges,
        "Groups of layers in parts of the denoising": sorted(3 * judges),
    }
    values = json.loads((tmp_path / "attributes.json").read_text())["values"]
    assert list(values["by_judge"]) == ["classifier", "clip"]
    alone = [*pplus.layers.names, *(f"block {name}" for name in pplus.layers.blocks)]
    for own in values["by_judge"].values():
        assert set(own["subsets"]) == set(WORDS)
        assert all(len(own["subsets"][name]["relative"]) == 8 for name in WORDS)
        assert set(own["halfway"]) == {*WORDS, "object < style", "style < colour", "object < colour"}
        assert list(own["alone"]["object"]) == alone
        assert own["alone"]["object"]["block mid"] == own["alone"]["object"]["mid.0"]
        assert own["split"]["pictures"] == len(WORDS["object"])
        assert set(own["windows"]["style"]) == {"coarse", "medium", "fine"}
    with (tmp_path / "attributes-single.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["only"] for row in rows] == alone
    clip = values["by_judge"]["clip"]["alone"]["colour"]
    assert float(rows[3]["colour, clip"]) == clip[pplus.layers.names[3]]
    assert "judge clip: " in claims.layers(study)[0].measured


@pytest.mark.slow
def test_a_judge_alone_says_the_same(pplus: pp.PPlus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another judge beside it changes no answer, and no picture is made for it."""
    monkeypatch.setattr(attributes, "SHOWN", 1)
    made = 0

    def told(judge: str) -> dict[str, Any]:
        plan = attributes.AttributeStudySettings(
            WORDS, judges_for(pplus.pipe, judge, WORDS), pairs=2, parts=("subsets", "split")
        )
        return dict(attributes.study(pplus, plan, progress=False, steps=1, guidance=1.0).values["by_judge"])

    def count(*_: Any) -> None:
        nonlocal made
        made += 1

    decode = type(pplus.pipe.vae).decode
    monkeypatch.setattr(type(pplus.pipe.vae), "decode", lambda *a, **k: (count(), decode(*a, **k))[1])
    both = told("both")
    calls, made = made, 0
    assert {**told("classifier"), **told("clip")} == both
    assert calls
    assert made == 2 * calls


def test_the_split_is_counted(pplus: pp.PPlus) -> None:
    """Judges that see the same in everything: shares are how often that is asked for."""

    def always(images: Any) -> dict[str, list[str]]:
        return {"object": ["car"] * len(images), "colour": ["blue"] * len(images)}

    def leaking(images: Any) -> dict[str, list[str]]:
        return {"object": ["car"] * len(images), "colour": ["red"] * len(images)}

    calls = iter(range(2))

    def split_alone(images: Any) -> dict[str, list[str]]:
        return always(images) if next(calls) == 0 else leaking(images)

    judges = {"always": always, "leaking": leaking, "split alone": split_alone}
    found = measure_split(pplus, judges, ("car", "house"), ("red", "blue", "green"), 2, steps=1)
    one = found["always"]
    assert (one.pictures, one.object.value, one.colour.value, one.both.value, one.leak.value) == (4, 0.5, 0.5, 0.25, 0)
    assert (one.one_object.value, one.one_colour.value) == (0.5, 0.5)
    assert (found["leaking"].colour.value, found["leaking"].leak.value) == (0, 1)
    apart = found["split alone"]
    assert (apart.colour.value, apart.leak.value, apart.one_colour.value) == (0.5, 0, 0), "which pictures are which"


def test_attention(pplus: pp.PPlus, tmp_path: Path) -> None:
    prompts = [
        LabelledPrompt("a red house", "house", ("red",)),
        LabelledPrompt("a blue car, neon", "car", ("blue", "neon")),
    ]
    study = attention.study(pplus, prompts, [0], steps=2, guidance=3.0)
    assert list(figures(study.write(tmp_path).read_text())) == ["Of all tokens", "Of the words alone", "Maps"]
    values = json.loads((tmp_path / "attention.json").read_text())["values"]
    for share in (values["of_all"], values["of_words"]):
        assert [sum(column) for column in zip(*share.values(), strict=True)] == pytest.approx([1] * 16, abs=1e-3)


def test_density(pplus: pp.PPlus, tmp_path: Path) -> None:
    concepts = [make_concept(pplus, token, seed) for seed, token in enumerate(("<a>", "<b>"))]
    study = tokens.study(pplus, {"TI": concepts[:1], "XTI": concepts[1:]})
    html = study.write(tmp_path).read_text()
    assert list(figures(html)) == ["Log density"]
    assert "Nearest words of &lt;b&gt;" in html
    values = json.loads((tmp_path / "density.json").read_text())["values"]
    assert list(values["nearest"]) == ["<a>, TI", "<b>, XTI"]
    assert (tmp_path / "density-log-density.csv").read_text().startswith(",rows,median,")


@pytest.mark.slow
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
        told = json.loads(printed)
        assert name != "attributes" or list(told["halfway"]) == ["classifier", "clip"]
        assert Path(told["page"]).read_text().startswith("<!doctype html>")
    code, _, said = run("analyze", "attributes", "--objects", "house", "--out", str(tmp_path / "x"), capsys=capsys)
    assert code == 2
    assert "object: two words or more" in said
