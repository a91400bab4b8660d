"""Text and JSON from elsewhere: what can be read is read, all else is one sentence of the error that was asked for."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from promptplus import text_files
from promptplus.cli.evaluate import _read_prompts
from promptplus.datasets import read_picture_prompts
from promptplus.errors import ConceptError, ModelError, OutputError, PictureError, PromptPlusError, SettingsError
from promptplus.evaluation.judges import ClipJudge
from promptplus.evaluation.store import ConceptStore, RecordStore
from promptplus.experiments.study import Study
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.text_files import decode, parse_json, read_json, read_text
from promptplus.training.dreambooth import dreambooth
from promptplus.training.invert import invert
from promptplus.training.settings import InversionSettings, LoraSettings, validated

SOURCE = Path(text_files.__file__).parent


def read(text: str | bytes, kind: Any = dict[str, Any], **options: Any) -> Any:
    return parse_json(text, kind, OutputError, "x.json is no record", "remove it", **options)


# ---- text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_mark_of_an_encoding_is_no_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("a {} мяч\n", encoding)
    assert read_text(tmp_path / "a.txt", SettingsError) == "a {} мяч\n"


def test_a_byte_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("ein Fußball".encode("latin-1"))
    with pytest.raises(SettingsError) as caught:
        read_text(tmp_path / "a.txt", SettingsError)
    assert str(caught.value) == (f"{tmp_path / 'a.txt'} is not UTF-8 text (byte 0xdf at position 6); save it as UTF-8")
    with pytest.raises(SettingsError, match="is not UTF-16 text"):
        decode(b"\xff\xfea", "a.txt", SettingsError)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*: No such file"):
        read_text(tmp_path / "none", SettingsError)
    with pytest.raises(SettingsError, match="is no file"):
        read_text(tmp_path, SettingsError)
    with pytest.raises(SettingsError, match="File name too long"):
        read_text(tmp_path / ("x" * 300), SettingsError)
    with pytest.raises(SettingsError, match="null"):
        read_text("a\0b", SettingsError)
    (tmp_path / "long").write_bytes(b"x" * 11)
    with pytest.raises(SettingsError, match="has more than 10 bytes"):
        read_text(tmp_path / "long", SettingsError, 10)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match="is no file"):
        read_text(tmp_path / "pipe", SettingsError)


# ---- JSON


class Record(BaseModel):
    steps: int
    name: str = ""
    parts: list[tuple[str, float]] = []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON, EOF"),
        ("{", "no JSON, EOF"),
        ("[" * 100_000, "no JSON, recursion limit exceeded"),
        ('{"a":' * 100_000, "no JSON, recursion limit exceeded"),
        ("9" * 5000, "no JSON, number out of range"),
        ('{"steps": ' + "9" * 5000 + "}", "no JSON, number out of range"),
        (b"\xff", "no JSON, 'utf-8' codec"),
        ('"\\ud800"', "no JSON"),
        ("null", "Input should be an object, not None"),
        ("[]", "Input should be an object, not []"),
        ("{}", "steps: Field required"),
        ('{"steps": "8"}', "steps: Input should be a valid integer, not '8'"),
        ('{"steps": true}', "steps: Input should be a valid integer, not True"),
        ('{"steps": 8.5}', "steps: Input should be a valid integer, not 8.5"),
        ('{"steps": 1, "steps": 2}', "the key 'steps' is there twice"),
        ('{"steps": 1, "x": NaN}', "NaN is no finite number"),
        ('{"steps": 1, "x": -Infinity}', "-Infinity is no finite number"),
        ('{"steps": 1, "x": 1e999}', "1e999 is no finite number"),
        ('{"steps": 1, "parts": [["a", 1], ["b", "2"]]}', "parts.1.1: Input should be a valid number, not '2'"),
        ('{"steps": 1, "name": ' + json.dumps([0] * 99) + "}", "…; remove it"),
    ],
)
def test_json_that_is_no_record_is_one_sentence(text: str | bytes, message: str) -> None:
    with pytest.raises(OutputError, match=r"x\.json is no record: .*; remove it") as caught:
        read(text, Record)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_json_that_is_a_record_is_read() -> None:
    text = '{"steps": 3, "parts": [["a", 1], ["b", 2.5]], "unknown": [[[1]]]}'
    assert read(text, Record) == read(text.encode(), Record) == Record(steps=3, parts=[("a", 1.0), ("b", 2.5)])
    assert read('{"a": 1e999, "b": NaN}', finite=False)["a"] == float("inf")
    assert read('{"a": 0.1, "b": 12345678901234567890, "c": "ü"}') == {"a": 0.1, "b": 12345678901234567890, "c": "ü"}


def test_the_limit_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MAX_BYTES", 10)
    with pytest.raises(OutputError, match="it has more than 10 bytes"):
        read('{"a": "bcdef"}')


# ---- our own files

BAD: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "text": b'"x"',
    "deep": b"[" * 100_000,
    "long": b'{"steps": ' + b"9" * 5000 + b"}",
    "no UTF-8": b'{"steps": "\xff"}',
    "cut": b'{"steps": 1',
}


def kinds(folder: Path) -> dict[str, tuple[str, Any, type[PromptPlusError]]]:
    """A file's name, what reads it, and the error."""
    return {
        "study": ("a.json", lambda: Study.read(folder, "a"), OutputError),
        "result": ("r/x.json", lambda: RecordStore(folder / "r").entry("x"), OutputError),
        "results": ("r.jsonl", lambda: RecordStore(folder / "r").entry("x"), OutputError),
        "concepts": ("c.safetensors", lambda: ConceptStore(folder / "c").load("x"), OutputError),
        "single concept": ("c/x.safetensors", lambda: ConceptStore(folder / "c").pack(), OutputError),
        "prompts": ("prompts.json", lambda: read_picture_prompts(folder), PictureError),
        "prompt list": ("p.txt", lambda: _read_prompts(folder / "p.txt"), SettingsError),
        "clip": ("config.json", lambda: ClipJudge.load(folder), ModelError),
        "judge": ("config.json", lambda: AttributeJudge.load(folder), ModelError),
    }


