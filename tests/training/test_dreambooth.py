"""DreamBooth: a copy of the denoiser learns, in full or through LoRA, and stock diffusers loads what comes out."""

import copy
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from PIL import Image
from torch import nn

import promptplus as pp
from promptplus.errors import (
    ConceptError,
    ModelError,
    OutputError,
    PictureError,
    SettingsError,
    TrainingError,
    WriteError,
)
from promptplus.generation import generate
from promptplus.lora import add_loras
from promptplus.pictures import to_pixels
from promptplus.pocket.world import caption, random_scene
from promptplus.profiles import default_sampling
from promptplus.report.training_page import run_page
from promptplus.training import (
    denoiser as subject,
)
from promptplus.training import (
    denoiser_copies as denoisers,
)
from promptplus.training import (
    previews,
)
from promptplus.training import (
    prior_images as class_pictures,
)
from promptplus.training import (
    step as steps,
)
from promptplus.training.batches import Batch, BatchRule, LatentCache
from promptplus.training.denoiser import MAX_NORM, WEIGHT_DECAY
from promptplus.training.denoiser_copies import duplicate, save_pipeline
from promptplus.training.dreambooth import DreamBoothResult, dreambooth
from promptplus.training.noise_schedule import training_scheduler
from promptplus.training.prior_images import prior_images
from promptplus.training.settings import DreamBoothMethod
from promptplus.training.trainable import frozen
from tests.conftest import latents

Pictures = list[Image.Image]
WEIGHTS = "diffusion_pytorch_model.safetensors"
METHODS: tuple[DreamBoothMethod, ...] = ("dreambooth", "dreambooth-lora")
RATE = {"dreambooth": 1e-4, "dreambooth-lora": 1e-2}


@pytest.fixture
def exact() -> Any:
    with pp.PPlus(pp.load("pocket", device="cpu", dtype=torch.float64)) as pplus:
        yield pplus


@pytest.fixture
def others(tmp_path: Path, pictures: Pictures) -> Path:
    """Pictures of a class."""
    folder = tmp_path / "class"
    folder.mkdir()
    for number, picture in enumerate(pictures[2:]):
        picture.save(folder / f"{number}.png")
    return folder


def learn(pplus: pp.PPlus, pictures: Pictures, others: Path, out: Path, **options: Any) -> DreamBoothResult:
    method = options.get("method", "dreambooth")
    call = {"steps": 2, "learning_rate": RATE[method], "preview_every": 0, "progress": False, **options}
    return dreambooth(pplus, pictures[:2], "house", class_pictures=others, out=out, **call)


