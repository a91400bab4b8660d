"""Experiment grid: results are made once, survive kills, and depend on all that their ids hash."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import CLIPTokenizer

import promptplus as pp
from promptplus.datasets import load_pictures
from promptplus.errors import LossError, SettingsError
from promptplus.evaluation import training_cache as tasks
from promptplus.evaluation.grid import ExperimentGrid, GridResult
from promptplus.evaluation.scoring import Scorer
from promptplus.evaluation.training_cache import WORD, MethodSpec, Task
from promptplus.experiments.methods import CELL, gallery
from promptplus.generation import generate
from promptplus.pictures import read_picture
from promptplus.pocket import CONCEPTS, PIPELINE
from promptplus.profiles import POCKET_HARD, POCKET_PROMPTS, REAL_PROMPTS
from promptplus.training.checkpoint import locked
from tests.cli.test_cli import run
from tests.pages import figures

CONCEPT = CONCEPTS / "robot"
XTI = MethodSpec("xti", {"batch_size": 1}, steps=(1, 2))


@pytest.fixture
def scorer(random_scorer: Scorer) -> Scorer:
    return random_scorer


@pytest.fixture(autouse=True)
def two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptplus.profiles.STEPS", 2)


@pytest.fixture
def grid(pplus: pp.PPlus, scorer: Scorer, tmp_path: Path) -> ExperimentGrid:
    return ExperimentGrid(pplus, "pocket", scorer, tmp_path)


def files(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in (folder / "results").glob("*.json")}


def test_a_task_is_scored_at_each_step_count(grid: ExperimentGrid, tmp_path: Path) -> None:
    first, second = grid.run([Task(CONCEPT, XTI, 0)], progress=False)
    assert (first.concept, first.method, first.seed, first.steps, second.steps) == ("robot", "xti", 0, 1, 2)
    assert first.subject != second.subject
    assert second.seconds > first.seconds > 0
    assert set(first.by_prompt) == {"a photo of a {}", "a red {}"}
    assert sum(subject for subject, _ in first.by_prompt.values()) / 2 == pytest.approx(first.subject)
    assert not grid.pplus.concepts
    assert not list((tmp_path / "runs").glob("*/training"))
    assert [read_picture(p).size for p in (tmp_path / "results").glob("*.png")] == [(130, 64), (130, 64)]


def test_a_gallery_has_a_row_for_each_method(grid: ExperimentGrid) -> None:
    gallery_tasks = [Task(CONCEPT, MethodSpec(name, {}, (0,)), seed) for name in (WORD, "other") for seed in (1, 0)]
    grid.run(gallery_tasks[:2], progress=False)
    real, (first, _) = load_pictures(CONCEPT)[0], grid.pictures(gallery_tasks[0], 0)
    assert first.size == (64, 64)
    assert grid.pictures(gallery_tasks[2], 0) == []
    shown = gallery(grid, gallery_tasks)
    assert shown is not None
    columns = [real.convert("RGB").resize((CELL, CELL)), first.resize((CELL, CELL))]
    assert shown.height < 2 * CELL, "one method alone has pictures"
    corner = [(shown.width - (2 - i) * CELL - (1 - i) * 6, shown.height - CELL) for i in range(2)]
    for picture, (x, y) in zip(columns, corner, strict=True):
        cut = shown.crop((x, y, x + CELL, y + CELL))
        assert abs(np.asarray(cut, float) - np.asarray(picture, float)).mean() < 12
    assert gallery(grid, gallery_tasks[2:]) is None


def test_what_exists_is_not_done_again(grid: ExperimentGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(CONCEPT, XTI, 0)
    before = grid.run([task], progress=False)
    written = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "run_inversion", lambda *_, **__: pytest.fail("it was trained again"))
        renamed = Task(CONCEPT, MethodSpec("another name", XTI.options, XTI.steps), 0)
        again = grid.run([task, renamed], progress=False)
    assert again[:2] == before
    assert [r.method for r in again[2:]] == ["another name"] * 2
    assert files(tmp_path) == written
    spelled_out = MethodSpec("xti", {**XTI.options, "method": "xti", "flip": True}, XTI.steps)
    assert grid.find(Task(CONCEPT, spelled_out, 0)) == grid.find(task), "a default is the same, given or not"
    for other in (
        Task(CONCEPT, XTI, 1),
        Task(CONCEPTS / "teapot", XTI, 0),
        Task(CONCEPT, MethodSpec("xti", {}, (1,)), 0),
    ):
        assert grid.find(other)[0] is None


@pytest.mark.slow
def test_a_death_loses_no_result(grid: ExperimentGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, straight = Task(CONCEPT, XTI, 0), grid.run([Task(CONCEPT, XTI, 0)], progress=False)
    for path in [*files(tmp_path), *(tmp_path / "learned").iterdir()]:
        path.unlink()
    score, calls = grid.scorer.score_model, iter(range(10))

    def dies(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return score(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(grid.scorer, "score_model", dies)
        with pytest.raises(KeyboardInterrupt):
            grid.run([task], progress=False)
    assert not grid.pplus.concepts
    assert [bool(result) for result in grid.find(task)] == [True, False]
    written = files(tmp_path)
    resumed = grid.run([task], progress=False)
    assert [(r.subject, r.text) for r in resumed] == [(r.subject, r.text) for r in straight]
    assert written.items() <= files(tmp_path).items()


def test_other_prompts_cost_no_training(grid: ExperimentGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, scorer = Task(CONCEPT, XTI, 0), grid.scorer
    grid.run([task], progress=False)
    other = ExperimentGrid(
        grid.pplus, "pocket", Scorer(scorer.clip, scorer.dino, ("a {} at night",), per_prompt=2), tmp_path
    )
    assert other.find(task) == [None, None]
    monkeypatch.setattr(tasks, "run_inversion", lambda *_, **__: pytest.fail("it was trained again"))
    assert [set(result.by_prompt) for result in other.run([task], progress=False)] == [{"a {} at night"}] * 2


def test_what_is_packed_is_not_done_again(
    grid: ExperimentGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither results nor concepts: other prompts cost no training either."""
    task, scorer = Task(CONCEPT, XTI, 0), grid.scorer
    before, rows = grid.run([task], progress=False), grid.concept(task, 2).rows
    grid.pack()
    assert not list((tmp_path / "results").glob("*.json"))
    assert not list((tmp_path / "learned").glob("*.safetensors"))
    monkeypatch.setattr(tasks, "run_inversion", lambda *_, **__: pytest.fail("it was trained again"))
    assert grid.find(task) == grid.run([task], progress=False) == before
    assert grid.concept(task, 2).rows.equal(rows)
    other = ExperimentGrid(grid.pplus, "pocket", Scorer(scorer.clip, scorer.dino, ("a {} at night",), 2), tmp_path)
    assert [result.seconds for result in other.run([task], progress=False)] == [one.seconds for one in before]
    other.pack()
    assert grid.find(task) == before
    assert len(other.results.ids()) == 4


