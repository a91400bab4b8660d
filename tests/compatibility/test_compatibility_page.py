"""The page about compatibility: it says what the tests say."""

from pathlib import Path

import pytest

from tests.compatibility import page


def test_the_page_lists_exactly_what_is_tested() -> None:
    expected = {case: page.cell(["passed"], refused) for case, refused in page.tested().items()}
    assert page.read() == expected, "run make compatibility"


def test_all_test_modules_are_on_the_page() -> None:
    marked = {path.stem for path in page.FOLDER.glob("test_*.py") if "\n@compatible(" in path.read_text("utf-8")}
    assert marked == {f"test_{name}" for name in page.MODULES}


@pytest.mark.parametrize(
    ("outcomes", "refused", "expected"),
    [
        (["passed", "passed"], "", page.WORKS),
        (["passed", "skipped"], "", page.WORKS),
        (["passed", "failed"], "", page.FAILS),
        (["skipped"], "", page.NOT_TESTED),
        ([], "", page.NOT_TESTED),
        (["passed"], "it is a video", "refused: it is a video"),
        (["failed"], "it is a video", page.FAILS),
    ],
)
def test_a_cell_says_what_the_tests_say(outcomes: list[str], refused: str, expected: str) -> None:
    assert page.cell(outcomes, refused) == expected


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cases = [*page.tested()]
    page.write({cases[0]: ["passed"], cases[1]: ["failed"], cases[2]: ["skipped"]}, tmp_path / "page.md")
    assert page.read(tmp_path / "page.md") == {cases[0]: page.WORKS, cases[1]: page.FAILS}
