"""What of an error is put into one line."""

import pytest
from pydantic import BaseModel, ValidationError

from promptplus.errors import first_line


class Settings(BaseModel):
    steps: dict[str, int]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one line"), "one line"),
        (ValueError("first\nsecond"), "first"),
        (KeyError(), "KeyError"),
        (RuntimeError("cannot load because of:\n\n  no room\nmore"), "cannot load because of: no room"),
        (RuntimeError("because of:\nof:\nthis\nmore"), "because of: of: this"),
        (RuntimeError("because of:"), "because of:"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [('{"steps": {"a": "many"}}', "steps.a: Input should be a valid integer"), ("{", "Invalid JSON: ")],
)
def test_a_validation_error_names_its_first_field(text: str, line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate_json(text)
    assert first_line(caught.value).startswith(line)
