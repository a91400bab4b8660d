"""The table of docs/files.md, from the outcomes of the tests."""

import os
from pathlib import Path

import pytest

from tests.formats import page

OUTCOMES: dict[page.Case, list[str]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each test's report name its cases, also where the test runs in another process."""
    for item in items:
        if isinstance(item, pytest.Function):
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            cases = [page.case_of(mark.args, parameters) for mark in item.iter_markers("file_format")]
            item.user_properties += [("file_format", tuple(case)) for case in cases]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of each case: of its call, or why there was none."""
    if report.when == "call" or not report.passed:
        for name, case in report.user_properties:
            if name == "file_format":
                OUTCOMES.setdefault(page.Case(*case), []).append(report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table into the page that the environment names; see ``make files``."""
    path = os.environ.get("PROMPTPLUS_FILES")
    if path and not hasattr(session.config, "workerinput"):
        page.write({case: OUTCOMES[case] for case in page.tested() if case in OUTCOMES}, Path(path))
