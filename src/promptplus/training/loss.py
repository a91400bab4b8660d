"""What training minimises: the denoiser's error on noisy latents (paper section 3.2)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.hooks import pack
from promptplus.training.batches import Batch
from promptplus.training.noise_schedule import min_snr_weight, target_of


def denoising_loss(
    unet: Any,
    scheduler: Any,
    latents: Float[Tensor, "batch channels height width"],
    batch: Batch,
    states: Float[Tensor, "batch layers tokens width"],
) -> Float[Tensor, ""]:
    """The mean of ``denoising_losses``."""
    return denoising_losses(unet, scheduler, latents, batch, states).mean()


def denoising_losses(
    unet: Any,
    scheduler: Any,
    latents: Float[Tensor, "batch channels height width"],
    batch: Batch,
    states: Float[Tensor, "batch layers tokens width"],
    min_snr: float | None = None,
) -> Float[Tensor, " batch"]:
    """Mean squared error of the predicted noise (or what it predicts) per sample, in float32: DDPM's simple loss.

    Args:
        latents: clean latents.
        states: text states of each layer.
        min_snr: weigh each timestep by min(SNR, this), as a loss on the clean picture (Hang et al., 2023).
    """
    noise = batch.noise.to(latents)
    timestep = batch.timestep.to(latents.device)
    noisy = scheduler.add_noise(latents, noise, timestep)
    context = pack(states).to(unet.dtype)
    predicted = unet(noisy.to(unet.dtype), timestep, encoder_hidden_states=context, return_dict=False)[0]
    target = target_of(scheduler, latents, noise, timestep)
    precise = torch.promote_types(predicted.dtype, torch.float32)  # float64 stays, for the tests' oracles
    errors = (predicted.to(precise) - target.to(precise)).square().mean((1, 2, 3))
    return errors if min_snr is None else errors * min_snr_weight(scheduler, timestep, min_snr, errors)
