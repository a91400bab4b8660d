"""A run survives anything: kills, signals, a second trainer, a full disk, other settings, a loss that is no number."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import promptplus as pp
from promptplus.denoiser_calls import DenoiserCall
from promptplus.errors import Interrupted, OutputError, SettingsError, TrainingError, WriteError
from promptplus.pictures import to_pixels
from promptplus.pocket import CONCEPTS
from promptplus.templates import captions
from promptplus.training import previews
from promptplus.training import step as steps
from promptplus.training.batches import Batch, BatchRule, LatentCache
from promptplus.training.checkpoint import Checkpoint, locked
from promptplus.training.first_rows import initial_rows
from promptplus.training.invert import run_inversion
from promptplus.training.loss import denoising_loss, denoising_losses
from promptplus.training.result import InversionResult
from promptplus.training.run_folder import RunFolder
from promptplus.training.settings import InversionSettings, Templates
from promptplus.training.step import TrainingStep
from promptplus.training.token_rows import rows_step
from promptplus.training.trainable import Trainable, frozen

Pictures = list[Image.Image]
SETTINGS = {"seed": 0, "steps": 5}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainable, "checkpoint_every", 2)
    monkeypatch.setattr(previews, "SEEDS", (0,))


def learn(pplus: pp.PPlus, pictures: Pictures, **options: Any) -> InversionResult:
    call = {"steps": 4, "batch_size": 2, "progress": False, "preview_every": 0, **options}
    return run_inversion(pplus, pictures, "<x>", "house", **call)


# ---- going on


def test_a_stopped_run_goes_on_to_the_same_bits(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    straight = learn(pplus, pictures, out=tmp_path / "straight", steps=5)
    learn(pplus, pictures, out=tmp_path / "x", steps=3)
    run = learn(pplus, pictures, out=tmp_path / "x", steps=5)
    assert run.resumed == 3
    assert torch.equal(run.concept.rows, straight.concept.rows)
    assert run.losses == straight.losses
    assert pp.Concept.load(tmp_path / "x" / "concept.safetensors").provenance["steps"] == 5
    log = [json.loads(line)["step"] for line in (tmp_path / "x" / "log.jsonl").read_text().splitlines()]
    assert log == [0, 1, 2, 3, 4]


def test_a_finished_run_does_nothing(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    first = learn(pplus, pictures, out=tmp_path / "x", preview_every=2)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = learn(pplus, pictures, out=tmp_path / "x", preview_every=2)
    assert (again.resumed, again.losses, again.seconds) == (4, first.losses, first.seconds)
    assert torch.equal(again.concept.rows, first.concept.rows)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    assert len(again.class_word_previews) == len(first.class_word_previews) == 1
    assert [step for step, _ in again.previews] == [0, 2, 4]
    assert [list(strip[0].get_flattened_data()) for _, strip in again.previews] == [
        list(strip[0].get_flattened_data()) for _, strip in first.previews
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.01}, r"learning_rate 0\.005, not 0\.01"),
        ({"seed": 7}, "seed 0, not 7"),
        ({"batch_size": 3}, "batch_size 2, not 3"),
        ({"flip": False}, "flip True, not False"),
        ({"method": "ti"}, "method 'xti', not 'ti'"),
        ({"steps": 3}, "steps 4, not 3; steps may only grow"),
        ({"kind": "style"}, "kind 'object', not 'style'"),
    ],
)
def test_other_settings_are_refused(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    learn(pplus, pictures, out=tmp_path / "x")
    with pytest.raises(SettingsError, match=message):
        learn(pplus, pictures, out=tmp_path / "x", **changes)


def test_other_pictures_are_refused(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    learn(pplus, pictures, out=tmp_path / "x")
    with pytest.raises(SettingsError, match="was begun with other pictures"):
        learn(pplus, pictures[:3], out=tmp_path / "x")


def test_memory_settings_may_change(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    learn(pplus, pictures, out=tmp_path / "x", steps=2)
    assert learn(pplus, pictures, out=tmp_path / "x", steps=3, micro_batch=1).resumed == 2


def test_a_kill_between_the_last_step_and_the_concept_file_loses_nothing(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder then holds the concept of an earlier, shorter run."""
    learn(pplus, pictures, out=tmp_path / "x", steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_class_word_previews", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            learn(pplus, pictures, out=tmp_path / "x", steps=4)
    learn(pplus, pictures, out=tmp_path / "x", steps=4)
    learned = pp.Concept.load(tmp_path / "x" / "concept.safetensors")
    assert torch.equal(learned.rows, learn(pplus, pictures, steps=4).concept.rows)


def test_memory_may_not_fit_and_that_is_remembered(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "denoising_losses", narrow)
    with pytest.warns(UserWarning, match="going on with 1 pictures at a time"):
        learn(pplus, pictures, out=tmp_path / "x", steps=2)
    learn(pplus, pictures, out=tmp_path / "x", steps=3)  # no second warning, which would be an error


def narrow(unet: Any, scheduler: Any, latents: Tensor, *rest: Any) -> Tensor:
    """A device that has room for one picture."""
    if len(latents) > 1:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return denoising_losses(unet, scheduler, latents, *rest)


def test_other_weights_are_refused(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    learn(pplus, pictures, out=tmp_path / "x", steps=2)
    weight = pplus.pipe.unet.conv_in.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.flatten()[0] += 1e-3
    try:
        with pytest.raises(SettingsError, match="other denoiser weights"):
            learn(pplus, pictures, out=tmp_path / "x", steps=3)
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_other_threads_are_said_aloud(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    learn(pplus, pictures, out=tmp_path / "x", steps=2)
    saved = Checkpoint.load(tmp_path / "x")
    assert saved
    saved.settings["threads"] += 1
    saved.save(tmp_path / "x")
    with pytest.warns(UserWarning, match="differ in their last bits"):
        learn(pplus, pictures, out=tmp_path / "x", steps=3)


# ---- kills and signals, in processes of their own


PLACE: dict[str, Any] = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "cwd": Path(__file__).parents[2]}


class Killed:
    """Runs that die where they are told to, each in a process of its own (`tests.training.killed_run`)."""

    def __init__(self, pipe: "subprocess.Popen[str]") -> None:
        self.pipe = pipe

    def run(self, out: Path, **where: float) -> int:
        """Train; returns how it ended."""
        assert self.pipe.stdin
        assert self.pipe.stdout
        print(json.dumps({"out": str(out), **where}), file=self.pipe.stdin, flush=True)
        code = int(self.pipe.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        return code

    def finished_rows(self, out: Path) -> Tensor:
        assert self.run(out) == 0
        return pp.Concept.load(out / "concept.safetensors").rows


@pytest.fixture(scope="module")
def killed() -> Iterator[Killed]:
    call = [sys.executable, "-m", "tests.training.killed_run"]
    with subprocess.Popen(call, **PLACE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield Killed(process)


@pytest.mark.slow
def test_kills_at_any_point_change_no_bit(killed: Killed, tmp_path: Path) -> None:
    straight = killed.finished_rows(tmp_path / "straight")
    for number, where in enumerate(({"inside_save": 0}, {"before_step": 3}, {"inside_save": 3})):
        out = tmp_path / str(number)
        assert killed.run(out, **where) == -signal.SIGKILL
        assert not (out / "concept.safetensors").exists()
        assert torch.equal(killed.finished_rows(out), straight)
        assert not list(out.glob(".checkpoint*"))


@pytest.mark.slow
def test_twenty_kills_at_random_times_change_no_bit(killed: Killed, tmp_path: Path) -> None:
    began = time.monotonic()
    straight = killed.finished_rows(tmp_path / "straight")
    whole = time.monotonic() - began
    rng, out, kills = random.Random(0), tmp_path / "x", 0
    while kills < 20:
        kills += killed.run(out, seconds=rng.uniform(0, 0.6 * whole)) == -signal.SIGKILL
        if (out / "concept.safetensors").exists():
            assert torch.equal(pp.Concept.load(out / "concept.safetensors").rows, straight)
            shutil.rmtree(out)
    assert torch.equal(killed.finished_rows(out), straight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_first(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = learn(pplus, pictures).concept.rows
    advance = TrainingStep.advance

    def interrupted(self: TrainingStep) -> Any:
        moved = advance(self)
        if self.trainables[0].step == 3:
            os.kill(os.getpid(), number)
        return moved

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "advance", interrupted)
        with pytest.raises(Interrupted, match="after step 3, which is saved"):
            learn(pplus, pictures, out=tmp_path / "x")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    saved = Checkpoint.load(tmp_path / "x")
    assert saved
    assert saved.step == 3
    so_far = pp.Concept.load(tmp_path / "x" / "concept.safetensors")
    assert so_far.provenance["steps"] == 3
    assert torch.equal(so_far.rows, learn(pplus, pictures, steps=3).concept.rows)
    assert torch.equal(learn(pplus, pictures, out=tmp_path / "x").concept.rows, straight)
    assert pp.Concept.load(tmp_path / "x" / "concept.safetensors").provenance["steps"] == 4


@pytest.mark.slow
def test_the_command_line_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "x"
    call = [sys.executable, "-m", "promptplus", "invert", str(CONCEPTS / "robot"), "--preview-every", "0"]
    options = ["--batch-size", "1", "--steps", "5000", "--out", str(out)]
    with subprocess.Popen([*call, *options], **PLACE, stderr=subprocess.PIPE, text=True) as process:
        while not (out / "settings.json").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert re.search(r"stopped by SIGTERM after step \d+, which is saved; the same command goes on from there", said)
    assert Checkpoint.load(out)


def test_without_a_folder_an_interrupt_is_an_interrupt(
    pplus: pp.PPlus, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: TrainingStep) -> Any:
        self.trainables[0].step += 1
        os.kill(os.getpid(), signal.SIGINT)
        return [(self.trainables[0], torch.zeros(()))]

    monkeypatch.setattr(TrainingStep, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn(pplus, pictures)


# ---- one trainer at a time, whole files only


def test_a_second_trainer_is_refused(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    learn(pplus, pictures, out=tmp_path / "x")
    code = (
        "import sys; from pathlib import Path; from promptplus.training.checkpoint import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x")], **pipes) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run is training"):
            learn(pplus, pictures, out=tmp_path / "x")
        holder.kill()
    assert learn(pplus, pictures, out=tmp_path / "x").resumed == 4


def test_a_folder_with_something_else_is_refused(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="nothing is overwritten"):
        learn(pplus, pictures, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 100])
def test_a_checkpoint_that_is_none_is_refused(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(OutputError, match="is no checkpoint of an inversion"):
        learn(pplus, pictures, out=tmp_path)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    moments = {"exp_avg": torch.randn(2, 1, 8, dtype=torch.float64), "step": torch.tensor(3.0)}
    saved = Checkpoint(3, {"rows": torch.randn(2, 1, 8)}, moments, torch.rand(3, dtype=torch.float64), SETTINGS, 1.5)
    saved.save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert loaded
    assert (loaded.step, loaded.settings, loaded.seconds) == (3, SETTINGS, 1.5)
    assert torch.equal(loaded.weights["rows"], saved.weights["rows"])
    assert torch.equal(loaded.losses, saved.losses)
    assert {k: v.tolist() for k, v in loaded.moments.items()} == {k: v.tolist() for k, v in moments.items()}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root, to mount a small tmpfs")
def test_a_full_disk_leaves_the_old_checkpoint(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        learn(pplus, pictures, out=disk / "x", steps=2)
        (disk / "filler").write_bytes(b"0" * (shutil.disk_usage(disk).free - 4096))
        with pytest.raises(WriteError, match="No space left"):
            learn(pplus, pictures, out=disk / "x", steps=4)
        (disk / "filler").unlink()
        saved = Checkpoint.load(disk / "x")
        assert saved
        assert saved.step == 2
        assert learn(pplus, pictures, out=disk / "x").resumed == 2
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# ---- a step that must not be taken, memory that is not there


def test_a_loss_that_is_not_finite_takes_no_step(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = learn(pplus, pictures, steps=2).concept.rows
    calls = iter(range(100))

    def sick(*arguments: Any) -> Tensor:
        loss = denoising_losses(*arguments)
        return loss * float("nan") if next(calls) >= 2 else loss

    with monkeypatch.context() as patch:
        patch.setattr(steps, "denoising_losses", sick)
        with pytest.raises(TrainingError, match=r"not finite.*lower.*last_good\.safetensors"):
            learn(pplus, pictures, out=tmp_path / "x", steps=6)
    assert torch.equal(pp.Concept.load(tmp_path / "x" / "last_good.safetensors").rows, good)
    assert not (tmp_path / "x" / "concept.safetensors").exists()
    saved = Checkpoint.load(tmp_path / "x")
    assert saved
    assert saved.step == 2
    assert learn(pplus, pictures, out=tmp_path / "x", steps=6).resumed == 2


@pytest.fixture
def exact() -> Iterator[pp.PPlus]:
    """The pocket in float64: other orders of summation then differ by 1e-12 or so, not by what Adam makes of noise."""
    with pp.PPlus(pp.load("pocket", device="cpu", dtype=torch.float64)) as pplus:
        yield pplus


def test_micro_batches_change_memory_and_nothing_else(
    exact: pp.PPlus, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counted(unet: Any, scheduler: Any, latents: Tensor, *rest: Any) -> Tensor:
        seen.append(len(latents))
        return denoising_losses(unet, scheduler, latents, *rest)

    monkeypatch.setattr(steps, "denoising_losses", counted)
    whole, parts = (learn(exact, pictures, steps=2, batch_size=5, micro_batch=m) for m in (None, 2))
    assert seen == [5, 5, 2, 2, 1, 2, 2, 1]
    torch.testing.assert_close(parts.concept.rows, whole.concept.rows, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.tensor(parts.losses), torch.tensor(whole.losses), rtol=1e-6, atol=0)


def test_out_of_memory_halves_the_micro_batch(
    exact: pp.PPlus, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learn(exact, pictures, steps=2, batch_size=2)
    monkeypatch.setattr(steps, "denoising_losses", narrow)
    with pytest.warns(UserWarning, match="going on with 1 pictures at a time"):
        run = learn(exact, pictures, steps=2, batch_size=2)
    torch.testing.assert_close(run.concept.rows, whole.concept.rows, rtol=1e-6, atol=1e-6)


def test_no_memory_for_one_picture_is_an_error(
    pplus: pp.PPlus, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(steps, "denoising_losses", full)
    with pytest.raises(TrainingError, match="one picture at a time"):
        learn(pplus, pictures, batch_size=1)


def test_a_run_without_effect_says_so(pplus: pp.PPlus, pictures: Pictures) -> None:
    with pytest.warns(UserWarning, match="hardly moved"):
        learn(pplus, pictures, learning_rate=1e-7)


@pytest.mark.parametrize("templates", ["batch", "picture"])
def test_the_gradient_through_gathered_states_is_the_plain_one(
    exact: pp.PPlus, pictures: Pictures, templates: Templates
) -> None:
    """One text pass for the step and micro-batches, against one graph from the loss to the rows."""
    settings = InversionSettings(batch_size=4, micro_batch=3, templates=templates)
    blank = pp.Concept("<x>", initial_rows(exact, "house", settings).expand(16, -1, -1), exact.layers)
    with frozen(exact.pipe.unet, exact.pipe.text_encoder, exact.pipe.vae):
        cache = LatentCache.encode(exact.pipe.vae, to_pixels(pictures, 64))
        batch = Batch.of("0/<x>", 0, cache, BatchRule(4, 1000, 2, one_template=templates == "batch"))
        assert len(set(batch.template)) == (1 if templates == "batch" else 2)
        gathered, plain = (rows_step(exact, [(blank, cache)], settings) for _ in range(2))
        loss = gathered.gradients(gathered.trainables, [batch])[0]
        texts = [[caption] * 16 for caption in captions("object", "<x>", batch.template)]
        states = exact.text_states(texts, {"<x>": plain.trainables[0].rows.placeholder})
        whole = denoising_loss(DenoiserCall.of(exact.pipe), plain.scheduler, cache.sample(batch), batch, states)
        whole.backward()
    torch.testing.assert_close(loss, whole.detach(), rtol=1e-10, atol=0)
    ours, theirs = (trainer.trainables[0].rows.unique.grad for trainer in (gathered, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-14)


def test_the_lock_is_free_afterwards(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


# ---- other people's trackers, and the device's time


def test_the_loss_goes_to_a_tracker_too(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = learn(pplus, pictures, out=tmp_path / "x", log_with=("tensorboard",))
    events = EventAccumulator(str(next((tmp_path / "x").rglob("events.out.*")).parent)).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(run.losses)
    assert learn(pplus, pictures, out=tmp_path / "x").resumed == 4


def test_an_unknown_tracker_is_refused(pplus: pp.PPlus, pictures: Pictures) -> None:
    with pytest.raises(SettingsError, match="log_with pigeon"):
        learn(pplus, pictures, log_with=("pigeon",))


@pytest.mark.gpu
def test_a_step_waits_for_nothing(pictures: Pictures) -> None:
    with pp.PPlus(pp.load("pocket", device="cuda")) as pplus:
        settings = InversionSettings(batch_size=4)
        blank = pp.Concept("<x>", initial_rows(pplus, "house", settings).expand(16, -1, -1), pplus.layers)
        with frozen(pplus.pipe.unet, pplus.pipe.text_encoder, pplus.pipe.vae):
            cache = LatentCache.encode(pplus.pipe.vae, to_pixels(pictures, 64))
            trainer = rows_step(pplus, [(blank, cache)], settings)
            trainer.advance()  # the first step sets things up
            torch.cuda.set_sync_debug_mode("error")
            try:
                trainer.advance()
            finally:
                torch.cuda.set_sync_debug_mode("default")
