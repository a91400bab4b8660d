"""Pipelines for other tasks than text to image."""

from typing import Any

import pytest
import torch
from diffusers import MotionAdapter
from PIL import Image

import promptplus as pp
from promptplus.errors import PromptPlusError
from tests.compatibility.cases import (
    ALL,
    IMAGE_TO_IMAGE,
    PICTURE,
    STABLE_DIFFUSION,
    STOCK,
    TOLERANCE,
    Expected,
    another,
    check,
    compatible,
    distance,
    draw,
)

INPAINTING = {name: kind.replace("Img2Img", "Inpaint") for name, kind in IMAGE_TO_IMAGE.items()}
MASK = Image.new("L", (128, 128), 0)
MASK.paste(255, (0, 0, 64, 128))


@compatible("text to image", *ALL)
def test_text_to_image(shared: Any) -> None:
    expected = Expected.of(shared, num_inference_steps=4)
    with pp.PPlus(shared) as pplus:
        check(pplus, expected, num_inference_steps=4)


@compatible("several prompts, several pictures of each", *ALL)
def test_batches(shared: Any) -> None:
    """The shapes of a batch's products differ from those of the stock call, so the last bits may differ."""
    prompts, negatives = [STOCK[0], "a blue car"], [STOCK[1], "dark"]
    call = {"num_images_per_prompt": 2}
    stock = draw(shared, prompt=prompts, negative_prompt=negatives, **call)
    with pp.PPlus(shared) as pplus:
        assert distance(draw(shared, **pplus.encode(prompts, negatives), **call), stock) < TOLERANCE


@compatible("image to image", *IMAGE_TO_IMAGE)
def test_image_to_image(shared: Any, model: str) -> None:
    other, call = another(shared, IMAGE_TO_IMAGE[model]), {"image": PICTURE, "strength": 0.9, "num_inference_steps": 2}
    expected = Expected.of(other, **call)
    for owner in (shared, other):  # P+ belongs to the models, whichever pipeline it was given
        with pp.PPlus(owner) as pplus:
            check(pplus, expected, other, **call)


@compatible("inpainting", *INPAINTING)
def test_inpainting(shared: Any, model: str) -> None:
    inpaint(another(shared, INPAINTING[model]))


@compatible("inpainting, with a U-Net of nine channels", *INPAINTING)
def test_inpainting_with_nine_channels(shared: Any, model: str) -> None:
    torch.manual_seed(0)
    unet = type(shared.unet).from_config(shared.unet.config, in_channels=9).eval()
    inpaint(another(shared, INPAINTING[model], unet=unet))


def inpaint(pipe: Any) -> None:
    call = {"image": PICTURE, "mask_image": MASK, "strength": 1.0}
    expected = Expected.of(pipe, **call)
    with pp.PPlus(pipe) as pplus:
        check(pplus, expected, **call)


@compatible("AnimateDiff", *STABLE_DIFFUSION, refused="makes videos")
def test_animatediff_is_refused(shared: Any, refused: str) -> None:
    motion = MotionAdapter(block_out_channels=(16, 16, 32, 32), motion_norm_num_groups=8, motion_num_attention_heads=2)
    video = another(shared, "AnimateDiffPipeline", motion_adapter=motion)
    with pytest.raises(PromptPlusError, match=refused):
        pp.PPlus(video)
