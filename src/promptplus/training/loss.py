"""What inversion minimises: the denoiser's noise error on the concept's pictures (paper section 3.2)."""

from typing import Any

import torch
from torch import Tensor

from promptplus.hooks import pack
from promptplus.training.batches import Batch


def denoising_loss(unet: Any, scheduler: Any, latents: Tensor, draws: Batch, states: Tensor) -> Tensor:
    """The mean of ``denoising_losses``."""
    return denoising_losses(unet, scheduler, latents, draws, states).mean()


def denoising_losses(
    unet: Any, scheduler: Any, latents: Tensor, draws: Batch, states: Tensor, min_snr: float | None = None
) -> Tensor:
    """Mean squared error ``[B]`` of the predicted noise (or velocity) per sample, in float32 (DDPM's simple loss).

    Args:
        latents: ``[B, C, h, w]``, clean; ``states``: per-layer text states ``[B, n, S, D]``.
        min_snr: weigh each timestep by min(SNR, this), as a loss on the clean picture (Hang et al., 2023).
    """
    noise = draws.noise.to(latents)
    timestep = draws.timestep.to(latents.device)
    noisy = scheduler.add_noise(latents, noise, timestep)
    context = pack(states).to(unet.dtype)
    predicted = unet(noisy.to(unet.dtype), timestep, encoder_hidden_states=context, return_dict=False)[0]
    kind = scheduler.config.prediction_type
    target = scheduler.get_velocity(latents, noise, timestep) if kind == "v_prediction" else noise
    precise = torch.promote_types(predicted.dtype, torch.float32)  # float64 stays, for the tests' oracles
    errors = (predicted.to(precise) - target.to(precise)).square().mean((1, 2, 3))
    if min_snr is None:
        return errors
    clean = scheduler.alphas_cumprod[timestep].to(errors)
    snr = clean / (1 - clean)
    weight = snr.clamp(max=min_snr) / (snr + 1) if kind == "v_prediction" else (min_snr / snr).clamp(max=1)
    return errors * weight
