"""Kinds of denoisers: real layer maps without weights, SDXL's real size, and the reasons of those that are refused."""

import os
from typing import Any

import diffusers
import pytest
import torch

import promptplus as pp
from benchmarks import architectures
from promptplus.errors import LayerError, ModelError
from promptplus.layers import LayerMap
from tests import tiny_models

FREE_MEMORY = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_groups_of_a_transformer_are_thirds_of_its_depth() -> None:
    layers = LayerMap.of(tiny_models.pixart().transformer)
    assert layers.names == ("block.0", "block.1", "block.2", "block.3", "block.4")
    assert [layers.group(name) for name in ("early", "middle", "late")] == [(0, 1), (2, 3), (4,)]
    assert (layers.subsets()[0], layers.subsets()[-1]) == ((), (0, 1, 2, 3, 4))
    assert layers.select("early,block.4") == (0, 1, 4)
    with pytest.raises(LayerError, match="this model has no coarse layers; its groups: early, middle, late"):
        layers.select("coarse")


@pytest.fixture(scope="module")
def real_sdxl() -> Any:
    """The U-Net of Stable Diffusion XL without weights."""
    with torch.device("meta"):
        return diffusers.UNet2DConditionModel(**architectures.SDXL_UNET)


def test_the_layers_of_stable_diffusion() -> None:
    with torch.device("meta"):
        layers = LayerMap.of(diffusers.UNet2DConditionModel(**architectures.UNET))
    assert [layer.kohya for layer in layers] == [
        *("IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "MID"),
        *(f"OUT{number:02d}" for number in range(3, 12)),
    ]
    assert layers.transformers == {name: (number,) for number, name in enumerate(layers.names)}


def test_the_layers_of_sdxl(real_sdxl: Any) -> None:
    layers = LayerMap.of(real_sdxl)
    sizes = {name: len(part) for name, part in layers.transformers.items()}
    assert len(layers) == 70
    assert sizes == {
        "down.1.0": 2,
        "down.1.1": 2,
        "down.2.0": 10,
        "down.2.1": 10,
        "mid.0": 10,
        "up.0.0": 10,
        "up.0.1": 10,
        "up.0.2": 10,
        "up.1.0": 2,
        "up.1.1": 2,
        "up.1.2": 2,
    }
    assert layers.select("down.1.0") == (0, 1)
    assert (layers.names[0], layers.names[-1]) == ("down.1.0.0", "up.1.2.1")
    assert (len(layers.group("coarse")), len(layers.group("fine"))) == (60, 10)
    assert [len(subset) for subset in layers.subsets()] == [0, 10, 30, 60, 64, 70]


@pytest.mark.slow
@pytest.mark.skipif(
    os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 9e9, reason="needs 9 GB of free memory"
)
def test_sdxl_of_real_size_equals_the_bare_denoiser() -> None:
    """2.6 billion random weights in bfloat16, 5 GB; a tiny picture."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**architectures.SDXL_UNET).to(torch.bfloat16)
    unet = unet.to_empty(device="cpu").eval()
    for weight in unet.parameters():
        weight.data.normal_(0, 0.02, generator=generator)
    states = torch.randn(1, 77, 2048, generator=generator).bfloat16()
    added = {"text_embeds": torch.zeros(1, 1280).bfloat16(), "time_ids": torch.zeros(1, 6).bfloat16()}
    call = {"sample": torch.randn(1, 4, 8, 8, generator=generator).bfloat16(), "timestep": 500}
    with torch.no_grad():
        bare = unet(**call, encoder_hidden_states=states, added_cond_kwargs=added).sample
        with pp.per_layer(unet):
            packed = unet(**call, encoder_hidden_states=states.repeat(1, 1, 70), added_cond_kwargs=added).sample
            other = states.repeat(1, 1, 70)
            other[..., :2048] = 0
            changed = unet(**call, encoder_hidden_states=other, added_cond_kwargs=added).sample
    assert torch.isfinite(bare).all()
    assert torch.equal(packed, bare)
    assert not torch.equal(changed, bare)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("FluxTransformer2DModel", "attend to text and picture together"),
        ("SD3Transformer2DModel", "attend to text and picture together"),
        ("HunyuanDiT2DModel", "states of two text encoders as one text"),
        ("Kandinsky3UNet", "time embedding takes the text states too"),
    ],
)
def test_other_models_are_refused_with_the_reason(kind: str, reason: str) -> None:
    assert hasattr(diffusers, kind)
    pipe = type("SomePipeline", (), {"transformer": type(kind, (), {})(), "unet": None})()
    with pytest.raises(ModelError, match=f"P\\+ does not support SomePipeline: .*{reason}"):
        pp.PPlus(pipe)


def test_the_refiner_is_refused_by_name() -> None:
    pipe = tiny_models.sdxl()
    refiner = diffusers.StableDiffusionXLImg2ImgPipeline(
        **{**pipe.components, "text_encoder": None, "tokenizer": None}, requires_aesthetics_score=True
    )
    with pytest.raises(ModelError, match="the refiner of Stable Diffusion XL only adds detail"):
        pp.PPlus(refiner)


def test_a_controlnet_without_text_needs_no_hooks() -> None:
    """As the small ControlNets of SDXL are."""
    pipe = tiny_models.stable_diffusion()
    plain = {"down_block_types": ("DownBlock2D",) * 4, "mid_block_type": "UNetMidBlock2D"}
    config = {"block_out_channels": (16, 16, 32, 32), "norm_num_groups": 8, "cross_attention_dim": 32}
    net = diffusers.ControlNetModel(**config, **plain).eval()  # type: ignore[arg-type]
    both = diffusers.StableDiffusionControlNetPipeline(**pipe.components, controlnet=net)
    with pp.PPlus(both) as pplus:
        assert not any(module._forward_pre_hooks for module in net.modules())
        assert len(pplus.layers) == 16
