"""The commands of the user study, from folders to the report, and their mistakes."""

import csv
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from promptplus.cli import app
from promptplus.cli.study import _question
from promptplus.errors import SettingsError
from promptplus.user_study.design import VOTES, read_design
from promptplus.user_study.votes import VoteStore
from tests.cli.test_cli import run
from tests.user_study.studies import picture


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """The options that name two methods' pictures and the real ones."""
    for method in ("xti", "ti", "real"):
        for concept in ("cat", "mug"):
            folder = tmp_path / method / concept
            folder.mkdir(parents=True)
            for name in ("0.png", "1.png"):
                picture(method, concept, name).save(folder / name)
            if method != "real":
                (folder / "prompts.json").write_text('{"0.png": "a <cat> here", "1.png": "a red <cat>"}')
    methods = [word for name in ("xti", "ti") for word in ("--method", f"{name}={tmp_path / name}")]
    return [*methods, "--real", str(tmp_path / "real")]


def build(folders: list[str], out: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    return run("study", "build", *folders, "--out", str(out), *more, capsys=capsys)


def test_build_export_and_report_go_together(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    code, printed, _ = build(folders, out, "--participants", "1", "--word", "toy", "--json", capsys=capsys)
    values = json.loads(printed)
    assert code == 0
    assert (values["pairs"], values["concepts"], values["answers_each"]) == (4, 2, 14)
    assert values["power"]["needed"] == 210
    design = read_design(out)
    assert {pair.prompt for pair in design.pairs if not pair.everyone} == {"a toy here", "a red toy"}
    assert run("study", "report", str(out), capsys=capsys)[0] == 2  # nobody has voted
    store = VoteStore(out / VOTES, design)
    participant, _ = store.join()
    while step := store.progress(participant).next:
        store.vote(participant, step, "A")
    store.close()
    code, printed, _ = run("study", "export", str(out), "--out", str(tmp_path / "v.csv"), "--json", capsys=capsys)
    assert (code, json.loads(printed)["votes"]) == (0, 14)
    rows = list(csv.DictReader((tmp_path / "v.csv").read_text().splitlines()))
    assert list(rows[0]) == ["participant", "pair", "question", "answer"]
    code, printed, _ = run("study", "report", str(out), "--json", capsys=capsys)
    values = json.loads(printed)
    assert (code, values["finished"], values["votes"]) == (0, 1, 14)
    assert values["left_out"] == 1  # three of six catch trials were B
    assert Path(values["page"]) == out / "report" / "people.html"


def test_the_power_is_said_in_words(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = build(folders, tmp_path / "study", capsys=capsys)[1]
    assert "210 independent votes decide a 60 : 40 preference" in printed
    assert "with fewer than 6 concepts (2)" in printed
    assert "catch.png" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name two or more methods"),
        (["--method", "a"], "names no folder; write NAME=FOLDER"),
        (["--method", "a=x", "--method", "a=y"], "is there twice"),
        (["--method", "a=missing", "--method", "b=missing"], "missing holds no folders"),
        (["--evaluation", "missing"], "holds no results of promptplus evaluate"),
        (["--question", "nothing"], "is no question; give subject or text, or NAME=WORDING"),
        (["--question", "Bad Name=x?"], "is no name of a question"),
        (["--consent", "missing.txt"], "cannot read missing.txt"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = run("study", "build", *words, capsys=capsys)
    assert (code, message in said) == (2, True), said
    assert not any(tmp_path.iterdir())


def test_a_question_of_ones_own_shows_what_there_is() -> None:
    own = _question("nicer=Which is nicer?", has_real=True)
    assert (own.name, own.text, own.real, own.prompt) == ("nicer", "Which is nicer?", True, True)
    assert not _question("nicer=Which is nicer?", has_real=False).real
    reworded = _question("text=Which one fits?", has_real=True)
    assert (reworded.text, reworded.real, reworded.prompt) == ("Which one fits?", False, True)
    with pytest.raises(SettingsError, match="NAME=WORDING"):
        _question("nicer=", has_real=True)


def test_serving_needs_a_study_and_fastapi(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, said = run("study", "serve", str(tmp_path), capsys=capsys)
    assert (code, "study.json" in said) == (2, True)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in ("server", "forms"):
        monkeypatch.delitem(sys.modules, f"promptplus.user_study.{name}", raising=False)
    import promptplus.user_study

    monkeypatch.delattr(promptplus.user_study, "server", raising=False)
    code, _, said = run("study", "serve", str(tmp_path), capsys=capsys)
    assert (code, "pip install 'promptplus[study]'" in said) == (2, True)


def test_the_pages_commands_have_these_options() -> None:
    """Every command in docs/study.md."""
    page = (Path(__file__).parents[2] / "docs" / "study.md").read_text("utf-8")
    lines = re.findall(r"^promptplus .*$|(?<=`)promptplus study [a-z]+ [^`]*(?=`)", page, re.MULTILINE)
    assert len(lines) > 6
    for line in lines:
        command: Any = typer.main.get_command(app)
        words = shlex.split(line)[1:]
        while words and hasattr(command, "get_command") and (inner := command.get_command(None, words[0])):
            command, words = inner, words[1:]
        known = {name for parameter in command.params for name in parameter.opts}
        assert not [word for word in words if word.startswith("--") and word not in known], line


def test_reproduce_refuses_a_folder_without_a_report_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("reproduce", "--quick", "--people", str(tmp_path), "--out", str(tmp_path / "out"))
    code, _, said = run(*words, capsys=capsys)
    assert (code, "holds no report of a user study" in said) == (2, True)
    assert not any(tmp_path.iterdir())
