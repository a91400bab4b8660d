import inspect
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import promptplus as pp
from promptplus.cli import COMMANDS, app, main
from promptplus.cli.invert import invert
from promptplus.png_metadata import read_parameters
from promptplus.pocket import CONCEPTS
from promptplus.training.loss import denoising_losses
from promptplus.training.settings import InversionSettings
from tests.conftest import make_concept


def run(*arguments: str, capsys: pytest.CaptureFixture[str] | None = None) -> tuple[int, str, str]:
    """The command line in this process: exit code, standard output, standard error."""
    before = sys.argv
    sys.argv = ["promptplus", *arguments]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    out, err = capsys.readouterr() if capsys else ("", "")
    return code, out, err


@pytest.fixture
def concept_file(pplus: pp.PPlus, tmp_path: Path) -> Path:
    return make_concept(pplus, "<thing>", 1).save(tmp_path / "thing.safetensors")


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture, int)


FAST = ("--steps", "2", "--device", "cpu")


def test_generate_writes_pictures_with_their_recipe(
    tmp_path: Path, concept_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "pictures"
    words = ("generate", "a <thing> || coarse: a car", "--layer", "fine=a red car", "--concept", str(concept_file))
    code, printed, _ = run(*words, "--seed", "5", "--count", "2", "--out", str(out), "--json", *FAST, capsys=capsys)
    assert code == 0
    values = json.loads(printed)
    assert [Path(p).name for p in values["pictures"]] == ["0000-seed5.png", "0001-seed6.png"]
    recipe = read_parameters(values["pictures"][1])
    assert recipe.prompt == "a <thing> || coarse: a car || fine: a red car"
    assert (recipe.seed, recipe.steps, recipe.model) == (6, 2, "pocket")
    assert recipe.concepts == {"<thing>": pp.Concept.load(concept_file).sha256}
    with Image.open(values["sheet"]) as sheet:
        assert sheet.size[0] > 64
    again = run(*words, "--seed", "5", "--count", "2", "--out", str(out), "--json", *FAST, capsys=capsys)
    first, second = (pixels(json.loads(o)["pictures"][0]) for o in (printed, again[1]))
    assert np.array_equal(first, second)
    assert len(list(out.glob("*-seed*.png"))) == 4
    assert run("info", values["pictures"][0], "--json", capsys=capsys)[1].count("fine: a red car") == 1


def test_a_picture_does_not_depend_on_its_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = {}
    for batch in ("1", "3"):
        call = ("generate", "a red car", "--count", "3", "--batch", batch, "--out", str(tmp_path / batch), "--json")
        made = json.loads(run(*call, *FAST, capsys=capsys)[1])["pictures"]
        pictures[batch] = [pixels(p) for p in made]
    for one, three in zip(*pictures.values(), strict=True):
        assert abs(one - three).max() <= 1


def test_invert_mix_info_and_generate_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = sorted(p.name for p in CONCEPTS.iterdir() if p.is_dir())[:2]
    files = []
    for name, method in zip(names, ("xti", "ti"), strict=True):
        out = tmp_path / name
        call = ("invert", str(CONCEPTS / name), "--method", method, "--out", str(out), "--batch-size", "2", "--json")
        code, printed, _ = run(*call, "--preview-every", "0", *FAST, capsys=capsys)
        assert code == 0
        values = json.loads(printed)
        assert Path(values["page"]).read_text().startswith("<!doctype html>")
        files.append(values["concept"])
    mixed = tmp_path / "mixed.safetensors"
    words = ("mix", "--shape", files[0], "--style", files[1], "--token", "<ab>", "--out", str(mixed))
    assert run(*words, "--shape-layers", "mid,4-5", capsys=capsys)[0] == 0
    code, printed, _ = run("info", str(mixed), "--json", capsys=capsys)
    values = json.loads(printed)
    assert values["token"] == "<ab>"
    assert values["provenance"]["mixed_from"]["shape_layers"] == "mid,4-5"
    call = ("generate", "a <ab>", "--concept", str(mixed), "--count", "1", "--out", str(tmp_path / "p"))
    assert run(*call, *FAST, capsys=capsys)[0] == 0


@pytest.mark.slow
def test_dreambooth_and_generate_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = next(p for p in CONCEPTS.iterdir() if p.is_dir())
    for method, use in (("dreambooth", "--model"), ("dreambooth-lora", "--lora")):
        call = ("invert", str(folder), "--method", method, "--out", str(tmp_path / method), "--preview-every", "0")
        rate = ("--learning-rate", "0.001", "--class-pictures", str(folder), "--json")
        code, printed, _ = run(*call, *rate, *FAST, capsys=capsys)
        assert code == 0
        values = json.loads(printed)
        assert Path(values["page"]).read_text().startswith("<!doctype html>")
        made = ("generate", f"a {values['name']}", use, values["product"], "--count", "1", "--json")
        code, printed, _ = run(*made, "--out", str(tmp_path / "p"), *FAST, capsys=capsys)
        assert code == 0
        recipe = read_parameters(json.loads(printed)["pictures"][0])
        assert bool(recipe.loras) == (method == "dreambooth-lora")


def test_each_folders_concept_is_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("robot", "teapot"):
        shutil.copytree(CONCEPTS / name, tmp_path / "all" / name)
    words = ("invert", str(tmp_path / "all"), "--each", "--out", str(tmp_path / "out"), "--set", "batch-size=1")
    options = ("--preset", "paper-single", "--set", "tying=block", "--preview-every", "0", "--json")
    code, printed, _ = run(*words, *options, *FAST, "--steps", "8", capsys=capsys)  # so that all rows move
    assert code == 0
    for values, name in zip(json.loads(printed)["concepts"], ("robot", "teapot"), strict=True):
        assert Path(values["page"]) == tmp_path / "out" / name / "run.html"
        concept = pp.Concept.load(values["concept"])
        assert (concept.token, concept.tying) == (f"<{name}>", "block")
        assert concept.provenance["learning_rate"] == 0.001


def bad_calls(tmp: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    pictures, empty, mixed, words = (tmp / n for n in ("pictures", "empty", "mixed", "words"))
    for folder in (pictures, empty, mixed, words):
        folder.mkdir()
    for folder in (pictures, mixed):
        Image.new("RGB", (8, 8)).save(folder / "a.png")
    (mixed / "notes.docx").write_text("not a picture")
    (words / "a.jpg").write_text("not a picture")
    (tmp / "file").write_text("x")
    (tmp / "each" / "inner").mkdir(parents=True)
    (tmp / "each" / "inner" / "concept.json").write_text('{"token": "<x>"}')
    layers = pp.LayerMap.from_names([("down.0.0", 8), ("mid.0", 4)])
    pp.Concept("<far>", torch.zeros(2, 1, 9), layers).save(tmp / "far.safetensors")
    generate, invert = ("generate", "a car"), ("invert", str(pictures), "--out", str(tmp / "out"))
    named = ("--token", "<x>", "--initializer", "car")
    booth, cat = ("--method", "dreambooth"), ("--class-word", "cat")
    out, far = ("--out", str(tmp / "out")), str(tmp / "far.safetensors")
    return {
        "grammar: no layers": (("generate", "a || b", *out), "is not '<layers>: text'"),
        "grammar: empty part": (("generate", "a || coarse:", *out), "has no text"),
        "grammar: no default": (("generate", "|| coarse: b", *out), "before the first"),
        "unknown layer": (("generate", "a || corse: b", *out), "no layer 'corse'"),
        "unknown layer option": ((*generate, "--layer", "corse=b", *out), "no layer 'corse'"),
        "layer option without text": ((*generate, "--layer", "coarse", *out), 'is not layers="text"'),
        "unknown token": (("generate", "a <dog>", *out), "no concept defines <dog>"),
        "a token without brackets": ((*invert, "--token", "cat", "--initializer", "car"), "looks like <cat>"),
        "a token that is a word": ((*invert, "--token", "<|endoftext|>", "--initializer", "car"), "already has a word"),
        "a token in capitals": ((*invert, "--token", "<Cat>", "--initializer", "car"), "name the placeholder token so"),
        "no token": ((*invert, "--initializer", "car"), "name the placeholder token"),
        "no initializer": ((*invert, "--token", "<x>"), "initializer"),
        "an initializer that is no word": ((*invert, "--token", "<x>", "--initializer", " "), "is no word"),
        "missing pictures": (("invert", str(tmp / "none"), *named, *out), "is missing"),
        "pictures are no picture": (("invert", str(tmp / "file"), *named, *out), "file is not a picture"),
        "empty folder": (("invert", str(empty), *named, *out), "is empty"),
        "mixed folder": (("invert", str(mixed), *named, *out), "notes.docx is no known by-product"),
        "text called jpg": (("invert", str(words), *named, *out), "a.jpg is not a picture"),
        "steps": ((*invert, *named, "--steps", "0"), "steps"),
        "each of no folders": (("invert", str(pictures), "--each", *out), "holds no folders"),
        "each without a note's field": (("invert", str(tmp / "each"), "--each", *out), "names no initializer"),
        "each with one token": (
            ("invert", str(tmp / "each"), "--each", "--token", "<x>", *out),
            "leave the option out",
        ),
        "preset": ((*invert, *named, "--preset", "paper"), "paper"),
        "a negative density": ((*invert, *named, "--set", "density=-1"), "density"),
        "method": ((*invert, *named, "--method", "lora"), "lora"),
        "an unknown setting": ((*invert, *named, "--set", "speeed=plain"), "speeed is no option of the method xti"),
        "a setting without a value": ((*invert, *named, "--set", "warmup"), "'warmup' is not name=value"),
        "a setting of no number": (
            (*invert, *named, "--set", "warmup=soon"),
            "warmup: input should be a valid integer",
        ),
        "a setting twice": ((*invert, *named, *("--set", "flip=no") * 2), "--set gives flip twice"),
        "a setting that is no setting": ((*invert, *named, "--set", "seed=2"), "use the option --seed instead"),
        "an option twice": ((*invert, *named, "--steps", "2", "--set", "steps=3"), "steps is given twice"),
        "another method's setting": ((*invert, *named, "--set", "class_count=4"), "it belongs to dreambooth and"),
        "dreambooth with a token": ((*invert, *booth, *named), "token is no option of the method dreambooth"),
        "dreambooth with a preset": ((*invert, *booth, "--preset", "paper-xti"), "preset is no option"),
        "dreambooth with --each": ((*invert, *booth, "--each"), "each is no option of the method dreambooth"),
        "dreambooth with a density": (
            (*invert, *booth, *cat, "--set", "density=1"),
            "density is no option of the method",
        ),
        "dreambooth with a rank": ((*invert, *booth, *cat, "--set", "rank=4"), "rank is no option of the method"),
        "dreambooth of no class": ((*invert, *booth), "name the class of the subject, as --class-word cat"),
        "an empty class folder": ((*invert, *booth, *cat, "--class-pictures", str(empty)), "empty is empty"),
        "no captions": ((*invert, *named, "--captions"), "a.png has no caption"),
        "dreambooth with captions": ((*invert, *booth, *cat, "--captions"), "captions is no option of the method"),
        "a class for rows": ((*invert, *named, "--class-pictures", str(pictures)), "is an option of dreambooth"),
        "rank for rows": ((*invert, *named, "--set", "rank=4"), "rank is no option of the method xti"),
        "missing LoRA": ((*generate, "--lora", str(tmp / "none"), *out), "is no .safetensors file"),
        "a concept as LoRA": ((*generate, "--lora", far, *out), "LoRA"),
        "missing concept": ((*generate, "--concept", str(tmp / "none"), *out), "no concept file"),
        "concept is no safetensors": ((*generate, "--concept", str(tmp / "file"), *out), "not a safetensors file"),
        "concept of another width": (
            (*generate, "--concept", str(tmp / "far.safetensors"), *out),
            "2 layers of width 9",
        ),
        "unknown model": ((*generate, "--model", "nobody/nothing", *out), "cannot load model 'nobody/nothing'"),
        "model is a text file": ((*generate, "--model", str(tmp / "file"), *out), "is not a .safetensors file"),
        "unknown device": ((*generate, "--device", "toaster", *out), "no device 'toaster'"),
        "absent device": ((*generate, "--device", "xpu", *out), "is not on this machine"),
        "unknown dtype": ((*generate, "--dtype", "float8", *out), "no dtype 'float8'"),
        "more steps than timesteps": ((*generate, "--steps", "1001", *out), "steps are 1 to 1000"),
        "a seed past the last": ((*generate, "--seed", str(2**63), *out), "seed"),
        "a model that is a concept": ((*generate, "--model", str(tmp / "far.safetensors"), *out), "is no whole Stable"),
        "a name too long for a file": ((*generate, "--out", str(tmp / ("x" * 300))), "File name too long"),
        "more vectors than room": ((*invert, *named, "--vectors", "99"), "vectors: captions have room for"),
        "output under a file": ((*generate, "--out", str(tmp / "file" / "x")), "is a file"),
        "run folder in use": (("invert", str(pictures), *named, "--out", str(pictures)), "nothing is overwritten"),
        "mix of a missing file": (("mix", "--shape", "a", "--style", "b", "--token", "<x>", *out), "no concept file a"),
        "mix to a token that is none": (
            ("mix", "--shape", far, "--style", far, "--token", "cat", "--shape-layers", "mid", *out),
            "looks like <cat>",
        ),
        "info of a missing picture": (("info", str(tmp / "none.png")), "no picture"),
        "info of a text file": (("info", str(tmp / "file")), "not a safetensors file"),
        "convert to the hub's options": (("convert", far, "--licence", "mit"), "are for the hub; add --to hub"),
        "convert over a file": (("convert", far, "--out", far), "nothing is overwritten"),
        "convert to kohya": (("convert", far, "--to", "kohya", *out), "cannot be written as kohya XTI"),
        "convert to a bad licence": (("convert", far, "--to", "hub", "--licence", "a b", *out), "a licence is"),
        "convert to a bad repository": (("convert", far, "--to", "hub", "--out", "hub:x"), "is owner/name"),
        "convert with a bad token": (("convert", far, "--token", "cat", *out), "looks like <cat>"),
        "info of a plain picture": (
            ("info", str(pictures / "a.png")),
            "is not a PNG with generation parameters of promptplus",
        ),
    }


with tempfile.TemporaryDirectory() as folder:
    CASES = tuple(bad_calls(Path(folder)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore")
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, message = bad_calls(tmp_path)[case]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    code, out, err = run(*arguments, capsys=capsys)
    assert code == 2, err
    assert out == ""
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_the_verbs() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    assert all(verb in listed for verb in ("demo", "generate", "invert", "mix", "info"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_begins_as_in_the_list(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    assert COMMANDS[name][1] in shown


def test_options_of_invert_have_the_types_of_the_settings() -> None:
    parameters = inspect.signature(invert).parameters
    for name in ("steps", "learning_rate", "batch_size", "vectors", "micro_batch"):
        option = get_args(parameters[name].annotation)[0]
        assert option == (InversionSettings.model_fields[name].annotation | None)


@pytest.mark.parametrize(
    "module", ["promptplus", "promptplus.cli", *sorted({f"promptplus.cli.{one}" for one, _ in COMMANDS.values()})]
)
def test_what_help_needs_imports_nothing_heavy(module: str) -> None:
    heavy = ("torch", "numpy", "diffusers", "transformers", "PIL", "matplotlib")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "promptplus", "info", "none"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "promptplus: no concept file none\n"


def test_a_run_that_fails_has_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptplus.training import step as steps

    monkeypatch.setattr(steps, "denoising_losses", lambda *a: denoising_losses(*a) * float("nan"))
    folder = next(p for p in CONCEPTS.iterdir() if p.is_dir())
    call = ("invert", str(folder), "--out", str(tmp_path / "out"), "--preview-every", "0", "--batch-size", "1")
    code, _, err = run(*call, *FAST, capsys=capsys)
    assert code == 1
    assert "the loss of" in err
