"""Shared fixtures: the pocket pipeline once per session, P+ installed anew for each test."""

# ruff: noqa: E402 (the import hook comes before the modules it checks)

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
    os.environ["GOMP_SPINCOUNT"] = "3000"  # before torch is imported; see promptplus.cli.main

import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from tests import shapes

shapes.install()

import promptplus as pp
from promptplus.evaluation.judges import ClipJudge, DinoJudge
from promptplus.evaluation.scoring import Scorer
from promptplus.pocket import CONCEPTS, PIPELINE

JUDGE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
PICTURE = {"image_size": 32, "patch_size": 16}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with a reason, what this machine cannot run."""
    missing = {
        "gpu": None if torch.cuda.is_available() else "needs a CUDA device",
        "network": None if os.environ.get("PROMPTPLUS_NETWORK") else "needs the hub: set PROMPTPLUS_NETWORK=1",
        "browser": None if shutil.which("chromium") else "needs Chromium: apt-get install chromium",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def pipe() -> Any:
    pipe = pp.load("pocket", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pplus(pipe: Any) -> Iterator[pp.PPlus]:
    with pp.PPlus(pipe) as pplus:
        yield pplus


@pytest.fixture
def concept(pplus: pp.PPlus) -> pp.Concept:
    """A concept whose rows all differ; its meaning does not matter."""
    return make_concept(pplus, "<thing>", seed=1)


def make_concept(pplus: pp.PPlus, token: str, seed: int, vectors: int = 1) -> pp.Concept:
    generator = torch.Generator().manual_seed(seed)
    rows = 0.2 * torch.randn(len(pplus.layers), vectors, pplus.width, generator=generator)
    encoders = tuple(pplus.widths.items()) if len(pplus.widths) > 1 else ()
    return pp.Concept(token, rows, pplus.layers, initializer="object", class_word="object", encoders=encoders)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Five pictures of a bundled concept."""
    folder = sorted(p for p in CONCEPTS.iterdir() if p.is_dir())[0]
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]


@pytest.fixture(scope="session")
def random_scorer() -> Scorer:
    """Judges with random weights: what they think does not matter."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(PIPELINE / "tokenizer")
    text = {**JUDGE, "vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    text |= {"eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(text_config=text, vision_config={**JUDGE, **PICTURE}, projection_dim=8)
    side = {"size": {"height": 32, "width": 32}}
    cut = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    clip = ClipJudge(CLIPModel(config).eval(), CLIPImageProcessorPil(**cut), tokenizer)
    dino = DinoJudge(
        ViTModel(ViTConfig(**JUDGE, **PICTURE), add_pooling_layer=False).eval(), ViTImageProcessorPil(**side)
    )
    return Scorer(clip, dino, ("a photo of a {}", "a red {}"), per_prompt=1)


def latents(pipe: Any, seed: int = 0, **kwargs: Any) -> torch.Tensor:
    """A short deterministic generation, as latents."""
    call = {"num_inference_steps": 3, "generator": torch.Generator().manual_seed(seed), "output_type": "latent"}
    return pipe(**{**call, **kwargs}).images
