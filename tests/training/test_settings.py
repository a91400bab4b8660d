"""Settings: one description of each, shown by help() and in docs/settings.md, and values read from text."""

import inspect
from pathlib import Path
from typing import Any, get_args

import pytest

from promptplus.choices import DreamBoothMethod, InversionMethod, Preset, TrainingMethod
from promptplus.errors import SettingsError
from promptplus.training.settings import (
    PRESETS,
    SETTINGS,
    DreamBoothSettings,
    InversionSettings,
    LoraSettings,
    TrainingSettings,
    inversion_settings,
    validated,
    value_of_text,
)
from promptplus.training.settings_help import PAGE, documented, page, takes_settings

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("kind", [TrainingSettings, *dict.fromkeys(SETTINGS.values())])
def test_every_setting_is_described_in_a_sentence(kind: type[TrainingSettings]) -> None:
    rows = documented(kind)
    assert {row.name for row in rows} == set(kind.model_fields)
    assert all(row.description.endswith(".") and row.type for row in rows)


def test_the_docs_table_is_what_the_settings_say() -> None:
    assert (ROOT / PAGE).read_text("utf-8") == page(), "run make docs"


def test_a_function_shows_the_settings_it_takes() -> None:
    @takes_settings(DreamBoothSettings, LoraSettings)
    def train(pictures: str, *, out: str = "", **options: Any) -> dict[str, Any]:
        """Train."""
        return options

    parameters = inspect.signature(train).parameters
    assert list(parameters)[:3] == ["pictures", "out", "method"]
    assert set(parameters) == {"pictures", "out", *LoraSettings.model_fields}
    assert (parameters["steps"].default, parameters["steps"].annotation) == (800, int)
    assert train.__doc__
    assert train.__doc__.startswith("Train.\n\nOptions:\n    method (dreambooth or dreambooth-lora): ")
    assert "Default: 800 (dreambooth-lora: 500)." in train.__doc__
    assert "Default: 4 (dreambooth-lora only)." in train.__doc__
    assert train("x", steps=3) == {"steps": 3}


def test_the_choices_are_what_there_is() -> None:
    assert set(get_args(Preset)) == set(PRESETS)
    assert set(get_args(TrainingMethod)) == set(SETTINGS)
    assert set(get_args(TrainingMethod)) == {*get_args(InversionMethod), *get_args(DreamBoothMethod)}


def test_presets_are_valid_and_options_beside_them_win() -> None:
    assert all(validated(InversionSettings, values) for values in PRESETS.values())
    settings = inversion_settings("fast", {"steps": 7})
    assert (settings.steps, settings.vectors) == (7, 8)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("density", "2e-4", 2e-4),
        ("flip", "no", False),
        ("warmup", "10", 10),
        ("tying", "block", "block"),
        ("tying", "none", None),
        ("min_snr", "None", None),
        ("constraint", "none", "none"),
    ],
)
def test_values_are_read_from_text(name: str, text: str, value: Any) -> None:
    read = value_of_text(InversionSettings, name, text)
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("warmup", "soon", "warmup: input should be a valid integer.*, not 'soon'"),
        ("tying", "rows", "tying: input should be 'layer', 'transformer', 'block', 'resolution' or 'all', not 'rows'"),
        ("rank", "4", "no option 'rank'; there are antithetic"),
    ],
)
def test_text_that_is_no_value_is_a_settings_error(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        value_of_text(InversionSettings, name, text)
