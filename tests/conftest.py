"""Shared fixtures: the pocket pipeline once per session, P+ installed anew for each test."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.pocket import CONCEPTS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with a reason, what this machine cannot run."""
    missing = {
        "gpu": None if torch.cuda.is_available() else "needs a CUDA device",
        "network": None if os.environ.get("PROMPTPLUS_NETWORK") else "needs the hub: set PROMPTPLUS_NETWORK=1",
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
    return pp.Concept(token, rows, pplus.layers, initializer="object", class_word="object")


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Five pictures of a bundled concept."""
    folder = sorted(p for p in CONCEPTS.iterdir() if p.is_dir())[0]
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]


def latents(pipe: Any, seed: int = 0, **kwargs: Any) -> torch.Tensor:
    """A short deterministic generation, as latents."""
    call = {"num_inference_steps": 3, "generator": torch.Generator().manual_seed(seed), "output_type": "latent"}
    return pipe(**{**call, **kwargs}).images
