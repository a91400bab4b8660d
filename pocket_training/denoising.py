"""What the U-Net is asked: the velocity of noisy latents, given a caption, and how much each timestep counts.

Velocity is predicted (Salimans and Ho, 2022) over noises that end in nothing but noise (Lin et al., 2024), so that the
first step has to read colours and background from the caption.
"""

from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from transformers import CLIPTokenizer

from .loop import autocast
from .text_encoder import token_ids

MAX_SNR = 5.0
"""Of the nearly clean latents' weight: min-SNR (Hang et al., 2023), for velocities SNR + 1 in place of SNR."""
NOISES = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
}
"""Stable Diffusion's, rescaled: its own leave so much of 16 x 16 latents' mean that colours were read from the noise
(our choice, docs/log.md)."""
UNIFORM = 0.2
"""Share of timesteps drawn uniformly. The others are logit-normal (Esser et al., 2024): what a wrong noun does to the
loss, as information, is greatest between 350 and 650 of 1000 (docs/log.md)."""


class Denoising:
    """The training's question, and its squared errors."""

    def __init__(self, tokenizer: CLIPTokenizer, device: torch.device) -> None:
        self.tokenizer, self.device = tokenizer, device
        self.scheduler: Any = DDPMScheduler(**NOISES)
        noise_share = 1 - self.scheduler.alphas_cumprod  # = 1 / (SNR + 1)
        self.weights = (MAX_SNR * noise_share).clamp(max=1).to(device)

    def timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Random timesteps [count], more of them in the middle."""
        middle = torch.randn(count, generator=generator).sigmoid()
        anywhere, which = torch.rand(2, count, generator=generator)
        among = len(self.weights)
        return (torch.where(which < UNIFORM, anywhere, middle) * among).long().clamp(max=among - 1)

    def errors(
        self, model: Any, clean: Tensor, noise: Tensor, times: Tensor, texts: list[str]
    ) -> tuple[Tensor, Tensor]:
        """Mean squared errors [B] of `model`, a U-Net and its text encoder, and the weights [B] of their timesteps."""
        noisy = self.scheduler.add_noise(clean, noise, times).to(self.device, memory_format=torch.channels_last)
        velocity = self.scheduler.get_velocity(clean, noise, times).to(self.device)
        times = times.to(self.device)
        with autocast(self.device):
            states = model["text"](input_ids=token_ids(self.tokenizer, texts).to(self.device)).last_hidden_state
            predicted = model["unet"](noisy, times, states).sample.float()
        return (predicted - velocity).square().mean((1, 2, 3)), self.weights[times]
