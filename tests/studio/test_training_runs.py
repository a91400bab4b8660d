"""Training runs as the studio reads them: from their folders, whoever trains in them."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from PIL import Image

from promptplus.errors import TrainingError
from promptplus.studio.jobs import Job
from promptplus.studio.learn_page import begin_training, watch_run
from promptplus.studio.training_runs import clock, is_training, preview_sheet, read_run, run_folders, train
from promptplus.studio.workplace import Workplace
from promptplus.training.checkpoint import locked
from promptplus.training.run_folder import RunFolder
from tests.studio.test_pages import LEARN


def begun(folder: Path, steps: int = 10, logged: int = 4, pace: float = 2.0) -> RunFolder:
    """The folder of a run that has taken some steps."""
    run = RunFolder(folder)
    run.write_settings({"token": "<x>", "class_word": "cat", "kind": "object", "provenance": {"steps": steps}})
    lines = [json.dumps({"step": n, "loss": 0.5, "seconds": pace * (n + 1)}) for n in range(logged)]
    (folder / "log.jsonl").write_text("".join(line + "\n" for line in lines))
    return run


def test_a_run_that_nobody_trains(tmp_path: Path) -> None:
    begun(tmp_path / "x")
    status = read_run(tmp_path / "x")
    assert status
    assert (status.token, status.steps, len(status.losses), status.training) == ("<x>", 10, 4, False)
    assert (status.seconds_left, status.concept) == (None, None)
    assert status.sentence == "<x>: step 4 of 10, stopped"
    begun(tmp_path / "y", steps=4)
    assert read_run(tmp_path / "y").sentence == "<x>: step 4 of 4, finished"


def test_a_run_in_another_process_is_seen_and_its_time_estimated(tmp_path: Path) -> None:
    begun(tmp_path / "x", pace=2.0)
    code = """
        import sys, time
        from pathlib import Path
        from promptplus.training.checkpoint import locked
        with locked(Path(sys.argv[1])):
            print("locked", flush=True)
            sys.stdin.read()
    """
    call = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "x")]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        status = read_run(tmp_path / "x")
        assert status.training
        assert status.seconds_left == pytest.approx(2.0 * 6)
        assert status.sentence == "<x>: step 4 of 10, 0:12 left"
        holder.communicate("")
    assert not is_training(tmp_path / "x")
    with locked(tmp_path / "x"):  # looking leaves no lock behind
        pass


def test_a_line_that_is_being_written_and_damaged_files_stop_nothing(tmp_path: Path) -> None:
    begun(tmp_path / "x")
    with (tmp_path / "x" / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert len(read_run(tmp_path / "x").losses) == 4
    (tmp_path / "x" / "settings.json").write_text("{")
    assert read_run(tmp_path / "x") is None
    assert read_run(tmp_path / "nothing") is None
    begun(tmp_path / "y")
    (tmp_path / "z").mkdir()
    assert run_folders(tmp_path) == [tmp_path / "y"]


def test_previews_are_one_sheet(tmp_path: Path) -> None:
    run = begun(tmp_path / "x")
    assert preview_sheet(run.path) is None
    heights = []
    for step in range(8):
        run.save_preview(step, [Image.new("RGB", (64, 64), "red")] * 4)
        heights.append(preview_sheet(run.path).height)
    assert heights[0] < heights[1] < heights[5] == heights[7]


def test_the_first_steps_show_at_once(place: Workplace) -> None:
    run = begun(place.runs / "x", logged=0)
    (run.path / "log.jsonl").unlink()
    seen, sentence, curve, *_ = watch_run(place, str(run.path), "")
    assert sentence == "&lt;x&gt;: step 0 of 10, stopped"
    assert not curve.visible
    begun(run.path.parent / "y")
    assert watch_run(place, str(place.runs / "y"), seen)[2].visible


@pytest.mark.parametrize(("seconds", "text"), [(None, "0:00"), (61.2, "1:01"), (3600, "60:00")])
def test_a_clock(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.slow
def test_a_training_of_the_page_stops_in_good_order_and_keeps_what_it_learned(place: Workplace) -> None:
    title, work, run = begin_training(place, **{**LEARN, "preset": "paper-xti", "steps": "5000"})
    job = place.jobs.submit(title, work)
    out = Path(run.value)
    until = time.monotonic() + 120
    while not (read_run(out) and read_run(out).losses):
        assert not job.ended, job.error
        assert time.monotonic() < until
        time.sleep(0.2)
    assert read_run(out).training
    job.cancel()
    while not job.ended:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert job.state == "cancelled"
    status = read_run(out)
    assert not status.training
    assert job.result == status
    assert 0 < len(status.losses) < 5000
    assert [one.token for one in place.concept_files.all()] == ["<r>", "<teapot>"]
    assert place.concept_files.labelled("<r>").concept.provenance["steps"] == len(status.losses)


@pytest.mark.slow
def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    job = Job("bad", lambda job: None)
    command = [
        "invert",
        str(tmp_path / "nothing"),
        "--token",
        "<x>",
        "--initializer",
        "cat",
        "--out",
        str(tmp_path / "x"),
    ]
    with pytest.raises(TrainingError, match="nothing"):
        train(job, command, tmp_path / "x", tmp_path / "output.txt")