def test_a_run_that_was_stopped_is_in_no_other_lists_way(grid: ExperimentGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer run that was stopped later must not be what a shorter one continues from."""
    longer, shorter = (Task(CONCEPT, MethodSpec("xti", XTI.options, steps), 0) for steps in ((3,), (1, 2)))
    assert grid.cache.run_folder(longer) != grid.cache.run_folder(shorter)
    with monkeypatch.context() as patch:
        patch.setattr(grid.cache, "forget_run", lambda _: None)
        grid.run([longer], progress=False)
    assert [result.steps for result in grid.run([shorter], progress=False)] == [1, 2]


def test_a_failed_training_is_left_out(grid: ExperimentGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = (
        Task(CONCEPT, MethodSpec("xti", {"batch_size": 1}, (1,)), 5),
        Task(CONCEPT, MethodSpec(WORD, steps=(0,)), 0),
    )

    def fails(*_: Any, **__: Any) -> Any:
        raise LossError("the loss is no number")

    monkeypatch.setattr(tasks, "run_inversion", fails)
    with pytest.warns(UserWarning, match=r"left out: robot, xti, seed 5: the loss is no number"):
        (result,) = grid.run([bad, good], progress=False)
    assert result.method == WORD
    assert grid.failed == [bad]


def test_a_falling_rate_has_one_end() -> None:
    with pytest.raises(SettingsError, match="one step count"):
        MethodSpec("fast", {"schedule": "cosine"}, (50, 100))


def test_what_has_no_name_is_not_called_by_another_things(scorer: Scorer) -> None:
    unnamed = Scorer(scorer.clip, scorer.dino, scorer.prompts, per_prompt=1, reference_noun="object")
    pictures = load_pictures(CONCEPT)[:2]
    real = scorer.dino.embed(pictures)
    assert unnamed.score_pictures(pictures, "car", real) == scorer.score_pictures(pictures, "object", real)
    assert unnamed.score_pictures(pictures, "car", real) != scorer.score_pictures(pictures, "car", real)


@pytest.mark.slow
def test_two_processes_share_the_tasks(grid: ExperimentGrid, tmp_path: Path) -> None:
    mine, theirs = Task(CONCEPT, XTI, 0), Task(CONCEPT, XTI, 1)
    with locked(grid.cache.run_folder(theirs)):
        assert {r.seed for r in grid.run([theirs, mine], progress=False)} == {0}
    assert {r.seed for r in grid.run([theirs, mine], progress=False)} == {0, 1}


def test_the_word_learns_nothing(grid: ExperimentGrid, scorer: Scorer) -> None:
    (result,) = grid.run([Task(CONCEPT, MethodSpec(WORD, steps=(0,)), 3)], progress=False)
    word = json.loads((CONCEPT / "concept.json").read_text())["class_word"]
    texts = [prompt.format(word) for prompt in scorer.prompts]
    pictures = generate(grid.pplus, texts, [3000, 3001])
    real = load_pictures(CONCEPT)
    expected = scorer.score_pictures(pictures, word, scorer.dino.embed(real))
    assert (result.subject, result.text, result.seconds) == (expected.subject, expected.text, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dreambooth", "dreambooth-lora"])
def test_denoisers_are_scored_too(grid: ExperimentGrid, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    options = {"method": method, "class_pictures": str(CONCEPTS / "teapot"), "learning_rate": 1e-3}
    results: list[GridResult] = grid.run([Task(CONCEPT, MethodSpec(method, options, (1, 2)), 0)], progress=False)
    assert [r.steps for r in results] == [1, 2]
    assert results[0].subject != results[1].subject
    if method == "dreambooth-lora":  # small enough to be kept: other questions cost no training
        monkeypatch.setattr(tasks, "dreambooth", lambda *_, **__: pytest.fail("it was trained again"))
        scorer = Scorer(grid.scorer.clip, grid.scorer.dino, ["a photo of a {}"], grid.scorer.per_prompt)
        other = ExperimentGrid(grid.pplus, "pocket", scorer, grid.folder)
        again = other.run([Task(CONCEPT, MethodSpec(method, options, (1, 2)), 0)], progress=False)
        expected = [r.by_prompt["a photo of a {}"][0] for r in results]
        assert [r.subject for r in again] == pytest.approx(expected, abs=1e-5)
        assert [r.seconds for r in again] == [r.seconds for r in results]


@pytest.mark.slow
def test_evaluate_compares_methods_and_scores_pictures(
    scorer: Scorer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scorer, "for_model", lambda *_: scorer)
    for name in ("robot", "teapot"):
        shutil.copytree(CONCEPTS / name, tmp_path / "concepts" / name)
    out = tmp_path / "out"
    call = ("evaluate", str(tmp_path / "concepts"), "--method", "word", "--method", "xti@1,2", "--device", "cpu")
    call += ("--baseline", "xti@2", "--out", str(out), "--json")
    code, _, stderr = run(*call, "--shard", "0/2", capsys=capsys)
    assert code == 0
    assert "2 of 4 tasks are left" in stderr
    code, printed, _ = run(*call, capsys=capsys)
    assert code == 0
    rows = json.loads(printed)["methods"]
    assert [(row["method"], row["steps"], row["concepts × seeds"]) for row in rows] == [
        ("word", 0, "2 × 1"),
        ("xti", 1, "2 × 1"),
        ("xti", 2, "2 × 1"),
    ]
    assert [bool(row["subject gain"]) for row in rows] == [True, True, False]
    shown = figures((out / "methods.html").read_text())
    assert {title: len(pairs) for title, pairs in shown.items()} == {"Trade-off": 1, "Pictures": 1, "Convergence": 2}
    score = ("evaluate", "--images", str(CONCEPTS / "robot"), "--concept", str(CONCEPTS / "robot"), "--json")
    code, printed, _ = run(*score, capsys=capsys)
    values = json.loads(printed)
    assert (code, values["pictures"], values["text"]) == (0, 5, None)
    assert 0.9 < values["subject"] <= 1.0001


def test_prompts() -> None:
    assert len(REAL_PROMPTS) == 15
    assert len(POCKET_PROMPTS) >= 15
    assert 3 * len(POCKET_HARD) >= len(POCKET_PROMPTS)
    assert len(set(POCKET_PROMPTS)) == len(POCKET_PROMPTS)
    assert all(prompt.count("{}") == 1 for prompt in (*REAL_PROMPTS, *POCKET_PROMPTS))
    tokenizer = CLIPTokenizer.from_pretrained(PIPELINE / "tokenizer")
    words = {word for prompt in POCKET_PROMPTS for word in prompt.format("").replace(",", "").split()}
    split = [word for word in words if len(tokenizer(word, add_special_tokens=False).input_ids) != 1]
    assert not split
