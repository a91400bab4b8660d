"""What inversion minimises: the frozen denoiser's noise error on the concept's pictures (paper section 3.2).

Every random draw is a function of (seed, concept, step, sample), so a run repeats bit for bit and needs no saved state.
"""

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from promptplus.conditioning import pack


@dataclass(frozen=True)
class LatentCache:
    """The VAE's posterior of every picture and of its mirror image, encoded once.

    ``mean`` and ``std`` are ``[flip (2), picture, C, h, w]``; sampling them anew each step gives the distribution that
    encoding each step would give. ``scale`` and ``shift`` are the VAE's own.
    """

    mean: Tensor
    std: Tensor
    scale: float
    shift: float

    @classmethod
    @torch.no_grad()
    def encode(cls, vae: Any, pixels: Tensor) -> "LatentCache":
        """Encode ``[N, 3, H, W]`` in [-1, 1], one picture at a time (a VAE takes the most memory of all)."""
        both = torch.cat([pixels, pixels.flip(-1)]).to(vae.device, vae.dtype)
        posteriors = [vae.encode(picture[None]).latent_dist for picture in both]
        mean, std = (torch.cat([getattr(p, name) for p in posteriors]).float() for name in ("mean", "std"))
        shape = (2, len(pixels), *mean.shape[1:])
        scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
        return cls(mean.view(shape), std.view(shape), scale, shift)

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
        shape, pictures = cache.mean.shape[2:], cache.mean.shape[1]
        drawn: list[list[Any]] = []
        for sample in range(batch):
            g = generator(f"{key}/{step}/{sample}")
            timestep = torch.randint(timesteps, (), generator=g)
            mirrored = torch.rand((), generator=g) < 0.5 if flip else torch.tensor(False)
            template = int(torch.randint(templates, (), generator=g))
            noise, posterior = torch.randn(2, *shape, generator=g)
            # pictures take turns, so each is seen equally often
            drawn.append([(step * batch + sample) % pictures, int(mirrored), timestep, template, noise, posterior])
        picture, mirror, timestep, template, noise, posterior = map(list, zip(*drawn, strict=True))
        return cls(
            picture=torch.tensor(picture),
            flip=torch.tensor(mirror),
            timestep=torch.stack(timestep),
            template=(template[0],) * batch if one_template else tuple(template),
            noise=torch.stack(noise),
            posterior=torch.stack(posterior),
        )

    def part(self, start: int, stop: int) -> "Draws":
        """The draws of some of the samples."""
        chosen = slice(start, stop)
        return Draws(*(getattr(self, field.name)[chosen] for field in fields(self)))

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


def denoising_loss(unet: Any, scheduler: Any, latents: Tensor, draws: Draws, states: Tensor) -> Tensor:
    """Mean squared error of the predicted noise (or velocity), in float32 (DDPM's simple loss).

    Args:
        latents: ``[B, C, h, w]``, clean; ``states``: per-layer text states ``[B, n, S, D]``.
    """
    noise = draws.noise.to(latents)
    timestep = draws.timestep.to(latents.device)
    noisy = scheduler.add_noise(latents, noise, timestep)
    context = pack(states).to(unet.dtype)
    predicted = unet(noisy.to(unet.dtype), timestep, encoder_hidden_states=context, return_dict=False)[0]
    kind = scheduler.config.prediction_type
    target = scheduler.get_velocity(latents, noise, timestep) if kind == "v_prediction" else noise
    precise = torch.promote_types(predicted.dtype, torch.float32)  # float64 stays, for the tests' oracles
    return F.mse_loss(predicted.to(precise), target.to(precise))
