"""Files that are no whole LoRA are refused or noted before a model is loaded."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from promptplus.errors import ModelError
from promptplus.lora import Lora

KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
PEFT = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
PAIRS = [
    (f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight"),
    (f"{PEFT}.lora_A.weight", f"{PEFT}.lora_B.weight"),
    (f"{PEFT}.lora.down.weight", f"{PEFT}.lora.up.weight"),
    (f"{PEFT}_lora.down.weight", f"{PEFT}_lora.up.weight"),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_both_matrices_of_a_layer_have_to_be_there(tmp_path: Path, pair: tuple[str, str]) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: torch.ones(2, 2) for name in pair}, path)
    assert Lora(path).check() == 1
    for name in pair:
        save_file(
            {name: torch.ones(2, 2), **{other: torch.ones(2, 2) for other in ("a.lora_A.weight", "a.lora_B.weight")}},
            path,
        )
        with pytest.raises(ModelError, match="one of a layer's two matrices is missing"):
            Lora(path).check()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_numbers_that_are_not_finite_are_found_in_every_type(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "x.safetensors"
    for value in (1.0, float("nan")):
        save_file({name: torch.full((2, 2), value).to(dtype) for name in PAIRS[1]}, path)
        if value == 1:
            assert Lora(path).check() == 1
        else:
            with pytest.raises(ModelError, match="not finite"):
                Lora(path).check()


def test_layers_of_other_kinds_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: torch.ones(2, 2) for name in (*PAIRS[0], f"{KOHYA}2.hada_w1_a")}, path)
    with pytest.warns(UserWarning, match="LoHa layers too"):
        assert Lora(path).check() == 1
