"""The package's parts as a start: text encoder, tokenizer, autoencoder and judge stay, the U-Net is trained on.

Instead of the stages before `unet`, where only the U-Net shall be made anew.
"""

import shutil

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from . import data
from .loop import Options


def run(options: Options) -> None:
    """Write `clip`, `vae`, `start` (the U-Net's weights) and `judge` in single precision, and draw the validation."""
    pipeline, work = options.package / "pipeline", options.work
    if not (work / "clip").exists():
        CLIPTextModel.from_pretrained(pipeline / "text_encoder", dtype=torch.float32).save_pretrained(work / "clip")
        CLIPTokenizer.from_pretrained(pipeline / "tokenizer").save_pretrained(work / "clip")
    if not (work / "vae").exists():
        AutoencoderKL.from_pretrained(pipeline / "vae", torch_dtype=torch.float32).save_pretrained(work / "vae")
    if not (work / "start").exists():
        UNet2DConditionModel.from_pretrained(pipeline / "unet", torch_dtype=torch.float32).save_pretrained(
            work / "start"
        )
    shutil.copytree(options.package / "judge", work / "judge", dirs_exist_ok=True)
    data.draw_set(work, "validation", min(data.VALIDATION, options.pictures))
