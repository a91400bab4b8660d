"""Stable Diffusion 1.4's real architecture, with random weights: what holds on the pocket holds there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

import promptplus as pp
from benchmarks import architectures
from promptplus.editing.edit import EditSettings, invert, predictor
from promptplus.pictures import to_pixels
from promptplus.profiles import REAL, SAMPLING
from promptplus.reproduce.run import Reproduction
from promptplus.start_image import to_latents
from promptplus.training.batches import LatentCache
from promptplus.training.first_rows import initial_rows
from promptplus.training.settings import InversionSettings
from tests.conftest import latents
from tests.reproduce.test_reproduce import FOLDERS, TINY

pytestmark = pytest.mark.slow

PIXELS = 64  # latents of 8 x 8: the weights are real in size, the picture is not


@pytest.fixture(scope="module")
def stable_diffusion() -> Any:
    return architectures.stable_diffusion()


SIZE = {"height": PIXELS, "width": PIXELS, "num_inference_steps": 2}


def test_the_layers(stable_diffusion: Any) -> None:
    layers = pp.LayerMap.of(stable_diffusion.unet)
    assert [layer.kohya for layer in layers][:3] == ["IN01", "IN02", "IN04"]
    assert [layer.resolution for layer in layers] == [64, 64, 32, 32, 16, 16, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64]


def test_equal_states_equal_the_bare_denoiser(stable_diffusion: Any) -> None:
    unet = stable_diffusion.unet
    states, noisy = torch.randn(2, 77, 768), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        bare = unet(noisy, 500, encoder_hidden_states=states).sample
        with pp.per_layer(unet):
            assert torch.equal(unet(noisy, 500, encoder_hidden_states=states.repeat(1, 1, 16)).sample, bare)
        assert torch.equal(unet(noisy, 500, encoder_hidden_states=states).sample, bare)
    assert not any(m._forward_pre_hooks for m in unet.modules())


def test_encode_equals_the_stock_pipeline(stable_diffusion: Any) -> None:
    bare = latents(stable_diffusion, prompt="a red house", negative_prompt="blurry", **SIZE)
    with pp.PPlus(stable_diffusion) as pplus:
        assert torch.equal(latents(stable_diffusion, **pplus.encode("a red house", "blurry"), **SIZE), bare)
        split = latents(stable_diffusion, **pplus.encode("a red house || coarse: a car", "blurry"), **SIZE)
        two = latents(stable_diffusion, **pplus.encode(["a red house", "a car"], "blurry"), **SIZE)
    assert not torch.equal(split, bare)
    both = latents(stable_diffusion, prompt=["a red house", "a car"], negative_prompt=["blurry"] * 2, **SIZE)
    assert (two - both).norm() / both.norm() < 1e-5


def test_an_empty_edit_gives_the_picture_back(stable_diffusion: Any) -> None:
    picture = Image.effect_noise((PIXELS, PIXELS), 60).convert("RGB")
    with pp.PPlus(stable_diffusion) as pplus:
        texts = pplus.encode("a red car")
        settings = EditSettings(steps=3, skip=0.0, guidance=7.5)
        inversion = invert(pplus, to_latents(stable_diffusion, picture), texts, [0], settings)
        back = inversion.denoise(predictor(pplus, texts, 7.5))
        other = inversion.denoise(predictor(pplus, pplus.encode("a red car || fine: a green car"), 7.5))
    torch.testing.assert_close(back, inversion.path[-1], rtol=1e-4, atol=1e-4)
    assert (other - back).abs().mean() > 1e-4


def test_last_because_it_shrinks_the_pictures_xti_trains_and_saves(
    stable_diffusion: Any, pictures: list[Image.Image], tmp_path: Any
) -> None:
    stable_diffusion.unet.register_to_config(sample_size=8)
    assert LatentCache.encode(stable_diffusion.vae, to_pixels(pictures[:1], 64)).mean.shape == (2, 1, 4, 8, 8)
    with pp.PPlus(stable_diffusion) as pplus:
        concept = pp.invert(pplus, pictures[:1], "<x>", "house", steps=1, batch_size=1, progress=False)
        loaded = pp.Concept.load(concept.save(tmp_path / "x.safetensors"))
        assert loaded.rows.shape == (16, 1, 768)
        assert torch.equal(loaded.rows, concept.rows)
        start = initial_rows(pplus, "house", InversionSettings())
        assert all(not torch.equal(row, start[0]) for row in loaded.rows)
        assert len({tuple(row.flatten().tolist()) for row in loaded.rows}) == 16


def test_the_evidence_is_gathered_by_judges_of_real_size(
    stable_diffusion: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLIP ViT-B/32 and DINO ViT-S/16, with random weights, from folders as the hub has them."""
    clip, dino = tmp_path / "clip", tmp_path / "dino"
    parts = (CLIPModel(CLIPConfig()), stable_diffusion.tokenizer, CLIPImageProcessorPil())
    for part in parts:
        part.save_pretrained(clip)
    small = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
    for part in (ViTModel(small, add_pooling_layer=False), ViTImageProcessorPil()):
        part.save_pretrained(dino)
    few = REAL.prompts[:3]  # a picture takes seconds
    monkeypatch.setattr("promptplus.profiles.REAL", replace(REAL, clip=clip, dino=dino, prompts=few))
    (tmp_path / SAMPLING).write_text(json.dumps({"steps": 2, "guidance": 7.5}))
    stable_diffusion.register_to_config(_name_or_path=str(tmp_path))
    stable_diffusion.unet.register_to_config(sample_size=8)
    plan = replace(TINY, methods=TINY.methods[:2], lora=None, parts=("subsets",))
    with pp.PPlus(stable_diffusion) as pplus:
        report = Reproduction(pplus, "random", plan, FOLDERS, tmp_path / "out", lambda _: None).run()
    assert [study.name for study in report.studies] == ["attributes", "attention", "methods", "density", "two-concepts"]
    assert set(report.studies[0].values["by_judge"]) == {"clip"}
    assert len(report.studies[2].values["runs"][0]["by_prompt"]) == 3
    assert all(-1 <= run[name] <= 1 for run in report.studies[2].values["runs"] for name in ("subject", "text"))
    left = [claim.measured for claim in report.claims if claim.holds == "not measured"]
    assert len(report.claims) - len(left) == 3 + 2 + 1 + 2 + 1  # one study after the other
    assert all("--full" in one or "can be drawn" in one or "people" in one for one in left)
    assert report.write(tmp_path / "out").exists()
