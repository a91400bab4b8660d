"""What inversion minimises: the frozen denoiser's noise error on the concept's pictures (paper section 3.2).

Every random draw is a function of (seed, concept, step, sample), so a run repeats bit for bit and needs no saved state.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from promptplus.conditioning import pack

JITTER = (0.8, 1.2)  # range of the factors on brightness, contrast and saturation (our choice)


@dataclass(frozen=True)
class LatentCache:
    """The VAE's posterior of every picture and of its mirror image, encoded once.

    ``mean`` and ``std`` are ``[flip (2), picture, C, h, w]``; sampling them anew each step gives the distribution that
    encoding each step would give. ``scale`` and ``shift`` are the VAE's own. ``variants``: how often each picture is
    there; picture p's are p, p + N, p + 2 N ….
    """

    mean: Tensor
    std: Tensor
    scale: float
    shift: float
    variants: int = 1

    @classmethod
    @torch.no_grad()
    def encode(cls, vae: Any, pixels: Tensor, variants: int = 1) -> "LatentCache":
        """Encode ``[N, 3, H, W]`` in [-1, 1], one picture at a time (a VAE takes the most memory of all)."""
        both = (picture for side in (pixels, pixels.flip(-1)) for picture in side)
        posteriors = [vae.encode(picture[None].to(vae.device, vae.dtype)).latent_dist for picture in both]
        mean, std = (torch.cat([getattr(p, name) for p in posteriors]).float() for name in ("mean", "std"))
        shape = (2, len(pixels), *mean.shape[1:])
        scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
        return cls(mean.view(shape), std.view(shape), scale, shift, variants)

    def sample(self, draws: "Draws") -> Tensor:
        """Latents ``[B, C, h, w]`` for one step's draws, in float32."""
        mean, std = self.mean[draws.flip, draws.picture], self.std[draws.flip, draws.picture]
        return (mean + std * draws.posterior.to(mean) - self.shift) * self.scale


@dataclass(frozen=True)
class Draws:
    """One step's randomness: per sample a picture, flip, timestep, template, latent noise and posterior noise."""

    picture: Tensor
    flip: Tensor
    timestep: Tensor
    template: tuple[int, ...]
    noise: Tensor
    posterior: Tensor

    @classmethod
    def of(
        cls,
        key: str,
        step: int,
        batch: int,
        cache: LatentCache,
        *,
        timesteps: int,
        templates: int,
        flip: bool,
        one_template: bool = False,
    ) -> "Draws":
        """Draw for samples 0 … batch - 1 of a step; ``key`` names the run's seed and concept.

        ``one_template``: the first sample's template serves the whole batch.
        """
        shape, pictures = cache.mean.shape[2:], cache.mean.shape[1] // cache.variants
        drawn: list[list[Any]] = []
        for sample in range(batch):
            g = generator(f"{key}/{step}/{sample}")
            timestep = torch.randint(timesteps, (), generator=g)
            mirrored = torch.rand((), generator=g) < 0.5 if flip else torch.tensor(False)
            template = int(torch.randint(templates, (), generator=g))
            noise, posterior = torch.randn(2, *shape, generator=g)
            variant = int(torch.randint(cache.variants, (), generator=g)) if cache.variants > 1 else 0
            # pictures take turns, so each is seen equally often
            picture = (step * batch + sample) % pictures + variant * pictures
            drawn.append([picture, int(mirrored), timestep, template, noise, posterior])
        picture, mirror, timestep, template, noise, posterior = map(list, zip(*drawn, strict=True))
        return cls(
            picture=torch.tensor(picture),
            flip=torch.tensor(mirror),
            timestep=torch.stack(timestep),
            template=(template[0],) * batch if one_template else tuple(template),
            noise=torch.stack(noise),
            posterior=torch.stack(posterior),
        )

    def part(self, chosen: slice) -> "Draws":
        """The draws of some of the samples."""
        return Draws(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def together(cls, several: Sequence["Draws"]) -> "Draws":
        """The draws of several concepts, one after the other."""
        joined: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(draws, field.name) for draws in several]
            joined[field.name] = torch.cat(values) if isinstance(values[0], Tensor) else sum(values, ())
        return cls(**joined)

    def to(self, device: torch.device) -> "Draws":
        """The same draws on another device, sent without waiting where it can be."""
        tensors = {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        if device.type == "cuda":
            tensors = {name: value.pin_memory() for name, value in tensors.items()}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()})


def generator(key: str) -> torch.Generator:
    """A CPU generator whose seed is the hash of ``key``: independent streams for any two keys."""
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def jittered(pixels: Tensor, copies: int, key: str) -> Tensor:
    """The pictures ``[N, 3, H, W]``, and copies of all in other brightness, contrast and saturation (our choice)."""
    grey_of = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    variants = [pixels]
    for copy in range(copies):
        low, high = JITTER
        brightness, contrast, saturation = low + (high - low) * torch.rand(
            3, len(pixels), 1, 1, 1, generator=generator(f"{key}/jitter/{copy}")
        )
        light = (pixels + 1) * brightness - 1
        mean = light.mean((1, 2, 3), keepdim=True)
        light = (light - mean) * contrast + mean
        grey = (light * grey_of).sum(1, keepdim=True)
        variants.append(((light - grey) * saturation + grey).clamp(-1, 1))
    return torch.cat(variants)


def denoising_loss(unet: Any, scheduler: Any, latents: Tensor, draws: Draws, states: Tensor) -> Tensor:
    """The mean of ``denoising_losses``."""
    return denoising_losses(unet, scheduler, latents, draws, states).mean()


def denoising_losses(
    unet: Any, scheduler: Any, latents: Tensor, draws: Draws, states: Tensor, min_snr: float | None = None
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
