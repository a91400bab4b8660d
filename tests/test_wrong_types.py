"""Values of a wrong type in the Python calls: one sentence of ours, before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.errors import PromptPlusError
from promptplus.mixing import interpolate
from promptplus.training.dreambooth import dreambooth
from promptplus.training.invert import run_inversion, run_inversions
from promptplus.training.settings import InversionSettings, LoraSettings, validated

WRONG: dict[str, Any] = {
    "a number": 5,
    "a fraction": 1.5,
    "bytes": b"x",
    "a list": ["a"],
    "a dictionary": {"a": 1},
    "an array": np.ones((2, 2)),
    "a tensor": torch.ones(2, 2),
    "an object": object(),
}
PICTURES = [Image.new("RGB", (16, 16))]
ARGUMENTS = ("token", "initializer", "class_word", "kind", "out", "preset", "preview_every", "log_with", "progress")


def refused(call: Callable[[], Any]) -> None:
    """Check that a call raises one sentence of ours."""
    with pytest.raises(PromptPlusError) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", [*ARGUMENTS, "pictures", "captions", "steps", "learning_rate", "method"])
def test_arguments_of_invert(pplus: pp.PPlus, name: str, value: Any) -> None:
    if name in ("steps", "preview_every", "learning_rate") and isinstance(value, int | float):
        pytest.skip("a right value")
    if name == "log_with" and isinstance(value, list):
        pytest.skip("no such tracker: found out later")
    if name == "pictures" and isinstance(value, np.ndarray | torch.Tensor):
        pytest.skip("a picture that is too small, see test_picture_folders")
    call: dict[str, Any] = {"pictures": PICTURES, "token": "<q>", "initializer": "car", "steps": 1, name: value}
    refused(lambda: run_inversion(pplus, **call))
    if name == "out":
        refused(lambda: run_inversions(pplus, [], out=value))


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_a_pipeline_in_place_of_p_plus(value: Any, pipe: Any) -> None:
    for given in (value, pipe):
        with pytest.raises(PromptPlusError, match=r"the first argument is a PPlus, as PPlus\(load\(\)\), not a"):
            pp.invert(given, PICTURES, "<q>", "car")
        refused(lambda given=given: dreambooth(given, PICTURES, "car", out="x"))


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_arguments_of_dreambooth(pplus: pp.PPlus, value: Any) -> None:
    for name in ("class_word", "kind", "out", "log_with", "identifier", "rank"):
        right = (name == "log_with" and isinstance(value, list)) or (name == "identifier" and isinstance(value, bytes))
        if not right and not (name == "rank" and isinstance(value, int)):
            call: dict[str, Any] = {"class_word": "car", "out": "x", "method": "dreambooth-lora", name: value}
            refused(lambda call=call: dreambooth(pplus, PICTURES, **call))


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_what_takes_a_concept_or_makes_one(pplus: pp.PPlus, concept: pp.Concept, value: Any) -> None:
    refused(lambda: pp.mix(value, concept, "<m>"))
    refused(lambda: pp.mix(concept, value, "<m>"))
    refused(lambda: pp.mix(concept, concept, value))
    refused(lambda: pp.mix(concept, concept, "<m>", value))
    refused(lambda: interpolate(concept, concept, "<m>", 0.5, value))
    refused(lambda: pplus.add(value))
    refused(lambda: pplus.forget(value))
    refused(lambda: pp.Concept.load(value))
    refused(lambda: concept.save(value))
    refused(lambda: pp.load(value))
    refused(lambda: pp.load("pocket", device=value))
    refused(lambda: pp.load("pocket", dtype=value))


FIELDS = ("layers", "tying", "initializer", "class_word", "kind", "base_model", "token_table", "provenance")


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_a_concept(concept: pp.Concept, name: str, value: Any, tmp_path: Path) -> None:
    if name == "provenance" and isinstance(value, dict):
        pytest.skip("a right value")
    fields = {"token": "<q>", "rows": concept.rows, "layers": concept.layers, name: value}
    refused(lambda: pp.Concept(**fields).save(tmp_path / "q.safetensors"))


@pytest.mark.parametrize("share", ["x", None, float("nan"), float("inf"), [0.5]])
def test_the_share_of_an_interpolation(concept: pp.Concept, share: Any) -> None:
    with pytest.raises(PromptPlusError, match=r"share is a number, as 0\.5, not"):
        interpolate(concept, concept, "<m>", share)


@pytest.mark.parametrize("name", ["learning_rate", "min_snr", "timestep_bias", "prior_weight", "density"])
def test_settings_are_finite(name: str) -> None:
    kind = LoraSettings if name in LoraSettings.model_fields else InversionSettings
    for value in (float("inf"), float("nan")):
        with pytest.raises(PromptPlusError, match=f"^{name}: input should be"):
            validated(kind, {name: value})
