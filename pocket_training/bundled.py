"""Stage `bundled`: prepare a training of the U-Net alone, from the parts in the package.

It replaces the stages before `unet`. Text encoder, tokenizer, autoencoder and attribute judge are taken as they are;
the U-Net starts from the bundled weights.
"""

import shutil

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from . import data
from .loop import TrainingConfig


def run(config: TrainingConfig) -> None:
    """Write `clip`, `vae`, `start` (the U-Net) and `judge` in single precision, and draw the validation pictures."""
    pipeline, work = config.package / "pipeline", config.work
    if not (work / "clip").exists():
        CLIPTextModel.from_pretrained(pipeline / "text_encoder", dtype=torch.float32).save_pretrained(work / "clip")
        CLIPTokenizer.from_pretrained(pipeline / "tokenizer").save_pretrained(work / "clip")
    if not (work / "vae").exists():
        AutoencoderKL.from_pretrained(pipeline / "vae", torch_dtype=torch.float32).save_pretrained(work / "vae")
    if not (work / "start").exists():
        UNet2DConditionModel.from_pretrained(pipeline / "unet", torch_dtype=torch.float32).save_pretrained(
            work / "start"
        )
    shutil.copytree(config.package / "judge", work / "judge", dirs_exist_ok=True)
    data.draw_set(work, "validation", min(data.VALIDATION, config.pictures))
