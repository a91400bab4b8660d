"""Arbitrary bytes, and valid files with changed bytes: a reader returns a value or raises its documented error."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

import promptplus as pp
from promptplus.cli.evaluate import _read_prompts
from promptplus.datasets import read_picture_prompts
from promptplus.errors import (
    ConceptError,
    ModelError,
    OutputError,
    PictureError,
    PromptError,
    PromptPlusError,
    SettingsError,
)
from promptplus.evaluation.store import ConceptStore, RecordStore
from promptplus.experiments.study import Study
from promptplus.generation_parameters import GenerationParameters
from promptplus.png_metadata import KEY, read_parameters
from promptplus.profiles import SavedSampling
from promptplus.report.html import Section
from promptplus.text_files import decode, parse_json, read_json
from promptplus.training.checkpoint import NAME, Checkpoint, CheckpointRecord
from promptplus.training.run_folder import LOG, RunFolder

pytestmark = pytest.mark.slow
Reader = tuple[str, Callable[[], Any], type[PromptPlusError]]

bounded = settings(
    max_examples=1500,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with some changed, cut out or put in."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        length = draw(st.integers(0, 8))
        changed[place : place + length] = draw(st.binary(max_size=8))
    return bytes(changed)


def write_all(folder: Path) -> dict[str, Reader]:
    """A valid file of each kind; returns its name, what reads it, and the documented error."""
    layers = pp.LayerMap.from_names([("down.0.0", 8), ("mid.0", 4), ("up.1.0", 8)])
    concept = pp.Concept("<x>", torch.ones(3, 2, 4), layers, provenance={"vectors": 2})
    concept.save(folder / "x.safetensors")
    moments = {f"rows/{name}": torch.ones(2) for name in ("exp_avg", "exp_avg_sq")} | {"rows/step": torch.tensor(1.0)}
    record = {"steps": 3, "micro_batch": None, "threads": 1}
    Checkpoint(1, {"rows": torch.ones(2)}, moments, torch.ones(1, dtype=torch.float64), record, 1.0).save(folder)
    for name in ("r", "s"):
        RecordStore(folder / name).write("x", {"seed": 0, "by_prompt": {"a {}": [0.5, 0.5]}})
    RecordStore(folder / "s").pack()
    concept.save(ConceptStore(folder / "c").path("x"))
    ConceptStore(folder / "c").pack()
    Study("study", "title", "lead", [Section("a", "b", (), {"c": [1]})], {"x": 1}).write(folder)
    (folder / "prompts.json").write_text('{"a.png": "a red car"}')
    (folder / "prompts.txt").write_text("a {} on a beach\na red {}\n")
    (folder / "sampling.json").write_text('{"steps": 12, "guidance": 3.0}')
    (folder / "run").mkdir()
    (folder / "run" / LOG).write_text('{"step": 0, "loss": 0.5, "seconds": 1.0}\n' * 3)
    (folder / "run" / NAME).write_bytes((folder / NAME).read_bytes())
    info = PngImagePlugin.PngInfo()
    info.add_itxt(KEY, GenerationParameters(prompt="a cat", model="pocket", steps=2, guidance=3.0).model_dump_json())
    Image.new("RGB", (8, 8)).save(folder / "picture.png", pnginfo=info)
    return {
        "picture": ("picture.png", lambda: read_parameters(folder / "picture.png"), PictureError),
        "concept": ("x.safetensors", lambda: pp.Concept.load(folder / "x.safetensors"), ConceptError),
        "checkpoint": (NAME, lambda: Checkpoint.newest(folder), OutputError),
        "result": ("r/x.json", lambda: RecordStore(folder / "r").entry("x"), OutputError),
        "results": ("s.jsonl", lambda: RecordStore(folder / "s").entry("x"), OutputError),
        "concepts": ("c.safetensors", lambda: ConceptStore(folder / "c").ids(), OutputError),
        "study": ("study.json", lambda: Study.read(folder, "study"), OutputError),
        "prompts.json": ("prompts.json", lambda: read_picture_prompts(folder), PictureError),
        "prompts.txt": ("prompts.txt", lambda: _read_prompts(folder / "prompts.txt"), SettingsError),
        "sampling": (
            "sampling.json",
            lambda: read_json(folder / "sampling.json", SavedSampling, ModelError, ""),
            ModelError,
        ),
        "log": (f"run/{LOG}", lambda: RunFolder(folder / "run").cut_log(2), OutputError),
    }


KINDS = (
    "picture",
    "concept",
    "checkpoint",
    "result",
    "results",
    "concepts",
    "study",
    "prompts.json",
    "prompts.txt",
    "sampling",
    "log",
)


def check_sentence(message: str) -> None:
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_are_a_value_or_the_documented_error(tmp_path: Path, kind: str) -> None:
    name, reader, error = write_all(tmp_path)[kind]
    reader()  # the valid file is read
    valid = (tmp_path / name).read_bytes()

    @bounded
    @given(st.binary(max_size=64) | mutated(valid) | mutated(valid))
    def check(data: bytes) -> None:
        (tmp_path / name).write_bytes(data)
        try:
            reader()
        except error as caught:
            check_sentence(str(caught))

    check()


@pytest.mark.parametrize("kind", [dict[str, str], CheckpointRecord, SavedSampling])
def test_any_json_is_a_value_or_the_error_that_was_asked_for(kind: Any) -> None:
    @bounded
    @given(values.map(json.dumps) | st.text(max_size=40) | st.binary(max_size=40))
    def check(text: str | bytes) -> None:
        with suppress(ModelError):
            parse_json(text, kind, ModelError, "x.json is wrong")

    check()


@bounded
@given(values)
def test_what_json_writes_is_read_as_it_was(value: Any) -> None:
    text = json.dumps({"value": value})
    try:
        found = parse_json(text, dict[str, Any], ModelError, "x", finite=False)
    except ModelError:
        found = None
    if found is None:
        assert re.search(r"\\ud[89a-f]", text), "only half of a letter is no JSON"
    else:
        assert json.dumps(found) == text


@bounded
@given(st.binary(max_size=64))
def test_any_bytes_are_a_text_or_the_error(data: bytes) -> None:
    with suppress(SettingsError):
        assert isinstance(decode(data, "x.txt", SettingsError), str)


@bounded
@given(st.text(st.sampled_from([*"a|\\:<>,.- \n"]), max_size=30) | st.text(max_size=30))
def test_any_text_is_a_prompt_or_the_error(text: str) -> None:
    with suppress(PromptError):
        prompt = pp.PPlusPrompt.parse(text)
        assert pp.PPlusPrompt.parse(str(prompt)) == prompt
