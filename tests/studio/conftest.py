"""A workplace on the pocket model, with a concept to use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import promptplus as pp

pytest.importorskip("gradio", reason="needs the extra ui")

from promptplus.studio.jobs import Job, Jobs
from promptplus.studio.recipe import ModelSource
from promptplus.studio.workplace import Workplace


@pytest.fixture
def place(pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A workplace in an empty folder, which commands are run in, too."""
    monkeypatch.chdir(tmp_path)
    place = Workplace(pplus, ModelSource("pocket", device="cpu"), Path("runs"), Jobs())
    place.make_folders()
    yield place
    place.jobs.close(10)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pocket's usual number of denoising steps, made small."""
    monkeypatch.setattr("promptplus.profiles.STEPS", 2)


@pytest.fixture
def job() -> Job:
    """A job whose work is called by hand."""
    return Job("test", lambda job: None)
