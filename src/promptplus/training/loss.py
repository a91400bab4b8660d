"""What training minimises: the denoiser's error on noisy latents (paper section 3.2)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.denoiser_calls import DenoiserCall
from promptplus.text_states import TextStates
from promptplus.training.batches import Batch
from promptplus.training.noise_schedule import min_snr_weight, model_timestep, target_of


def denoising_loss(
    denoiser: DenoiserCall,
    scheduler: Any,
    latents: Float[Tensor, "batch channels height width"],
    batch: Batch,
    text: TextStates,
) -> Float[Tensor, ""]:
    """The mean of ``denoising_losses``."""
    return denoising_losses(denoiser, scheduler, latents, batch, text).mean()


def denoising_losses(
    denoiser: DenoiserCall,
    scheduler: Any,
    latents: Float[Tensor, "batch channels height width"],
    batch: Batch,
    text: TextStates,
    min_snr: float | None = None,
) -> Float[Tensor, " batch"]:
    """Mean squared error of the predicted noise (or what it predicts) per sample, in float32: DDPM's simple loss.

    Args:
        latents: clean latents.
        text: one for each sample.
        min_snr: weigh each timestep by min(SNR, this), as a loss on the clean picture (Hang et al., 2023).
    """
    noise = batch.noise.to(latents)
    timestep = batch.timestep.to(latents.device)
    noisy = scheduler.add_noise(latents, noise, timestep)
    dtype, packed = denoiser.dtype, text.packed()
    predicted = denoiser(noisy.to(dtype), model_timestep(scheduler, timestep), packed.to(packed.states.device, dtype))
    target = target_of(scheduler, latents, noise, timestep)
    precise = torch.promote_types(predicted.dtype, torch.float32)  # float64 stays, for the tests' oracles
    errors = (predicted.to(precise) - target.to(precise)).square().mean((1, 2, 3))
    return errors if min_snr is None else errors * min_snr_weight(scheduler, timestep, min_snr, errors)
