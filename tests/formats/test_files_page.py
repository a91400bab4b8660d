"""The table in docs/files.md says what the tests say."""

from pathlib import Path

from tests.formats import page


def test_the_table_lists_exactly_what_is_tested() -> None:
    assert page.read() == page.table({case: ["passed"] for case in page.tested()}), "run make files"


def test_all_test_modules_and_formats_are_on_the_page() -> None:
    marked = {
        path.stem for path in page.HERE.glob("test_*.py") if "\n@pytest.mark.file_format(" in path.read_text("utf-8")
    }
    assert marked == {f"test_{name}" for name in page.MODULES}
    assert {case.format for case in page.tested()} == set(page.ROWS)
    assert {case.format for case in page.tested() if case.column == "write"} == set(page.TARGETS)


def test_a_cell_says_what_its_tests_say() -> None:
    first, second = page.Case(page.OURS, "refused", "NaN"), page.Case(page.OURS, "refused", "empty")
    for outcomes, cell in (
        ({first: ["passed", "passed"], second: ["passed"]}, "2 of 2 kinds"),
        ({first: ["passed"], second: ["skipped"]}, "1 of 2 kinds"),
        ({first: ["passed"], second: ["passed", "failed"]}, page.FAILS),
        ({first: ["skipped"]}, page.NOTHING),
    ):
        line = page.table(outcomes).splitlines()[2]
        assert line.split("|")[-2].strip() == cell


def test_what_is_written_is_read_and_the_rest_of_the_page_stays(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.BEGIN}\n\nold\n\n{page.END}\nafter\n", "utf-8")
    outcomes = {case: ["passed"] for case in page.tested()}
    page.write(outcomes, path)
    assert page.read(path) == page.table(outcomes)
    text = path.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
