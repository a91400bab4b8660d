"""LoRA files: strength, what cannot be used, what fits only in part, and the text encoder's side."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import promptplus as pp
from promptplus.errors import ModelError
from promptplus.lora import Lora, add_loras
from tests.conftest import latents

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


def fresh(pipe: Any) -> Any:
    """A pipeline whose U-Net and text encoder may get LoRA layers."""
    parts = {name: copy.deepcopy(pipe.components[name]) for name in ("unet", "text_encoder")}
    own = type(pipe)(**{**pipe.components, **parts}, requires_safety_checker=False)
    own.set_progress_bar_config(disable=True)
    return own


def unet_lora(pipe: Any, names: list[str], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in names:
        layer = pipe.unet.get_submodule(name)
        tensors[f"unet.{name}.lora_A.weight"] = torch.randn(2, layer.in_features, generator=generator)
        tensors[f"unet.{name}.lora_B.weight"] = 0.1 * torch.randn(layer.out_features, 2, generator=generator)
    return tensors


def text_lora(pipe: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, layer in pipe.text_encoder.named_modules():
        if name.endswith(("q_proj", "v_proj")):
            tensors[f"text_encoder.{name}.lora_A.weight"] = torch.randn(2, layer.in_features, generator=generator)
            tensors[f"text_encoder.{name}.lora_B.weight"] = torch.randn(layer.out_features, 2, generator=generator)
    return tensors


def save(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.8", "a.safetensors", 0.8),
        ("C:/x/a.safetensors", "C:/x/a.safetensors", 1.0),
        ("C:/x/a.safetensors:-1.5", "C:/x/a.safetensors", -1.5),
        ("a.safetensors:.5", "a.safetensors", 0.5),
        ("a.safetensors:1e-2", "a.safetensors", 0.01),
    ],
)
def test_a_strength_follows_the_file(text: str, path: str, strength: float) -> None:
    assert Lora.parse(text) == Lora(Path(path), strength)


def test_a_file_that_has_this_name_comes_first(tmp_path: Path, pipe: Any) -> None:
    odd = tmp_path / "odd:0.5"
    odd.write_bytes(b"")
    assert Lora.parse(str(odd)) == Lora(odd)


def test_strength_scales_the_change_of_the_weights(pipe: Any, tmp_path: Path) -> None:
    path = save(unet_lora(pipe, [ATTENTION]), tmp_path / "a.safetensors")
    own = fresh(pipe)
    add_loras(own, [Lora(path, 0.5)])
    layer, tensors = own.unet.get_submodule(ATTENTION), load_file(path)
    a, b = (tensors[f"unet.{ATTENTION}.lora_{x}.weight"] for x in "AB")
    states = torch.randn(1, 5, a.shape[1])
    with torch.no_grad():
        expected = layer.base_layer(states) + 0.5 * states @ a.T @ b.T
        torch.testing.assert_close(layer(states), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"lora_unet_x.hada_w1_a": torch.ones(2, 2)}, "it is LoHa, which diffusers does not load"),
        ({"lora_unet_x.lokr_w1": torch.ones(2, 2)}, "it is LoKr"),
        ({"weight": torch.ones(2)}, "holds no LoRA layers; give a LoRA"),
        ({f"unet.{ATTENTION}.lora_A.weight": torch.tensor([[torch.nan]])}, "numbers that are not finite, in unet"),
    ],
)
def test_files_of_other_kinds_are_refused_without_a_model(tmp_path: Path, tensors: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Lora(save(tensors, tmp_path / "x.safetensors")).check()


def test_strengths_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="strength of the LoRA"):
        Lora(Path("x.safetensors"), float("nan"))


def test_the_reason_of_a_lora_that_does_not_fit_is_kept(pipe: Any, tmp_path: Path) -> None:
    tensors = {f"unet.{ATTENTION}.lora_{x}.weight": torch.ones(2, 768) for x in "A"}
    tensors |= {f"unet.{ATTENTION}.lora_B.weight": torch.ones(320, 2)}
    path = save(tensors, tmp_path / "sd15.safetensors")
    with pytest.raises(ModelError, match=r"cannot load the LoRA .*size mismatch for .*attn2\.to_k"):
        add_loras(fresh(pipe), [path])


def test_a_lora_of_which_half_fits_is_said_so(pipe: Any, tmp_path: Path) -> None:
    tensors = unet_lora(pipe, [ATTENTION])
    tensors |= {key.replace("down_blocks.0", "down_blocks.9"): value.clone() for key, value in tensors.items()}
    path = save(tensors, tmp_path / "half.safetensors")
    with pytest.warns(UserWarning, match="1 of 2 LoRA layers fit this model"):
        add_loras(fresh(pipe), [path])


@pytest.mark.parametrize("scale", [None, 1.0, 0.3, 0.0])
def test_the_text_encoders_lora_has_the_stock_strength(pipe: Any, tmp_path: Path, scale: float | None) -> None:
    """Against the stock pipeline, with ``cross_attention_kwargs={"scale": …}`` on both sides."""
    tensors = {**unet_lora(pipe, [ATTENTION]), **text_lora(pipe)}
    own = fresh(pipe)
    add_loras(own, [Lora(save(tensors, tmp_path / "both.safetensors"), 0.7)])
    given = {} if scale is None else {"cross_attention_kwargs": {"scale": scale}}
    ours = fresh(pipe)
    add_loras(ours, [Lora(tmp_path / "both.safetensors", 0.7)])
    bare = latents(own, prompt="a red house", negative_prompt="blurry", **given)
    with pp.PPlus(ours) as pplus:
        before = pplus.encode("a red house", "blurry")
        kwargs = pplus.encode("a red house", "blurry", lora_scale=scale)
        after = pplus.encode("a red house", "blurry")
        assert torch.equal(latents(ours, **kwargs, **given), bare)
    assert torch.equal(before["prompt_embeds"], after["prompt_embeds"])  # nothing of the strength is left
    if scale not in (None, 1.0):
        assert not torch.equal(kwargs["prompt_embeds"], before["prompt_embeds"])
