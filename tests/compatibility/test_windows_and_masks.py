"""Prompt parts with strength, window and mask. With the same text in all parts the picture is the stock picture."""

from collections.abc import Callable
from typing import Any

import accelerate
import jaxtyping
import pytest
import torch
from diffusers import ControlNetModel

import promptplus as pp
from promptplus.errors import PromptError
from tests.compatibility.cases import (
    ALL,
    IMAGE_TO_IMAGE,
    PICTURE,
    STOCK,
    TRANSFORMERS,
    UNETS,
    Expected,
    another,
    compatible,
    draw,
)

CPU = torch.device("cpu")
MASK = (0.0, 0.0, 0.5, 1.0)


def parted(pplus: pp.PPlus, text: str, mask: Any = None) -> Any:
    """The stock call's texts, with parts of another text: strength and window, or also a mask; the negative one too."""
    coarse, *_, fine = pplus.layers.bands
    parts = (pp.Part(fine, text, 0.5, (0.2, 0.8), mask), pp.Part(coarse, text, 1.5), pp.Part(coarse, text, mask=mask))
    prompt, negative = (pp.PPlusPrompt(stock, parts) for stock in STOCK)
    return pplus.encode(prompt, negative)


def same_parts(pplus: pp.PPlus, mask: Any = None) -> Any:
    """The same with parts that all have the default's text."""
    coarse, *_, fine = pplus.layers.bands
    made = [
        pp.PPlusPrompt(text, (pp.Part(fine, text, 0.5, (0.2, 0.8), mask), pp.Part(coarse, text, 1.5, mask=mask)))
        for text in STOCK
    ]
    return pplus.encode(*made)


def check_parts(pipe: Any, expected: torch.Tensor, mask: Any = None, **call: Any) -> None:
    """Parts that say the same give the stock picture to the bit, and parts that say something else another one."""
    with pp.PPlus(pipe) as pplus:
        assert torch.equal(draw(pipe, **same_parts(pplus, mask), **call), expected)
        assert not torch.allclose(draw(pipe, **parted(pplus, "a blue car", mask), **call), expected, atol=1e-3)


@compatible("prompt parts with strength and window", *ALL)
def test_strength_and_window(shared: Any, plain: Expected) -> None:
    check_parts(shared, plain.stock)


@compatible("prompt parts with mask", *UNETS)
def test_masks(shared: Any, plain: Expected) -> None:
    check_parts(shared, plain.stock, MASK)


@compatible("prompt parts with mask", *TRANSFORMERS, refused="masks of prompt parts need a U-Net")
def test_masks_are_refused(shared: Any, refused: str) -> None:
    with pp.PPlus(shared) as pplus, pytest.raises(PromptError, match=refused):
        parted(pplus, "a blue car", MASK)


@compatible("prompt parts with mask, image to image", *UNETS)
def test_masks_from_a_picture(shared: Any, model: str) -> None:
    pipe = another(shared, IMAGE_TO_IMAGE[model])
    call = {"image": PICTURE, "strength": 0.5, "num_inference_steps": 4}
    expected = draw(pipe, prompt=STOCK[0], negative_prompt=STOCK[1], **call)
    check_parts(pipe, expected, MASK, **call)


@compatible("prompt parts with mask, ControlNet", *UNETS)
def test_masks_with_a_controlnet(shared: Any, model: str) -> None:
    torch.manual_seed(0)
    control = ControlNetModel.from_unet(shared.unet, conditioning_embedding_out_channels=(8, 8, 8, 16)).eval()
    for block in (*control.controlnet_down_blocks, control.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.1)
    name = "StableDiffusionXLControlNetPipeline" if model == "SDXL" else "StableDiffusionControlNetPipeline"
    pipe = another(shared, name, controlnet=control)
    expected = draw(pipe, prompt=STOCK[0], negative_prompt=STOCK[1], image=PICTURE)
    check_parts(pipe, expected, MASK, image=PICTURE)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in control.modules())


def _offload(pipe: Any) -> None:
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            accelerate.cpu_offload(part, CPU, offload_buffers=len(part._parameters) > 0)


PREPARED: dict[str, Callable[[Any], Any]] = {
    "enable_sequential_cpu_offload": _offload,
    "enable_group_offload": lambda pipe: pipe.enable_group_offload(onload_device=CPU, offload_type="leaf_level"),
    "attention slicing": lambda pipe: pipe.enable_attention_slicing(1),
    "fused projections": lambda pipe: pipe.fuse_qkv_projections(),
    "gradient checkpointing": lambda pipe: pipe.unet.enable_gradient_checkpointing(),
}


@compatible("prompt parts with mask, offloaded, sliced, fused or checkpointed", "Stable Diffusion 1", "SDXL")
@pytest.mark.parametrize("name", PREPARED)
def test_masks_with_other_ways_to_compute(pipe: Any, name: str) -> None:
    PREPARED[name](pipe)
    expected = draw(pipe, prompt=STOCK[0], negative_prompt=STOCK[1])
    check_parts(pipe, expected, MASK)


@pytest.mark.slow
@compatible("prompt parts with mask, torch.compile after P+", "SDXL")
def test_masks_in_a_compiled_denoiser(pipe: Any, plain: Expected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pp.PPlus(pipe) as pplus:
        pipe.unet.compile(backend=lambda graph, _: graph.forward)
        assert torch.equal(draw(pipe, **same_parts(pplus, MASK)), plain.stock)
