"""Every command with models of other kinds: folders of tiny random pipelines, as diffusers saves them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import save_file
from torch import zeros

import promptplus as pp
from promptplus.evaluation.scoring import Scorer
from promptplus.models import single_file_class
from promptplus.profiles import REAL, SAMPLING
from tests import tiny_models
from tests.cli.test_cli import run
from tests.reproduce.test_reproduce import FOLDERS, TINY

ALL = ("SDXL", "PixArt-Sigma", "Sana")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in ALL:
        made[name] = tmp_path_factory.mktemp("models") / name.lower()
        tiny_models.MODELS[name]().save_pretrained(made[name])
        (made[name] / SAMPLING).write_text(json.dumps({"steps": 2, "guidance": 4.5}))
    return made


@pytest.fixture
def small_judges(random_scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges with random weights for models that are not the pocket."""
    clip, dino = tmp_path / "clip", tmp_path / "dino"
    for part in (random_scorer.clip.model, random_scorer.clip.tokenizer, random_scorer.clip.processor):
        part.save_pretrained(clip)
    for part in (random_scorer.dino.model, random_scorer.dino.processor):
        part.save_pretrained(dino)
    monkeypatch.setattr("promptplus.profiles.REAL", replace(REAL, clip=clip, dino=dino, prompts=REAL.prompts[:2]))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        Image.effect_noise((128, 128), 60 + number).convert("RGB").save(folder / f"{number}.png")
    (folder / "concept.json").write_text('{"token": "<x>", "initializer": "house"}')
    return folder


def learn(model: Path, photos: Path, out: Path, *options: str) -> Path:
    call = (
        "invert",
        str(photos),
        "--steps",
        "2",
        "--batch-size",
        "1",
        "--learning-rate",
        "0.3",
        "--preview-every",
        "1",
    )
    assert run(*call, "--model", str(model), "--out", str(out), *options)[0] == 0
    return out / "concept.safetensors"


SOME_SLOW = [pytest.param(name, marks=[pytest.mark.slow] * (name != "SDXL")) for name in ALL]
"""SDXL in the fast tests, all in the slow ones."""


