"""Weights that are loaded into a stock pipeline: LoRA, IP-Adapter, textual inversions."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

import promptplus as pp
from promptplus.errors import ConceptError
from tests.compatibility.cases import UNETS, Expected, check, check_both_orders, compatible, draw

# ---- LoRA

LORA_LAYERS = {"unet": "unet_lora_layers", "transformer": "transformer_lora_layers"}
LORA_LAYERS |= {"text_encoder": "text_encoder_lora_layers", "text_encoder_2": "text_encoder_2_lora_layers"}


def lora(pipe: Any, folder: Path) -> Path:
    """A LoRA file of the denoiser, and of CLIP text encoders, made by peft and saved by the stock pipeline."""
    made = copy.deepcopy(pipe)
    torch.manual_seed(0)
    weights: dict[str, Any] = {}
    for name, argument in LORA_LAYERS.items():
        if (part := getattr(made, name, None)) is None or (name == "text_encoder" and hasattr(made, "transformer")):
            continue
        targets = ["q_proj", "v_proj"] if "text" in name else ["to_k", "to_v"]
        part.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False))
        weights[argument] = get_peft_model_state_dict(part)
    made.save_lora_weights(folder, **weights)
    return folder


@compatible("LoRA, loaded before or after P+", *UNETS, "Sana")
def test_lora(pipe: Any, plain: Expected, tmp_path: Path) -> None:
    folder = lora(pipe, tmp_path)
    expected = check_both_orders(pipe, lambda pipe: pipe.load_lora_weights(folder))
    assert not torch.equal(expected.stock, plain.stock)


@pytest.mark.slow
@compatible("LoRA, unloaded while P+ is there", *UNETS, "Sana")
def test_lora_that_is_unloaded(pipe: Any, plain: Expected, tmp_path: Path) -> None:
    with pp.PPlus(pipe) as pplus:
        pipe.load_lora_weights(lora(pipe, tmp_path))
        pipe.unload_lora_weights()
        check(pplus, plain)


@pytest.mark.slow
@compatible("LoRA, fused into the weights", *UNETS, "Sana")
def test_fused_lora(pipe: Any, tmp_path: Path) -> None:
    def load(pipe: Any) -> None:
        pipe.load_lora_weights(folder)
        pipe.fuse_lora()

    folder = lora(pipe, tmp_path)
    check_both_orders(pipe, load)


# ---- IP-Adapter

FEATURES = 8
"""Width of the image encoder's features."""


def ip_adapter(unet: Any) -> dict[str, dict[str, Tensor]]:
    """The state dict of an IP-Adapter with four picture tokens, as its release names them."""
    width, generator = unet.config.cross_attention_dim, torch.Generator().manual_seed(0)

    def random(*size: int) -> Tensor:
        return 0.3 * torch.randn(*size, generator=generator)

    projection = {"proj.weight": random(4 * width, FEATURES), "proj.bias": random(4 * width)}
    projection |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    keys: dict[str, Tensor] = {}
    for number, name in enumerate(name for name in unet.attn_processors if "attn2" in name):
        inner = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        keys |= {f"{2 * number + 1}.to_{key}_ip.weight": random(inner, width) for key in "kv"}
    return {"image_proj": projection, "ip_adapter": keys}


@compatible("IP-Adapter, loaded before or after P+", *UNETS)
def test_an_ip_adapter(pipe: Any, plain: Expected) -> None:
    """The oracle passes the picture tokens on, and exchanges the text states beside them."""
    torch.manual_seed(0)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**size, image_size=32, patch_size=16, projection_dim=FEATURES)
    cut = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    parts = {
        "image_encoder": CLIPVisionModelWithProjection(vision).eval(),
        "feature_extractor": CLIPImageProcessorPil(**cut),
    }

    def load(pipe: Any) -> None:
        pipe.register_modules(**parts)
        pipe.load_ip_adapter(ip_adapter(pipe.unet), subfolder="", weight_name="")

    expected = check_both_orders(pipe, load, ip_adapter_image=Image.linear_gradient("L").convert("RGB"))
    assert not torch.equal(expected.stock, plain.stock)


# ---- textual inversions


@compatible("stock textual inversion", *UNETS)
def test_a_stock_textual_inversion(pipe: Any, tmp_path: Path) -> None:
    """It has two vectors for each text encoder."""
    encoders = [(pipe.text_encoder, pipe.tokenizer)]
    if hasattr(pipe, "text_encoder_2"):
        encoders.append((pipe.text_encoder_2, pipe.tokenizer_2))
    for number, (encoder, tokenizer) in enumerate(encoders):
        file = tmp_path / f"{number}.safetensors"
        save_file({"<stock>": torch.randn(2, encoder.config.hidden_size)}, file)
        pipe.load_textual_inversion(file, token="<stock>", text_encoder=encoder, tokenizer=tokenizer)
    stock = draw(pipe, prompt="a red <stock>", negative_prompt="blurry")
    with pp.PPlus(pipe) as pplus:
        assert torch.equal(draw(pipe, **pplus.encode("a red <stock>", "blurry")), stock)
        rows = torch.zeros(len(pplus.layers), 1, pplus.width)
        with pytest.raises(ConceptError, match="already has a word '<stock>'"):
            pplus.add(pp.Concept("<stock>", rows, pplus.layers))
