import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import promptplus as pp
from promptplus.errors import ModelError
from promptplus.generation import generate
from promptplus.pocket import PIPELINE
from promptplus.profiles import default_sampling
from tests.conftest import latents


def test_load_gives_a_stock_pipeline() -> None:
    pipe = pp.load("pocket", device="cpu")
    assert type(pipe) is StableDiffusionPipeline
    assert {m.dtype for m in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.float32}
    assert not any(m.training for m in (pipe.unet, pipe.vae, pipe.text_encoder))


def test_a_folder_and_its_name_are_the_same_model(pipe: Any) -> None:
    folder = pp.load(PIPELINE, device="cpu")
    folder.set_progress_bar_config(disable=True)
    assert torch.equal(latents(folder, prompt="a red house"), latents(pipe, prompt="a red house"))


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_dtype(dtype: Any) -> None:
    pipe = pp.load("pocket", device="cpu", dtype=dtype)
    assert {m.dtype for m in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.bfloat16}


def test_a_pickled_single_file_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04anything")
    with pytest.raises(ModelError, match=r"not a \.safetensors file; other single files may run code"):
        pp.load(tmp_path / "model.ckpt")


def test_a_truncated_weight_file_is_one_sentence(tmp_path: Path) -> None:
    shutil.copytree(PIPELINE, tmp_path / "model")
    weights = tmp_path / "model" / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load model") as caught:
        pp.load(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load model .*model_index\.json"):
        pp.load(tmp_path)


@pytest.mark.gpu
def test_pictures_of_a_gpu_are_those_of_the_cpu(pipe: Any) -> None:
    pictures = []
    for where in ("cpu", "cuda"):
        with pp.PPlus(pp.load("pocket", device=where)) as pplus:
            pictures.append(generate(pplus, ["a red house || coarse: a car"], [0], steps=5)[0].resize((8, 8)))
    near, far = (torch.from_numpy(np.asarray(p, np.float32)) for p in pictures)
    assert (near - far).abs().max() < 12


@pytest.mark.network
def test_the_real_model_loads_by_its_hub_id() -> None:
    with pp.PPlus(pp.load("CompVis/stable-diffusion-v1-4")) as pplus:
        assert [layer.kohya for layer in pplus.layers][-1] == "OUT11"
        assert pplus.encode("a red cube || coarse: a green lizard")["prompt_embeds"].shape == (1, 77, 16 * 768)


def test_sampling_is_as_usual_for_the_model(pipe: Any) -> None:
    other = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    assert default_sampling(pipe) == (12, 3.0)
    assert default_sampling(other) == (50, 7.5)
    assert default_sampling(other, steps=4, guidance=1.0) == (4, 1.0)
