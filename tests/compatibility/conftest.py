"""Fixtures of the tests of compatibility: a pipeline of each model; and the page from their outcomes."""

import copy
import functools
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models
from tests.compatibility import page
from tests.compatibility.cases import Expected

OUTCOMES: dict[page.Case, list[str]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each test's report name its case, also where the test runs in another process."""
    for item in items:
        if isinstance(item, pytest.Function) and (mark := item.get_closest_marker("compatibility")):
            item.user_properties.append(("compatibility", (*mark.args, item.callspec.params["model"])))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of each case: of its call, or why there was none."""
    if report.when == "call" or not report.passed:
        for name, case in report.user_properties:
            if name == "compatibility":
                OUTCOMES.setdefault(page.Case(*case), []).append(report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the page that the environment names; see ``make compatibility``."""
    path = os.environ.get("PROMPTPLUS_COMPATIBILITY")
    if path and not hasattr(session.config, "workerinput"):
        page.write(OUTCOMES, Path(path))


@functools.cache
def made(model: str) -> Any:
    return tiny_models.MODELS[model]()


@functools.cache
def drawn(model: str) -> Expected:
    return Expected.of(made(model))


@pytest.fixture
def shared(model: str) -> Any:
    """A pipeline for tests that leave it as it was."""
    return made(model)


@pytest.fixture
def pipe(shared: Any) -> Any:
    """A pipeline of its own for each test."""
    return copy.deepcopy(shared)


@pytest.fixture
def plain(model: str) -> Expected:
    """What the pipeline draws from text alone."""
    return drawn(model)


@pytest.fixture
def refused(request: pytest.FixtureRequest) -> str:
    """The message with which a feature is refused, as a pattern."""
    return re.escape(request.node.get_closest_marker("compatibility").kwargs["refused"])