def weights(path: Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return StableDiffusionPipeline.from_pretrained(path, dtype=dtype).unet.state_dict()


# ---- what comes out


def test_the_pipeline_folder_loads_in_stock_diffusers(
    pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path
) -> None:
    before = copy.deepcopy(pplus.pipe.unet.state_dict())
    run = learn(pplus, pictures, others, tmp_path / "x")
    assert run.product == tmp_path / "x" / "pipeline"
    stock = DiffusionPipeline.from_pretrained(run.product)
    after = stock.unet.state_dict()
    assert list(after) == list(before)
    assert all(not torch.equal(after[name], before[name]) for name, weight in pplus.pipe.unet.named_parameters())
    for part in ("vae", "text_encoder"):
        theirs = getattr(stock, part).state_dict()
        assert all(torch.equal(theirs[k], v) for k, v in getattr(pplus.pipe, part).state_dict().items())
    assert all(torch.equal(pplus.pipe.unet.state_dict()[k], v) for k, v in before.items()), "ours must stay as it was"
    assert all(weight.requires_grad for weight in pplus.pipe.unet.parameters())
    assert default_sampling(pp.load(run.product)) == default_sampling(pplus.pipe)
    assert run.name == "sks house"
    assert 0 < run.moved < 0.1
    assert "sks house" in run_page(run)
    assert not [p for p in (tmp_path / "x").iterdir() if p.name.startswith(".pipeline")]


def test_the_lora_file_loads_in_stock_diffusers(
    pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned: list[Any] = []
    save = subject.save_lora
    monkeypatch.setattr(subject, "save_lora", lambda pipe, unet, path: (tuned.append(unet), save(pipe, unet, path)))
    run = learn(pplus, pictures, others, tmp_path / "x", method="dreambooth-lora")
    assert run.product == tmp_path / "x" / "pytorch_lora_weights.safetensors"
    assert run.moved > 0
    stock = pp.load("pocket", device="cpu")
    states = torch.randn(1, 10, pplus.width, generator=torch.Generator().manual_seed(0))
    noisy, call = (
        torch.randn(1, stock.unet.config.in_channels, 16, 16),
        {"encoder_hidden_states": states, "return_dict": False},
    )
    with torch.no_grad():
        plain = stock.unet(noisy, 500, **call)[0]
        stock.load_lora_weights(run.product.parent)
        torch.testing.assert_close(stock.unet(noisy, 500, **call)[0], tuned[0](noisy, 500, **call)[0])
        assert (stock.unet(noisy, 500, **call)[0] - plain).abs().max() > 1e-3


def test_p_plus_on_top_of_a_lora_is_exact(pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path) -> None:
    path = learn(pplus, pictures, others, tmp_path / "x", method="dreambooth-lora").product
    theirs, ours = (pp.load("pocket", device="cpu") for _ in range(2))
    theirs.load_lora_weights(path.parent)
    add_loras(ours, [path])
    for pipe in (theirs, ours):
        pipe.set_progress_bar_config(disable=True)
    with pp.PPlus(ours) as layered:
        assert torch.equal(latents(ours, **layered.encode("a red house")), latents(theirs, prompt="a red house"))


# ---- how it is trained


def test_two_steps_are_the_plain_recipe_in_float64(
    exact: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path
) -> None:
    """Mean squared error of subject and class, gradient clipping, AdamW; written as diffusers' own script has it."""
    options: dict[str, Any] = {"batch_size": 2, "prior_weight": 0.5, "seed": 3}
    learn(exact, pictures, others, tmp_path / "x", **options)
    ours = weights(tmp_path / "x" / "pipeline", torch.float64)
    pipe, scheduler = exact.pipe, training_scheduler(exact.pipe)
    unet = duplicate(pipe.unet)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=RATE["dreambooth"], weight_decay=WEIGHT_DECAY)
    files = [Image.open(path).convert("RGB") for path in sorted(others.iterdir())]
    with frozen(pipe.vae):
        caches = [LatentCache.encode(pipe.vae, to_pixels(p, 64)) for p in (pictures[:2], files)]
    ids = pipe.tokenizer(
        ["a photo of a sks house", "a photo of a house"], padding="max_length", return_tensors="pt"
    ).input_ids
    states = pipe.text_encoder(ids)[0].detach()
    for step in range(2):
        loss = torch.zeros((), dtype=torch.float64)
        for cache, key, text, share in ((caches[0], "", 0, 1.0), (caches[1], "/class", 1, 0.5)):
            batch = Batch.of(f"3/sks house{key}", step, cache, BatchRule(2, 1000, 1))
            clean, noise = cache.sample(batch), batch.noise
            noisy = scheduler.add_noise(clean, noise, batch.timestep)
            predicted = unet(noisy.double(), batch.timestep, states[[text, text]]).sample
            target = scheduler.get_velocity(clean, noise, batch.timestep).double()
            loss = loss + share * F.mse_loss(predicted, target)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), MAX_NORM)
        optimiser.step()
    for name, weight in unet.state_dict().items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_goes_on_to_the_same_bits(
    pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path, method: DreamBoothMethod
) -> None:
    straight = learn(pplus, pictures, others, tmp_path / "straight", method=method, steps=3)
    learn(pplus, pictures, others, tmp_path / "x", method=method, steps=1)
    run = learn(pplus, pictures, others, tmp_path / "x", method=method, steps=3)
    assert (run.resumed, run.losses, run.moved) == (1, straight.losses, straight.moved)
    for path in straight.product.rglob("*.safetensors") if method == "dreambooth" else [straight.product]:
        twin = run.product / path.relative_to(straight.product)
        assert twin.read_bytes() == path.read_bytes()


