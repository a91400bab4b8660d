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
        self.kept = DDPMScheduler(**NOISES).alphas_cumprod.to(device)
        """Share of the latents' variance in noisy latents, by timestep."""
        self.weights = (MAX_SNR * (1 - self.kept)).clamp(max=1)  # 1 - kept = 1 / (SNR + 1)

    def timesteps(self, count: int, generator: torch.Generator | None = None) -> Int[Tensor, " count"]:
        """Random timesteps, more of them in the middle; on the CPU with `generator`, else on the loss's device."""
        device = torch.device("cpu") if generator else self.device
        middle = torch.randn(count, generator=generator, device=device).sigmoid()
        anywhere, which = torch.rand(2, count, generator=generator, device=device)
        among = len(self.weights)
        return (torch.where(which < UNIFORM, anywhere, middle) * among).long().clamp(max=among - 1)

    def noisy_and_velocity(
        self,
        clean: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        times: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch channels height width"]]:
        """Noisy latents, channels last, and the velocity that the U-Net has to predict, as diffusers defines both."""
        kept = self.kept[times].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        return noisy.contiguous(memory_format=torch.channels_last), velocity

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
        times = times.to(self.device)
        noisy, velocity = self.noisy_and_velocity(clean.to(self.device), noise.to(self.device), times)
        with autocast(self.device):
            states = model["text"](input_ids=token_ids(self.tokenizer, texts).to(self.device)).last_hidden_state
            predicted = model["unet"](noisy, times, states).sample.float()
        return (predicted - velocity).square().mean((1, 2, 3)), self.weights[times]
