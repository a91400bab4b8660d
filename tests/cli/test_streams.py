"""Standard output never ends a run, and exit codes are those of the README. Commands run in processes of their own."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import promptplus as pp
from promptplus import cli
from promptplus.cli.streams import safe_streams
from promptplus.errors import Interrupted, OutputError, WriteError
from promptplus.files import cannot
from promptplus.pocket import CONCEPTS
from tests.cli.test_cli import run
from tests.conftest import make_concept

CALL = [sys.executable, "-m", "promptplus"]
FULL = Path("/dev/full")


@pytest.fixture
def concept_file(pplus: pp.PPlus, tmp_path: Path) -> Path:
    return make_concept(pplus, "<мяч>", 1).save(tmp_path / "ball.safetensors")


def call(*arguments: str, encoding: str = "utf-8", **options: Any) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run([*CALL, *arguments], env=environment, check=False, stderr=subprocess.PIPE, **options)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_what_cannot_be_encoded_is_escaped(concept_file: Path, encoding: str) -> None:
    done = call("info", str(concept_file), encoding=encoding, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"<\u043c\u044f\u0447>" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["0", "1", "7", "20", "x"])
def test_any_width_of_the_terminal_shows_all(columns: str) -> None:
    environment = {**os.environ, "COLUMNS": columns}
    done = subprocess.run([*CALL, "info", "none"], env=environment, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (2, b"promptplus: no concept file none\n")
    done = subprocess.run([*CALL, "--help"], env=environment, check=False, capture_output=True)
    assert done.returncode == 0
    assert b"generate" in done.stdout


@pytest.mark.slow
def test_a_file_name_with_a_line_break_stays_in_one_line() -> None:
    done = call("info", "a\nb\x1b[31m", stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, b"promptplus: no concept file a\\nb\\x1b[31m\n")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("info",), ("generate", "--again")])
def test_a_named_pipe_never_blocks(words: tuple[str, ...], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    done = call(*words, str(tmp_path / "x.png"), stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == 2
    assert b"is a folder, a pipe or a device and not a picture file" in done.stderr


def test_help_works_in_ascii() -> None:
    done = call("generate", "--help", encoding="ascii", stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--seed" in done.stdout


@pytest.mark.slow
def test_a_closed_pipe_is_no_failure(concept_file: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # before anything is written
    try:
        done = call("info", str(concept_file), stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_standard_output_is_said_and_is_a_failure(concept_file: Path) -> None:
    with FULL.open("wb") as full:
        done = call("info", str(concept_file), stdout=full)
    assert done.returncode == 1
    said = b"promptplus: cannot write to standard output: No space left on device; the command did all the rest\n"
    assert done.stderr == said


@pytest.mark.slow
def test_a_full_standard_error_changes_nothing() -> None:
    if not FULL.exists():
        pytest.skip("this system has no /dev/full")
    with FULL.open("wb") as full:
        done = subprocess.run([*CALL, "info", "none"], stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.slow
@pytest.mark.parametrize("output", ["cp1252", "full", "closed"])
def test_a_training_is_kept_wherever_its_last_sentence_goes(tmp_path: Path, output: str) -> None:
    options = ("--token", "<мяч>", "--initializer", "ball", "--steps", "1", "--batch-size", "1", "--preview-every", "1")
    words = ("invert", str(CONCEPTS / "robot"), *options, "--out", str(tmp_path / "x"))
    if output == "cp1252":
        done = call(*words, encoding="cp1252", stdout=subprocess.PIPE)
        assert rb"<\u043c\u044f\u0447> is in" in done.stdout
        assert done.returncode == 0
    elif output == "full":
        with FULL.open("wb") as full:
            done = call(*words, stdout=full)
        assert done.returncode == 1
        assert b"cannot write to standard output: No space left" in done.stderr
    else:  # both streams, so that the progress bar is cut off too
        reader, writer = os.pipe()
        os.close(reader)
        code = subprocess.run([*CALL, *words], stdout=writer, stderr=writer, check=False).returncode
        os.close(writer)
        assert code == 0
    held = {path.name for path in (tmp_path / "x").iterdir()}
    assert {"concept.safetensors", "run.html", "log.jsonl", "settings.json", "checkpoint.safetensors"} <= held
    assert pp.Concept.load(tmp_path / "x" / "concept.safetensors").token == "<мяч>"


def test_streams_are_as_before_afterwards() -> None:
    before = sys.stdout, sys.stderr
    with safe_streams() as failures:
        print("inside")
    assert (sys.stdout, sys.stderr) == before
    assert not failures


# ---- exit codes


FAILURES: list[tuple[BaseException, int, str]] = [
    (OutputError("x is a file"), 2, "x is a file"),
    (WriteError("the disk is full"), 1, "the disk is full"),
    (OSError(errno.ENOSPC, "No space left on device", "x.png"), 1, "x.png: No space left on device"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), 2, "xxx: File name too long"),
    (Interrupted("stopped by SIGINT after step 3", "SIGINT"), 130, "stopped by SIGINT after step 3"),
    (Interrupted("stopped by SIGTERM after step 3", "SIGTERM"), 1, "stopped by SIGTERM after step 3"),
    (KeyboardInterrupt(), 130, "stopped by Ctrl-C; the files that were written before are whole and stay"),
    (MemoryError(), 1, "out of memory: MemoryError; set PROMPTPLUS_TRACEBACK=1 to see where"),
    (KeyError("unet"), 1, "KeyError: 'unet'; set PROMPTPLUS_TRACEBACK=1 to see where"),
    (RuntimeError("first\nsecond"), 1, "RuntimeError: first; set"),
]


@pytest.mark.parametrize(("error", "code", "sentence"), FAILURES, ids=lambda value: str(value)[:20])
def test_every_failure_is_a_sentence_and_an_exit_code(
    error: BaseException,
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("promptplus.png_metadata.describe", fail)
    ended, out, err = run("info", str(tmp_path / "x"), capsys=capsys)
    assert (ended, out) == (code, "")
    assert err.startswith(f"promptplus: {sentence}")
    assert err.count("\n") == 1


def test_the_traceback_is_there_for_who_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptplus.png_metadata.describe", lambda _: {}["unet"])
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(KeyError):
        run("info", "x")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        *((number, WriteError) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)),
        *((number, OutputError) for number in (errno.EACCES, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)),
    ],
)
def test_a_full_disk_is_not_the_callers_mistake(number: int, kind: type[Exception]) -> None:
    error = cannot("write x.png", OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert str(error) == f"cannot write x.png: {os.strerror(number)}"
    assert isinstance(error, ValueError) == (kind is OutputError)


def test_ctrl_c_in_generate_exits_130_and_keeps_what_was_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = iter([[Image.new("RGB", (8, 8))] * 2])

    def batch(*_: object) -> list[Image.Image]:
        try:
            return next(made)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("promptplus.png_metadata._batch", batch)
    code, _, said = run("generate", "a car", "--count", "6", "--batch", "2", "--out", str(tmp_path), capsys=capsys)
    assert code == 130
    assert "2 of 6 pictures are in" in said
    assert len(list(tmp_path.glob("*-seed*.png"))) == 2


@pytest.mark.slow
def test_ctrl_c_in_a_training_exits_130_and_keeps_it(tmp_path: Path) -> None:
    words = ["invert", str(CONCEPTS / "robot"), "--preview-every", "0", "--batch-size", "1", "--steps", "5000"]
    with subprocess.Popen([*CALL, *words, "--out", str(tmp_path / "x")], stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "x" / "settings.json").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "which is saved; the same command goes on from there" in said
    assert (tmp_path / "x" / "checkpoint.safetensors").is_file()