def test_a_finished_run_does_nothing(
    pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "SEEDS", (0,))
    first = learn(pplus, pictures, others, tmp_path / "x", preview_every=2)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = learn(pplus, pictures, others, tmp_path / "x", preview_every=2)
    assert (again.resumed, again.losses, again.moved) == (2, first.losses, first.moved)
    assert len(again.class_word_previews) == 1
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_micro_batches_change_memory_and_nothing_else(
    exact: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path
) -> None:
    for name, micro_batch in (("whole", None), ("one", 1)):
        learn(exact, pictures, others, tmp_path / name, steps=1, batch_size=2, micro_batch=micro_batch)
    whole, one = (weights(tmp_path / name / "pipeline") for name in ("whole", "one"))
    for name, weight in whole.items():
        torch.testing.assert_close(weight, one[name], rtol=1e-6, atol=1e-7)


def test_without_its_class_only_the_subject_counts(
    exact: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path
) -> None:
    """As with a class whose weight is next to nothing."""
    call: dict[str, Any] = {"steps": 1, "learning_rate": 1e-4, "preview_every": 0, "progress": False}
    dreambooth(exact, pictures[:2], "house", out=tmp_path / "none", prior_weight=0.0, **call)
    learn(exact, pictures, others, tmp_path / "tiny", steps=1, prior_weight=1e-12)
    none, tiny = (weights(tmp_path / name / "pipeline", torch.float64) for name in ("none", "tiny"))
    for name, weight in none.items():
        torch.testing.assert_close(weight, tiny[name], rtol=0, atol=1e-8)