@pytest.mark.parametrize("name", SOME_SLOW)
def test_learning_drawing_and_mixing(
    name: str, folders: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ("--model", str(folders[name]))
    concept = learn(folders[name], photos, tmp_path / "x")
    assert len(list((tmp_path / "x" / "previews").glob("*.png"))) >= 2
    other = learn(folders[name], photos, tmp_path / "y", "--seed", "1", "--token", "<y>")
    layers = pp.Concept.load(concept).layers
    assert run("info", str(concept))[0] == 0
    group = layers.bands[0]
    mixed = ("--shape-layers", group, "--token", "<z>", "--out", str(tmp_path / "z.safetensors"))
    assert run("mix", "--shape", str(concept), "--style", str(other), *mixed)[0] == 0
    capsys.readouterr()
    prompt = f"a <z> || {group}: a red cube"
    call = ("generate", prompt, "--concept", str(tmp_path / "z.safetensors"), "--out", str(tmp_path / "p"), "--json")
    code, printed, _ = run(*call, *model, capsys=capsys)
    assert code == 0
    first = json.loads(printed)["pictures"][0]
    assert run("info", first)[0] == 0
    with Image.open(first) as picture:
        assert picture.size[0] >= 64


def test_a_group_of_another_kind_of_model_is_one_sentence(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    call = ("generate", "a house || coarse: a cat", "--model", str(folders["Sana"]))
    code, _, err = run(*call, capsys=capsys)
    assert code == 2
    assert "this model has no coarse layers; its groups: early, middle, late" in err


def test_editing_a_picture_with_sdxl(folders: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    call = ("edit", str(photos / "0.png"), "--source", "a house", "--target", "fine=a red house", "--steps", "3")
    assert run(*call, "--model", str(folders["SDXL"]), "--out", str(tmp_path / "edits"))[0] == 0


@pytest.mark.slow
def test_attributes_of_sdxls_transformers(
    folders: dict[str, Path], small_judges: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What people who tune the blocks of SDXL ask for: a table of what each transformer decides."""
    call = ("analyze", "attributes", "--pairs", "2", "--objects", "cube,lizard", "--colours", "red,blue")
    code, *_ = run(*call, "--model", str(folders["SDXL"]), "--out", str(tmp_path / "a"), capsys=capsys)
    assert code == 0
    pipe_layers = pp.LayerMap.of(tiny_models.sdxl().unet)
    alone = json.loads((tmp_path / "a" / "attributes.json").read_text())["values"]["by_judge"]["clip"]["alone"]
    assert {name for name in alone["object"] if not name.startswith("block")} == set(pipe_layers.transformers)
    assert (tmp_path / "a" / "attributes-single.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PixArt-Sigma", "Sana"])
def test_attributes_of_a_diffusion_transformer(
    name: str, folders: dict[str, Path], small_judges: None, tmp_path: Path
) -> None:
    call = ("analyze", "attributes", "--pairs", "2", "--objects", "cube,lizard", "--colours", "red,blue")
    assert run(*call, "--model", str(folders[name]), "--out", str(tmp_path / "a"))[0] == 0
    found = json.loads((tmp_path / "a" / "attributes.json").read_text())["values"]["by_judge"]["clip"]
    assert set(found["alone"]["object"]) == {f"block.{i}" for i in range(5)}
    assert "windows" not in found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SDXL", "PixArt-Sigma"])
def test_attention(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    call = ("analyze", "attention", "--prompts", "2", "--seeds", "1", "--objects", "cube,lizard")
    assert run(*call, "--model", str(folders[name]), "--out", str(tmp_path / "a"))[0] == 0
    shares = json.loads((tmp_path / "a" / "attention.json").read_text())["values"]["of_all"]
    assert all(share > 0 for share in shares["object"])
    assert all(share > 0 for share in shares["start"]) == (name == "SDXL")  # T5 has no token at the start


def test_attention_is_refused_where_an_instruction_stands_before(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ("analyze", "attention", "--prompts", "2", "--seeds", "1", "--objects", "cube,lizard")
    code, _, err = run(*call, "--model", str(folders["Sana"]), "--out", str(tmp_path / "a"), capsys=capsys)
    assert code == 2
    assert "attention maps are not made for Sana" in err


@pytest.mark.slow
def test_density_and_evaluation_of_sdxl(
    folders: dict[str, Path], photos: Path, small_judges: None, tmp_path: Path
) -> None:
    model = ("--model", str(folders["SDXL"]))
    concept = learn(folders["SDXL"], photos, tmp_path / "x")
    assert run("analyze", "density", str(concept), "--out", str(tmp_path / "d"), *model)[0] == 0
    few = ("--method", "xti@1", "--method", "word", "--baseline", "word", "--per-prompt", "1")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "photos").symlink_to(photos)
    assert run("evaluate", str(tmp_path / "all"), *few, "--out", str(tmp_path / "e"), *model)[0] == 0


@pytest.mark.slow
def test_the_whole_evidence_of_sdxl(
    folders: dict[str, Path], small_judges: None, tmp_path: Path, monkeypatch: Any
) -> None:
    plan = replace(TINY, lora=None, methods=TINY.methods[:2])
    monkeypatch.setattr("promptplus.reproduce.plan.QUICK", plan)
    pictures = tmp_path / "concepts"
    pictures.mkdir()
    for folder in FOLDERS:
        (pictures / folder.name).symlink_to(folder)
    call = ("reproduce", "--quick", "--concepts", str(pictures), "--out", str(tmp_path / "r"))
    assert run(*call, "--model", str(folders["SDXL"]))[0] == 0
    assert (tmp_path / "r" / "report.html").exists()


def test_files_of_one_model_are_told_apart_by_their_tensors(tmp_path: Path) -> None:
    unet, second = "model.diffusion_model.x", "conditioner.embedders.1.model.y"
    for names, kind in (([unet], "StableDiffusionPipeline"), ([unet, second], "StableDiffusionXLPipeline")):
        save_file({name: zeros(1) for name in names}, tmp_path / "m.safetensors")
        assert single_file_class(tmp_path / "m.safetensors") == kind
    save_file({unet: zeros(1), "conditioner.embedders.0.model.y": zeros(1)}, tmp_path / "r.safetensors")
    with pytest.raises(pp.PromptPlusError, match="the refiner of Stable Diffusion XL"):
        pp.load(tmp_path / "r.safetensors")
    save_file({"lora_A": zeros(1)}, tmp_path / "l.safetensors")
    with pytest.raises(pp.PromptPlusError, match="is no whole Stable Diffusion model"):
        pp.load(tmp_path / "l.safetensors")


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}, "together"),
        ({"_class_name": "KandinskyV22Pipeline", "unet": ["diffusers", "UNet2DConditionModel"]}, "picture embeddings"),
    ],
)
def test_other_models_are_refused_before_their_weights_are_read(
    index: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    code, _, err = run("generate", "a cat", "--model", str(tmp_path), capsys=capsys)
    assert code == 2
    assert f"P+ does not support {index['_class_name']}" in err
    assert reason in err
