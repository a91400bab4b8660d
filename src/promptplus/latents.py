"""Pictures and latents: the VAE as the stock pipelines call it."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Pixels = Float[Tensor, "pictures 3 rows columns"]
Latents = Float[Tensor, "pictures channels height width"]


def safe_vae(pipe: Any) -> Any:
    """The VAE, or a copy in float32 where half precision overflows: Stable Diffusion XL's says ``force_upcast``.

    A copy, because other threads may use the pipeline's own.
    """
    vae = pipe.vae
    overflows = vae.dtype is torch.float16 and getattr(pipe, "text_encoder_2", None) is not None
    return copy.deepcopy(vae).float() if overflows and vae.config.force_upcast else vae


@torch.no_grad()
def posterior(vae: Any, pixels: Pixels) -> tuple[Latents, Latents]:
    """Mean and standard deviation of the latents of pixels in [-1, 1], in at least float32, not scaled.

    Sana's autoencoder gives latents, and no distribution: the deviation is zero.
    """
    encoded = vae.encode(pixels.to(vae.device, vae.dtype))
    precise = torch.promote_types(vae.dtype, torch.float32)
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mean.to(precise), encoded.latent_dist.std.to(precise)
    return encoded.latent.to(precise), torch.zeros_like(encoded.latent, dtype=precise)


def scale_and_shift(vae: Any) -> tuple[float, float]:
    """The factors of (latents - shift) * scale."""
    return vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