@pytest.mark.parametrize("damage", BAD)
@pytest.mark.parametrize("kind", kinds(Path()))
def test_a_damaged_file_is_one_sentence(tmp_path: Path, kind: str, damage: str) -> None:
    name, reader, error = kinds(tmp_path)[kind]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(BAD[damage])
    if (kind, damage) == ("results", "empty"):  # an empty list of results is one
        assert reader() is None
        return
    with pytest.raises(error) as caught:
        reader()
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "seed: Field required"),
        ({"subject": "0.5"}, "subject: Input should be a valid number, not '0.5'"),
        ({"by_prompt": None}, "by_prompt: Input should be an object"),
        ({"by_prompt": {"a {}": [0.5]}}, r"by_prompt\.a {}\.1: Field required"),
        ({"by_prompt": {"a {}": [0.5, 0.5, 0.5]}}, "by_prompt"),
        ({"steps": True}, "steps: Input should be a valid integer"),
    ],
)
def test_a_result_with_wrong_fields_is_one_sentence(record: dict[str, Any], message: str) -> None:
    from promptplus.evaluation.grid import GridResult

    named = {"concept": "owl", "method": "xti", "options": {"x": 1}}
    good = {"seed": 0, "steps": 5, "subject": 0.5, "text": 0.5, "seconds": 1, "by_prompt": {}, **named}
    assert text_files.as_json(good, GridResult, OutputError, "x").seconds == 1.0
    with pytest.raises(OutputError, match=message):
        text_files.as_json({**good, **record} if record else named, GridResult, OutputError, "x is no result")


@pytest.mark.parametrize("value", ["a prompt", ["a", "list"], {"a.png": ["a red car"]}, {"a.png": 7}, {"a.png": None}])
def test_prompts_of_pictures_are_texts(tmp_path: Path, value: Any) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps(value))
    with pytest.raises(PictureError, match="is no object of file names and prompts"):
        read_picture_prompts(tmp_path)


def test_prompts_from_windows_are_read(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "p.txt").write_text("a {} on a beach\r\n\r\na red {}\r\n", encoding)
        assert _read_prompts(tmp_path / "p.txt") == ["a {} on a beach", "a red {}"]
        (tmp_path / "prompts.json").write_text('{"a.png": "a красный мяч"}', encoding)
        assert read_picture_prompts(tmp_path) == {"a.png": "a красный мяч"}
    with pytest.raises(SettingsError, match=r"cannot read .*No such file"):
        _read_prompts(tmp_path / "none.txt")
    assert read_picture_prompts(tmp_path / "none") is None


# ---- values of wrong types from Python


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"kind": "person"}, "kind: input should be 'object' or 'style', not 'person'"),
        ({"token": 5}, "token: input should be a valid string, not 5"),
        ({"initializer": ["a"]}, r"initializer: input should be a valid string, not \['a'\]"),
        ({"class_word": 1.5}, "class_word: input should be a valid string, not 1.5"),
    ],
)
def test_names_of_a_wrong_type_are_one_sentence(names: dict[str, Any], message: str) -> None:
    with pytest.raises(ConceptError, match=f"^{message}$"):
        invert(None, [], **names)  # type: ignore[arg-type]
    if names.keys() <= {"kind", "class_word"}:
        with pytest.raises(ConceptError, match=f"^{message}$"):
            dreambooth(None, [], out="none", prior_weight=0.0, **names)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (InversionSettings, {"steps": 10**9}),
        (InversionSettings, {"batch_size": 10**9}),
        (InversionSettings, {"vectors": 10**9}),
        (InversionSettings, {"jitter": 10**9}),
        (LoraSettings, {"class_count": 10**9}),
    ],
)
def test_numbers_beyond_any_use_are_refused(kind: Any, values: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="less than or equal to"):
        validated(kind, values)


# ---- nothing reads in another way

ELSEWHERE = re.compile(r"json\.loads?\(|validate_json\(|from_json\(|\.read_text\(|(?<![\w.])open\(")


def test_all_text_and_json_is_read_by_one_module() -> None:
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if ELSEWHERE.search(path.read_text("utf-8")) and path.name != "text_files.py"
    }
    assert not found, f"{found} read files by themselves; use text_files"


def test_read_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(OutputError, match=r"x\.json is no record: steps: Field required$"):
        read_json(tmp_path / "x.json", Record, OutputError, "is no record")