def test_a_run_without_effect_says_so(pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the denoiser hardly moved"):
        learn(pplus, pictures, others, tmp_path / "x", learning_rate=1e-9, steps=1)


def test_other_class_pictures_are_another_run(
    pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path
) -> None:
    learn(pplus, pictures, others, tmp_path / "x", steps=1)
    next(others.iterdir()).unlink()
    with pytest.raises(SettingsError, match="was begun with other class pictures"):
        learn(pplus, pictures, others, tmp_path / "x", steps=2)


def test_two_loras_add_up(pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path) -> None:
    call: dict[str, Any] = {"method": "dreambooth-lora", "steps": 1}
    paths = [learn(pplus, pictures, others, tmp_path / str(seed), seed=seed, **call).product for seed in (0, 1)]
    outputs = []
    for chosen in ([], paths[:1], paths[1:], paths):
        pipe = pp.load("pocket", device="cpu", dtype=torch.float64)
        add_loras(pipe, chosen)
        query = pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_q
        with torch.no_grad():
            outputs.append(query(torch.eye(query.in_features, dtype=torch.float64)))
    plain, first, second, both = outputs
    assert (first - second).abs().max() > 1e-6
    torch.testing.assert_close(both - plain, (first - plain) + (second - plain), rtol=1e-6, atol=1e-9)


def test_a_denoiser_with_a_lora_is_refused(pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path) -> None:
    path = learn(pplus, pictures, others, tmp_path / "x", method="dreambooth-lora", steps=1).product
    pipe = pp.load("pocket", device="cpu")
    add_loras(pipe, [path])
    with pp.PPlus(pipe) as tuned, pytest.raises(ModelError, match="has a LoRA loaded"):
        learn(tuned, pictures, others, tmp_path / "y", steps=1)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_finite_keeps_the_last_good_weights(
    pplus: pp.PPlus,
    pictures: Pictures,
    others: Path,
    tmp_path: Path,
    method: DreamBoothMethod,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = learn(pplus, pictures, others, tmp_path / "good", method=method, steps=1).product
    losses, calls = steps.denoising_losses, iter(range(10))

    def sick(*arguments: Any) -> torch.Tensor:
        return losses(*arguments) * (float("nan") if next(calls) else 1.0)

    monkeypatch.setattr(steps, "denoising_losses", sick)
    with pytest.raises(TrainingError, match="last good weights are in"):
        learn(pplus, pictures, others, tmp_path / "x", method=method, steps=3)
    kept = tmp_path / "x" / ("last_good" if method == "dreambooth" else "last_good.safetensors")
    part = f"unet/{WEIGHTS}" if method == "dreambooth" else ""
    assert (kept / part if part else kept).read_bytes() == (good / part if part else good).read_bytes()


def test_a_pipeline_that_cannot_be_written_leaves_the_old_one(pipe: Any, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    save_pipeline(pipe, folder)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoisers, "sync", lambda _path: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(WriteError, match="No space left on device"):
            save_pipeline(pipe, folder)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    assert [p.name for p in tmp_path.iterdir()] == ["pipeline"]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_goes_the_same_way(
    pictures: Pictures, others: Path, tmp_path: Path, method: DreamBoothMethod
) -> None:
    moved = []
    for dtype in (torch.float32, torch.bfloat16):
        with pp.PPlus(pp.load("pocket", device="cpu", dtype=dtype)) as pplus:
            run = learn(pplus, pictures, others, tmp_path / str(dtype), method=method, steps=1)
        moved.append(run.losses[0])
        if method == "dreambooth":
            assert pp.load(run.product, dtype=dtype).unet.dtype is dtype
    assert moved[1] == pytest.approx(moved[0], rel=0.05)


# ---- the class


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder(*names: str) -> Path:
        (tmp_path / names[-1]).mkdir(exist_ok=True)
        return tmp_path / names[-1]

    monkeypatch.setattr(class_pictures, "cached_assets_path", folder)


@pytest.mark.usefixtures("cached")
def test_the_class_is_drawn_once(pplus: pp.PPlus, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    dies, roomless = [True], False

    def generate(_pplus: pp.PPlus, prompts: list[str], seeds: list[int], **options: bool) -> Pictures:
        assert options == {"safety_checker": False}
        if roomless and len(seeds) > 1:
            raise RuntimeError("CUDA out of memory")
        drawn.extend(seeds)
        if dies and len(drawn) == 6:
            dies.clear()
            raise KeyboardInterrupt
        return [Image.new("RGB", (64, 64), (seed, 0, 0)) for seed in seeds]

    monkeypatch.setattr(class_pictures, "generate", generate)
    with pytest.raises(KeyboardInterrupt):
        prior_images(pplus, "a photo of a house", 6, 9, False)
    paths = prior_images(pplus, "a photo of a house", 6, 9, False)
    assert [Image.open(path).getpixel((0, 0)) for path in paths] == [(seed, 0, 0) for seed in range(9, 15)]
    drawn.clear()
    assert prior_images(pplus, "a photo of a house", 6, 9, False) == paths
    assert not drawn
    roomless = True
    calls = (("a house", 6, 9), ("a photo of a house", 6, 8), ("a photo of a house", 5, 9))
    assert len({prior_images(pplus, *call, False)[0].parent for call in calls} | {paths[0].parent}) == 4


@pytest.mark.usefixtures("cached")
def test_the_class_is_what_the_model_draws(pplus: pp.PPlus) -> None:
    (path,) = prior_images(pplus, "a photo of a house", 1, 4, False)
    (picture,) = generate(pplus, ["a photo of a house"], [4])
    assert list(Image.open(path).get_flattened_data()) == list(picture.get_flattened_data())


def test_no_caption_of_the_pocket_uses_the_identifier(pipe: Any) -> None:
    rng = random.Random(0)
    used = {i for _ in range(3000) for i in pipe.tokenizer(caption(random_scene(rng), rng)).input_ids}
    assert not used & set(pipe.tokenizer("sks", add_special_tokens=False).input_ids)


# ---- refusals


def test_bad_combinations_are_refused(pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="density is no option of the method dreambooth"):
        learn(pplus, pictures, others, tmp_path / "x", density=1.0)
    with pytest.raises(SettingsError, match="rank is no option of the method dreambooth"):
        learn(pplus, pictures, others, tmp_path / "x", rank=8)
    with pytest.raises(SettingsError, match="class pictures are not used with prior_weight 0"):
        learn(pplus, pictures, others, tmp_path / "x", prior_weight=0.0)
    with pytest.raises(SettingsError, match="identifier"):
        learn(pplus, pictures, others, tmp_path / "x", identifier="")
    for path in others.iterdir():
        path.unlink()
    with pytest.raises(PictureError, match=r"class is empty"):
        learn(pplus, pictures, others, tmp_path / "x")
    with pytest.raises(ConceptError, match="name the class"):
        dreambooth(pplus, pictures, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_file_that_is_no_lora_is_refused(pipe: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no \.safetensors file"):
        add_loras(pipe, [tmp_path / "missing.safetensors"])
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"junk")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        add_loras(pipe, [junk])
    concept = next((Path(subject.__file__).parents[1] / "pocket" / "learned").glob("*.safetensors"))
    with pytest.raises(ModelError, match="LoRA"):
        add_loras(pipe, [concept])


# ---- what cannot work is refused before anything is drawn


@pytest.mark.parametrize("rank", [65, 100_000])  # the pocket's outermost layers are 64 wide
def test_a_rank_that_no_layer_has_room_for_is_refused(
    pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path, rank: int
) -> None:
    with pytest.raises(SettingsError, match=f"rank: the layers .* have room for a rank of 64, not of {rank}"):
        learn(pplus, pictures, others, tmp_path / "x", method="dreambooth-lora", rank=rank)
    assert not (tmp_path / "x").exists()


def test_a_cache_that_cannot_be_written_is_named(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an unwritable home. It is found before the class is drawn, and before the command line loads a model."""
    (tmp_path / "home").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "home" / "assets"))
    monkeypatch.setattr(class_pictures, "generate", lambda *_: pytest.fail("a picture was drawn"))
    with pytest.raises(OutputError, match=r"home is a file.*set HF_HOME.*--class-pictures"):
        dreambooth(pplus, pictures, "house", out=tmp_path / "x", class_count=1, progress=False)
    assert not (tmp_path / "x").exists()
    monkeypatch.setattr(class_pictures, "cached_assets_path", lambda *_: (_ for _ in ()).throw(ValueError("Corrupted")))
    with pytest.raises(OutputError, match=r"Corrupted; set HF_HOME"):
        prior_images(pplus, "a house", 1, 0, False)


def test_a_disk_that_is_full_of_class_pictures_is_no_mistake_of_the_caller(
    pplus: pp.PPlus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_pictures, "cached_assets_path", lambda *_: tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(WriteError, match=r"No space left on device; set HF_HOME"):
        prior_images(pplus, "a house", 1, 0, False)


@pytest.mark.parametrize("text", ["", "null", "{}", "[" * 100_000, '{"settings": {}, "moved": "1"}'])
def test_a_damaged_note_of_the_end_is_written_again(
    pplus: pp.PPlus, pictures: Pictures, others: Path, tmp_path: Path, text: str
) -> None:
    run = learn(pplus, pictures, others, tmp_path / "x", method="dreambooth-lora", steps=1)
    (tmp_path / "x" / "finished.json").write_text(text)
    with pytest.warns(UserWarning, match=r"finished\.json does not say how the training ended.*are saved again"):
        again = learn(pplus, pictures, others, tmp_path / "x", method="dreambooth-lora", steps=1)
    assert (again.resumed, again.moved) == (1, run.moved)
