"""The U-Net's loss: weighted squared errors of the velocity of noisy latents.

The U-Net predicts velocity (Salimans and Ho, 2022). The noise schedule ends at an SNR of zero (Lin et al., 2024), so
that the first sampling step has to take colours and background from the caption.
"""

from typing import Any

import torch
from diffusers import DDPMScheduler
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPTokenizer

from .loop import autocast
from .text_encoder import token_ids

MAX_SNR = 5.0
"""γ of the min-SNR weights (Hang et al., 2023); for velocities, SNR + 1 replaces SNR."""
NOISES = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
}
"""Stable Diffusion's noise schedule, rescaled to a final SNR of zero. Without rescaling, the last timestep keeps so
much of the mean of 16 x 16 latents that the U-Net took colours from the noise (our choice, docs/log.md)."""
UNIFORM = 0.2
"""Share of timesteps drawn uniformly. The others are logit-normal (Esser et al., 2024), because the caption's noun
influences the loss most between timesteps 350 and 650 of 1000 (docs/log.md)."""


class DenoisingLoss:
    """Squared errors of the predicted velocity, and the weights of their timesteps."""

    def __init__(self, tokenizer: CLIPTokenizer, device: torch.device) -> None:
        self.tokenizer, self.device = tokenizer, device
        self.scheduler: Any = DDPMScheduler(**NOISES)
        noise_share = 1 - self.scheduler.alphas_cumprod  # = 1 / (SNR + 1)
        self.weights = (MAX_SNR * noise_share).clamp(max=1).to(device)

    def timesteps(self, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
        """Random timesteps, more of them in the middle."""
        middle = torch.randn(count, generator=generator).sigmoid()
        anywhere, which = torch.rand(2, count, generator=generator)
        among = len(self.weights)
        return (torch.where(which < UNIFORM, anywhere, middle) * among).long().clamp(max=among - 1)

    def errors(
        self,
        model: Any,
        clean: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        times: Int[Tensor, " batch"],
        texts: list[str],
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Mean squared error of each sample, and the weight of its timestep.

        Args:
            model: a mapping with a U-Net "unet" and its text encoder "text".
            clean: latents without noise.
            noise: noise that is added to them.
            times: timesteps.
            texts: captions.
        """
        noisy = self.scheduler.add_noise(clean, noise, times).to(self.device, memory_format=torch.channels_last)
        velocity = self.scheduler.get_velocity(clean, noise, times).to(self.device)
        times = times.to(self.device)
        with autocast(self.device):
            states = model["text"](input_ids=token_ids(self.tokenizer, texts).to(self.device)).last_hidden_state
            predicted = model["unet"](noisy, times, states).sample.float()
        return (predicted - velocity).square().mean((1, 2, 3)), self.weights[times]
