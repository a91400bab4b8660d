"""Tables as text."""

from promptplus.report.tables import from_rows, to_csv, to_markdown

TABLE = {"a": [1, 2], "b": ["x", "y,z"]}


def test_csv_quotes_a_comma() -> None:
    assert to_csv(TABLE) == 'a,b\n1,x\n2,"y,z"\n'


def test_markdown() -> None:
    assert to_markdown(TABLE) == "| a | b |\n|---|---|\n| 1 | x |\n| 2 | y,z |"


def test_rows_become_columns_and_no_rows_leave_the_header() -> None:
    assert from_rows(["a", "b"], [(1, "x"), (2, "y,z")]) == TABLE
    assert to_markdown(from_rows(["a", "b"], [])) == "| a | b |\n|---|---|"
