"""Checkpoint files: every wrong field is refused in a sentence, and a damaged file gives way to the one before it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import promptplus as pp
from promptplus.errors import OutputError, SettingsError
from promptplus.pocket import CONCEPTS
from promptplus.training.checkpoint import NAME, PREVIOUS, Checkpoint
from promptplus.training.invert import run_inversion
from promptplus.training.picture_record import changed_pictures
from promptplus.training.result import InversionResult
from promptplus.training.run_folder import PREVIEWS, RunFolder
from promptplus.training.trainable import Trainable

Pictures = list[Image.Image]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainable, "checkpoint_every", 2)


def learn(pplus: pp.PPlus, pictures: Any, **options: Any) -> InversionResult:
    call = {"steps": 5, "batch_size": 1, "progress": False, "preview_every": 0, **options}
    return run_inversion(pplus, pictures, "<x>", "house", **call)


@pytest.fixture(scope="module")
def trained(pipe: Any, pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "x"
    with pytest.MonkeyPatch.context() as patch, pp.PPlus(pipe) as pplus:
        patch.setattr(Trainable, "checkpoint_every", 2)
        learn(pplus, pictures, out=out)
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run of five steps, with checkpoints after steps 4 and 5."""
    return Path(shutil.copytree(trained, tmp_path / "x"))


def rewrite(path: Path, record: Callable[[dict[str, Any]], Any] | None = None, tensors: Any = None) -> None:
    """Change the record or the tensors of a checkpoint file."""
    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["run"])
    kept = load_file(path)
    if record:
        record(values)
    if tensors:
        tensors(kept)
    save_file({name: tensor.contiguous() for name, tensor in kept.items()}, path, {"run": json.dumps(values)})


def in_settings(name: str, value: Any) -> Callable[[Path], None]:
    return lambda path: rewrite(path, lambda record: record["settings"].update({name: value}))


def in_record(name: str, value: Any) -> Callable[[Path], None]:
    return lambda path: rewrite(path, lambda record: record.update({name: value}))


def in_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    return lambda path: rewrite(path, tensors=change)


def other_text(text: str) -> Callable[[Path], None]:
    return lambda path: save_file(load_file(path), path, {"run": text})


def other_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def rename(old: str, new: str) -> Callable[[Path], None]:
    return in_tensors(lambda tensors: tensors.update({new: tensors.pop(old)}))


