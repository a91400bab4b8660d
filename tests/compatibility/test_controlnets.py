"""ControlNets and T2I-Adapters. A ControlNet has the first layers of its denoiser, and takes their texts."""

from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, SanaControlNetModel, T2IAdapter
from PIL import Image
from torch import Tensor

import promptplus as pp
from promptplus.errors import LayerError, ModelError
from tests import tiny_models
from tests.compatibility.cases import Expected, another, check, compatible

PIPELINES = {
    "Stable Diffusion 1": "StableDiffusion{}Pipeline",
    "Stable Diffusion 2": "StableDiffusion{}Pipeline",
    "SDXL": "StableDiffusionXL{}Pipeline",
}
SANA_SIZE = ("in_channels", "num_attention_heads", "attention_head_dim", "num_cross_attention_heads")
SANA_SIZE += ("cross_attention_head_dim", "cross_attention_dim", "caption_channels", "sample_size")
EDGES = Image.radial_gradient("L").resize((128, 128)).convert("RGB")


def control(unet: Any, seed: int = 0) -> ControlNetModel:
    """A ControlNet of this U-Net with an effect: a new one has none."""
    torch.manual_seed(seed)
    model = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 8, 16)).eval()
    with torch.no_grad():
        for block in (*model.controlnet_down_blocks, model.controlnet_mid_block):
            block.weight.normal_(0, 0.1)
    return model


@compatible("ControlNet", *PIPELINES)
def test_a_controlnet(shared: Any, model: str, plain: Expected) -> None:
    own = another(shared, PIPELINES[model].format("ControlNet"), controlnet=control(shared.unet))
    expected = Expected.of(own, image=EDGES)
    with pp.PPlus(own) as pplus:
        check(pplus, expected, image=EDGES)
    assert not torch.equal(expected.stock, plain.stock)
    assert not any(module._forward_pre_hooks for module in own.controlnet.modules())


@compatible("ControlNet", "Sana", refused="P+ does not know the cross-attention layer")
def test_the_controlnet_of_sana_is_refused(shared: Any, refused: str) -> None:
    """It changes the text states before its layers take them, as the transformer does."""
    size = {name: shared.transformer.config[name] for name in SANA_SIZE}
    own = another(shared, "SanaControlNetPipeline", controlnet=SanaControlNetModel(**size, num_layers=2))
    with pytest.raises(LayerError, match=refused):
        pp.PPlus(own)


@compatible("several ControlNets", *PIPELINES)
def test_several_controlnets(shared: Any, model: str) -> None:
    nets = [control(shared.unet), control(shared.unet, seed=1)]
    own = another(shared, PIPELINES[model].format("ControlNet"), controlnet=nets)
    call = {"image": [EDGES, EDGES.rotate(90)], "controlnet_conditioning_scale": [1.0, 0.5]}
    expected = Expected.of(own, **call)
    with pp.PPlus(own) as pplus:
        check(pplus, expected, **call)


@pytest.mark.slow
@compatible("ControlNet, image to image", *PIPELINES)
def test_a_controlnet_in_image_to_image(shared: Any, model: str) -> None:
    own = another(shared, PIPELINES[model].format("ControlNetImg2Img"), controlnet=control(shared.unet))
    call = {"image": EDGES.rotate(90), "control_image": EDGES, "strength": 0.9, "num_inference_steps": 2}
    expected = Expected.of(own, **call)
    with pp.PPlus(own) as pplus:
        check(pplus, expected, **call)


@compatible("T2I-Adapter", *PIPELINES)
def test_a_t2i_adapter(shared: Any, model: str, plain: Expected) -> None:
    torch.manual_seed(0)
    channels, large = list(shared.unet.config.block_out_channels), model == "SDXL"
    kind = {"adapter_type": "full_adapter_xl", "downscale_factor": 16} if large else {"downscale_factor": 8}
    adapter = T2IAdapter(channels=[*channels, channels[-1]][:4], num_res_blocks=1, **kind).eval()
    own = another(shared, PIPELINES[model].format("Adapter"), adapter=adapter)
    expected = Expected.of(own, image=EDGES)
    with pp.PPlus(own) as pplus:
        check(pplus, expected, image=EDGES)
    assert not torch.equal(expected.stock, plain.stock)


# ---- ControlNets without a pipeline


@pytest.fixture(scope="module")
def unet() -> Any:
    return tiny_models.stable_diffusion().unet


def test_the_layers_of_a_controlnet_see_their_own_text(unet: Any) -> None:
    seen: dict[str, Tensor] = {}
    controlnet, layers = control(unet), pp.LayerMap.of(unet)
    own = pp.LayerMap.of(controlnet)
    assert own.names == layers.names[:7]
    states = torch.randn(1, 16, 5, 32)
    for name, path in zip(own.names, own.module_paths(), strict=True):
        controlnet.get_submodule(path).to_k.register_forward_pre_hook(
            lambda _m, args, name=name: seen.__setitem__(name, args[0])
        )
    with torch.no_grad(), pp.per_layer(controlnet, layers=layers):
        call = {"encoder_hidden_states": pp.pack(states), "controlnet_cond": torch.zeros(1, 3, 128, 128)}
        controlnet(torch.randn(1, 4, 16, 16), 500, **call)
    for index, name in enumerate(own.names):
        assert torch.equal(seen[name], states[:, index])


def test_a_controlnet_alone_needs_the_layers_of_its_unet(unet: Any) -> None:
    controlnet = control(unet)
    with pytest.raises(ModelError, match=r"per_layer\(controlnet, layers=LayerMap.of\(unet\)\)"):
        pp.per_layer(controlnet)
    with pp.per_layer(controlnet, layers=pp.LayerMap.of(unet)):
        assert sum(len(module._forward_pre_hooks) for module in controlnet.modules()) == 1 + 7
    assert not any(module._forward_pre_hooks for module in controlnet.modules())
