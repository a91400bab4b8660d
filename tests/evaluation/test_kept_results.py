"""The results in docs/results are found again: ids and keys are the same as when they were measured. Nothing trains."""

import json
import platform
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import promptplus as pp
from benchmarks.methods import QUESTIONS
from promptplus.evaluation import training_cache
from promptplus.evaluation.grid import ExperimentGrid
from promptplus.evaluation.scoring import Scorer
from promptplus.experiments.study import Study
from promptplus.pocket import CONCEPTS
from promptplus.pocket.held_out import DEV, REPORT
from promptplus.reproduce import run
from promptplus.reproduce.plan import FULL
from promptplus.reproduce.run import Reproduction

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "docs" / "results"
pytestmark = pytest.mark.skipif(not RESULTS.is_dir(), reason="a source distribution has no docs/results")


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run_inversion", "dreambooth"):
        monkeypatch.setattr(training_cache, name, lambda *_, **__: pytest.fail("a concept was trained"))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A copy of docs/results, since reading makes folders."""
    return Path(shutil.copytree(RESULTS, tmp_path / "results"))


def grid_of(pplus: pp.PPlus, folder: Path) -> ExperimentGrid:
    return ExperimentGrid(pplus, "pocket", Scorer.for_model(pplus.pipe, per_prompt=FULL.per_prompt), folder)


def test_the_full_plan_finds_all_its_results_and_concepts(pplus: pp.PPlus, kept: Path) -> None:
    grid = grid_of(pplus, kept / "methods")
    tasks = FULL.tasks([CONCEPTS / name for name in REPORT])
    results = grid.run(tasks, progress=False)
    assert len(results) == sum(len(task.method.steps) for task in tasks)
    missing = [str(task) for task in tasks if None in grid.find(task)]
    assert not missing
    ours = [task for task in tasks if task.method.name == FULL.ours[0]]
    assert {grid.concept(task, FULL.ours[1]).token for task in ours} == {task.note.token for task in ours}


def test_the_search_finds_all_its_results(pplus: pp.PPlus, kept: Path) -> None:
    grid = grid_of(pplus, kept / "search")
    methods = QUESTIONS["search"].methods
    size = replace(FULL, methods=methods, tuned_methods=(), few_methods=(), regularised=(), runs=2, few=0)
    ids = {grid.id(task, n) for task in size.tasks([CONCEPTS / name for name in DEV]) for n in task.method.steps}
    assert grid.results.ids() <= ids


def test_reproduce_reads_every_study_again(pplus: pp.PPlus, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the versions that the studies were made with, since versions are part of their keys."""
    record = json.loads((kept / "report.json").read_text())
    made_by = record["made_by"]
    monkeypatch.setattr(platform, "python_version", lambda: made_by["python"])
    monkeypatch.setattr(run, "version", lambda name: made_by[name])
    monkeypatch.setattr(Study, "write", lambda *_: pytest.fail("a study was measured again"))
    said: list[str] = []
    work = Reproduction(
        pplus, "pocket", FULL, [CONCEPTS / name for name in REPORT], kept, said.append, steps=None, guidance=None
    )
    for part in ("attributes", "attention", "methods", "token_density", "two_concepts", "mixing", "single_attribute"):
        monkeypatch.setattr(f"promptplus.experiments.{part}.study", lambda *_, **__: pytest.fail("measured"))
    report = work.run()
    assert not said
    assert [vars(claim) for claim in report.claims] == record["claims"]
    assert report.made_by == made_by


def tracked() -> set[str]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    call = ["git", "ls-files", "-z", "--", "docs/results"]
    return set(
        filter(None, subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"))
    )


def test_only_figures_that_a_page_shows_are_in_the_tree() -> None:
    pages = [path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")]
    shown = {f"docs/{link}" for page in pages for link in re.findall(r"\((results/[^)]+\.png)\)", page)}
    assert {name for name in tracked() if name.endswith(".png")} == shown


def test_results_are_few_files() -> None:
    """Packed: no single results, concepts or pages."""
    names: Any = tracked()
    assert not [name for name in names if name.endswith(".html") or name.count("/") > 3]
    assert len(names) < 30
