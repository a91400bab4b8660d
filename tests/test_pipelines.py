"""Pipelines of other tasks: our own calls draw from text, or from a start picture, whatever P+ is installed in."""

import copy
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.errors import ModelError
from promptplus.generation import generate
from promptplus.start_image import StartImage


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionControlNetImg2ImgPipeline",
        "StableDiffusionControlNetInpaintPipeline",
    ],
)
def test_pipelines_that_need_pictures_draw_as_the_plain_one(pipe: Any, name: str) -> None:
    further: dict[str, Any] = {}
    if "ControlNet" in name:
        further["controlnet"] = diffusers.ControlNetModel.from_unet(
            pipe.unet, conditioning_embedding_out_channels=(8, 16, 32)
        )
    own = getattr(diffusers, name)(**pipe.components, **further, requires_safety_checker=False)
    start = StartImage(Image.new("RGB", (64, 64), "red"), 0.5)
    made: list[list[bytes]] = []
    for one in (pipe, own):
        with pp.PPlus(one) as pplus:
            drawn = [*generate(pplus, ["a car || coarse: a cat"], [0], steps=2, guidance=3.0)]
            drawn += generate(pplus, ["a car"], [0], steps=4, guidance=3.0, start=start)
            made.append([picture.tobytes() for picture in drawn])
    assert made[0] == made[1]


def test_an_ip_adapter_is_refused_by_name(pipe: Any) -> None:
    own = copy.copy(pipe)
    own.register_modules(unet=copy.deepcopy(pipe.unet))
    own.unet.encoder_hid_proj = torch.nn.Identity()
    with pp.PPlus(own) as pplus, pytest.raises(ModelError, match=r"IP-Adapter is loaded.*ip_adapter_image"):
        generate(pplus, ["a car"], [0], steps=1)