FIRST = "moment.rows/exp_avg"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "step -1": (in_record("step", -1), "step: Input should be greater than or equal to 0, not -1"),
    "step as text": (in_record("step", "5"), "step: Input should be a valid integer, not '5'"),
    "step as a truth": (in_record("step", True), "step: Input should be a valid integer, not True"),
    "another step": (in_record("step", 3), "does not hold the losses of 3 steps"),
    "seconds of a year before": (in_record("seconds", -1.0), "seconds: Input should be greater"),
    "seconds as text": (in_record("seconds", "1"), "seconds: Input should be a valid number"),
    "infinite seconds": (in_record("seconds", float("inf")), "Infinity is no finite number"),
    "no settings": (in_record("settings", None), "settings: Input should be"),
    "settings as a list": (in_record("settings", []), "settings: Input should be"),
    "a missing field": (lambda p: rewrite(p, lambda record: record.pop("seconds")), "seconds: Field required"),
    "no steps": (lambda p: rewrite(p, lambda record: record["settings"].pop("steps")), "steps: Field required"),
    "steps 0": (in_settings("steps", 0), "settings.steps: Input should be greater"),
    "micro batch -1": (in_settings("micro_batch", -1), "settings.micro_batch: Input should be greater"),
    "micro batch 0": (in_settings("micro_batch", 0), "settings.micro_batch: Input should be greater"),
    "micro batch as text": (in_settings("micro_batch", "2"), "settings.micro_batch: Input should be a valid integer"),
    "threads as text": (in_settings("threads", "2"), "settings.threads: Input should be a valid integer"),
    "a record that is empty": (other_text(""), "no JSON"),
    "a record that is null": (other_text("null"), "is no checkpoint"),
    "a deep record": (other_text("[" * 100_000), "recursion limit"),
    "a long number": (other_text('{"step": ' + "1" * 5000 + "}"), "number out of range"),
    "losses missing": (in_tensors(lambda t: t.pop("losses")), "losses of 5 steps"),
    "losses shorter": (in_tensors(lambda t: t.update(losses=t["losses"][:-1])), "losses of 5 steps"),
    "losses in half": (in_tensors(lambda t: t.update(losses=t["losses"].half())), "losses of 5 steps"),
    "losses that are no numbers": (in_tensors(lambda t: t.update(losses=t["losses"] * float("nan"))), "losses of 5"),
    "a renamed moment": (rename(FIRST, "moment.rows/exp"), "optimiser's state is not that of its weights"),
    "a moment of others": (rename(FIRST, "moment.columns/exp_avg"), "optimiser's state is not"),
    "a moment missing": (in_tensors(lambda t: t.pop(FIRST)), "optimiser's state is not"),
    "a moment of another shape": (in_tensors(lambda t: t.update({FIRST: t[FIRST][:3]})), "exp_avg has the shape"),
    "a moment that is no number": (in_tensors(lambda t: t[FIRST].fill_(float("nan"))), "numbers that no optimiser has"),
    "a square below 0": (in_tensors(lambda t: t[f"{FIRST}_sq"].fill_(-1)), "numbers that no optimiser has"),
    "a moment in half": (in_tensors(lambda t: t.update({FIRST: t[FIRST].half()})), "exp_avg holds torch.float16"),
    "a moment of more steps": (in_tensors(lambda t: t["moment.rows/step"].fill_(9)), "counts more than 5 steps"),
    "a moment of fewer than no steps": (in_tensors(lambda t: t["moment.rows/step"].fill_(-9)), "numbers that no"),
    "a part of another name": (rename(FIRST, "momentum.rows"), "momentum.rows is neither a weight nor a moment"),
    "a weight of whole numbers": (in_tensors(lambda t: t.update({"weight.rows": t["weight.rows"].int()})), "neither"),
    "a file cut short": (other_bytes(lambda data: data[:-9]), "is no checkpoint of an inversion"),
    "an empty file": (other_bytes(lambda _: b""), "is no checkpoint of an inversion"),
    "a folder": (lambda p: (p.unlink(), p.mkdir())[0], "is no checkpoint of an inversion"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_refused_where_there_is_no_other(run: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    (run / PREVIOUS).unlink()
    damage(run / NAME)
    with pytest.raises(OutputError, match="is no checkpoint of an inversion") as caught:
        Checkpoint.newest(run)
    assert message in str(caught.value)
    assert NAME in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (in_tensors(lambda t: t.update({"weight.rows": t["weight.rows"] * float("nan")})), "not finite"),
        (in_tensors(lambda t: t.update({k: v.double() for k, v in t.items() if "/step" not in k})), "other weights"),
        (in_tensors(lambda t: t.update({k: v.double() for k, v in t.items()})), "step holds torch.float64"),
        (in_tensors(lambda t: [t.pop(k) for k in list(t) if k.startswith("moment")]), "optimiser's state is not"),
        (rename("weight.rows", "weight.columns"), "optimiser's state is not"),
        (lambda p: rewrite(p, lambda record: record["settings"].pop("threads")), "its record does not name threads"),
        (lambda p: rewrite(p, lambda record: record["settings"].pop("micro_batch")), "does not name micro_batch"),
        (in_settings("seed", "0"), "seed '0', not 0"),
        (in_settings("pictures", None), "other pictures"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    pplus: pp.PPlus, pictures: Pictures, run: Path, damage: Callable[[Path], None], message: str
) -> None:
    (run / PREVIOUS).unlink()
    damage(run / NAME)
    with pytest.raises((OutputError, SettingsError), match=message):
        learn(pplus, pictures, out=run, steps=6)


# ---- the checkpoint before


def test_the_checkpoint_before_is_kept(run: Path) -> None:
    steps = [Checkpoint.load(run, name=name) for name in (NAME, PREVIOUS)]
    assert [one and one.step for one in steps] == [5, 4]


@pytest.mark.parametrize("name", ["a file cut short", "an empty file", "step -1", "a renamed moment"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(
    pplus: pp.PPlus, pictures: Pictures, run: Path, tmp_path: Path, name: str
) -> None:
    straight = learn(pplus, pictures, out=tmp_path / "straight", steps=7)
    DAMAGES[name][0](run / NAME)
    with pytest.warns(UserWarning, match=r"no checkpoint of an inversion.*; going on from the .* after step 4"):
        resumed = learn(pplus, pictures, out=run, steps=7)
    assert resumed.resumed == 4
    assert torch.equal(resumed.concept.rows, straight.concept.rows)
    assert resumed.losses == straight.losses
    log = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert log == list(range(7))
    newest, fault = Checkpoint.newest(run)
    assert newest is not None
    assert (newest.step, fault) == (7, "")


def test_the_damaged_file_never_becomes_the_one_before(pplus: pp.PPlus, pictures: Pictures, run: Path) -> None:
    """A kill right after the first new step finds a whole checkpoint."""
    (run / NAME).write_bytes(b"")
    with pytest.warns(UserWarning, match="going on from"):
        learn(pplus, pictures, out=run, steps=5)
    assert Checkpoint.load(run, name=PREVIOUS)


def test_where_both_are_damaged_the_newest_is_named(pplus: pp.PPlus, pictures: Pictures, run: Path) -> None:
    for name in (NAME, PREVIOUS):
        (run / name).write_bytes(b"")
    with pytest.raises(OutputError, match=NAME):
        learn(pplus, pictures, out=run)


def test_the_checkpoint_before_is_enough(pplus: pp.PPlus, pictures: Pictures, run: Path) -> None:
    whole = pp.Concept.load(run / "concept.safetensors").rows
    (run / NAME).unlink()
    assert torch.equal(learn(pplus, pictures, out=run).concept.rows, whole)


def test_other_settings_leave_both_as_they_are(pplus: pp.PPlus, pictures: Pictures, run: Path) -> None:
    (run / NAME).write_bytes(b"damaged")
    before = (run / PREVIOUS).read_bytes()
    with pytest.raises(SettingsError, match="seed 0, not 3"):
        learn(pplus, pictures, out=run, seed=3)
    assert (run / NAME).read_bytes() == b"damaged"
    assert (run / PREVIOUS).read_bytes() == before


def test_without_hard_links_there_is_one_checkpoint(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))
    learn(pplus, pictures, out=tmp_path / "x")
    assert not (tmp_path / "x" / PREVIOUS).exists()
    assert learn(pplus, pictures, out=tmp_path / "x").resumed == 5


# ---- the log, and the pictures


def test_a_log_that_is_no_text_stops_no_run(pplus: pp.PPlus, pictures: Pictures, run: Path) -> None:
    lines = (run / "log.jsonl").read_bytes().splitlines(keepends=True)
    (run / "log.jsonl").write_bytes(b"".join([lines[0], b"\xff\xfe\n", *lines[2:]]) + b"cut off in the mi")
    learn(pplus, pictures, out=run, steps=6)
    kept = (run / "log.jsonl").read_bytes().splitlines()
    assert kept[1] == b"\xff\xfe"
    assert [json.loads(line)["step"] for line in kept[2:]] == [2, 3, 4, 5]


def folder_of_three(folder: Path) -> Path:
    folder.mkdir()
    for source in sorted((CONCEPTS / "robot").glob("*.png"))[:3]:
        (folder / source.name).write_bytes(source.read_bytes())
    return folder


def test_changed_pictures_are_named(pplus: pp.PPlus, tmp_path: Path) -> None:
    photos = folder_of_three(tmp_path / "photos")
    first, second, third = (path.name for path in sorted(photos.iterdir()))
    learn(pplus, photos, out=tmp_path / "x", steps=1)
    Image.new("RGB", (64, 64), "red").save(photos / second)
    (photos / third).unlink()
    Image.new("RGB", (64, 64), "blue").save(photos / "new.png")
    words = f"other pictures: {second} has changed, new.png is new, {third} is missing; give the run a new folder"
    with pytest.raises(SettingsError) as caught:
        learn(pplus, photos, out=tmp_path / "x", steps=1)
    assert words in str(caught.value)
    assert first not in str(caught.value)


def test_pictures_without_files_are_numbered(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    learn(pplus, pictures, out=tmp_path / "x", steps=1)
    with pytest.raises(SettingsError, match="other pictures: picture 5 is missing;"):
        learn(pplus, pictures[:4], out=tmp_path / "x", steps=1)


def test_a_checkpoint_of_version_0_1_names_no_pictures_and_goes_on(
    pplus: pp.PPlus, pictures: Pictures, run: Path
) -> None:
    (run / PREVIOUS).unlink()
    rewrite(run / NAME, lambda record: record["settings"].pop("picture_files"))
    assert learn(pplus, pictures, out=run, steps=6).resumed == 5
    rewrite(run / NAME, lambda record: record["settings"].pop("picture_files"))
    with pytest.raises(SettingsError, match="begun with other pictures; give"):
        learn(pplus, pictures[:2], out=run, steps=6)


def test_many_changed_pictures_are_counted() -> None:
    old, new = ([[f"{n}.png", f"{n}{end}"] for n in range(9)] for end in ("a", "b"))
    assert changed_pictures(old, new) == ": 0.png has changed, 1.png has changed, 2.png has changed, 6 more"
    assert changed_pictures(None, new) == changed_pictures(old, [["a"]]) == ""


@pytest.mark.parametrize("damage", [b"", b"\xff\xfejunk", b"\x89PNG\r\n\x1a\n", None])
def test_damaged_previews_stop_no_run(tmp_path: Path, damage: bytes | None) -> None:
    folder = RunFolder(tmp_path / "x")
    for step in (2, 4):
        folder.save_preview(step, [Image.new("RGB", (8, 8), "red")] * 2)
    folder.save_class_word_previews([Image.new("RGB", (8, 8))])
    strips = folder.path / PREVIEWS
    (strips / "step-notes.png").write_bytes(b"x")
    for name in ("step-00002.png", "class-word.png"):
        data = (strips / name).read_bytes()
        (strips / name).write_bytes(data[:-30] if damage is None else damage)
    with pytest.warns(UserWarning, match="is no strip of previews and was left out"):
        assert [(step, len(strip)) for step, strip in folder.previews()] == [(4, 2)]
    with pytest.warns(UserWarning, match=r"class-word\.png is no strip of previews"):
        assert folder.class_word_previews() == []
