"""Stable Diffusion 1.4's real architecture with random weights: cost and exactness do not depend on their values."""

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from promptplus.pocket import PIPELINE

CONTEXT = 77
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
UNET: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
NOISES: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def stable_diffusion() -> Any:
    """1.07 billion random weights, float32, CPU; the tokenizer is the pocket's, with SD's context length."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(PIPELINE / "tokenizer")
    tokenizer.model_max_length = CONTEXT
    parts: dict[str, Any] = {
        "vae": AutoencoderKL(**VAE).eval(),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)).eval(),
        "tokenizer": tokenizer,
        "unet": UNet2DConditionModel(**UNET).eval(),
        "scheduler": DDIMScheduler(**NOISES, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    pipe = StableDiffusionPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe
