"""What a step sees: which picture, timestep, template and noise each sample gets, and the latents that makes.

Every random draw is a function of (seed, concept, step, sample), so a run repeats bit for bit and needs no saved state.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

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

    def sample(self, draws: "Batch") -> Tensor:
        """Latents ``[B, C, h, w]`` for one step's draws, in float32."""
        mean, std = self.mean[draws.flip, draws.picture], self.std[draws.flip, draws.picture]
        return (mean + std * draws.posterior.to(mean) - self.shift) * self.scale


@dataclass(frozen=True)
class BatchRule:
    """How a step's samples are drawn.

    Attributes:
        batch: samples; ``timesteps``: how many the noise schedule has; ``templates``: captions to choose from.
        flip: mirror half of the pictures.
        one_template: the first sample's template serves the whole batch.
        stratified: one timestep from each of equal parts of the schedule, in random order (our choice).
        antithetic: every second sample repeats the one before it with the opposite noise (our choice).
        timestep_bias: timestep = (1 - u ** bias) * timesteps for uniform u: 1 uniform, above it more noisy ones.
    """

    batch: int
    timesteps: int
    templates: int
    flip: bool = True
    one_template: bool = False
    stratified: bool = False
    antithetic: bool = False
    timestep_bias: float = 1.0

    @property
    def own(self) -> int:
        """Samples that are drawn; the others repeat them."""
        return -(-self.batch // 2) if self.antithetic else self.batch


@dataclass(frozen=True)
class Batch:
    """One step's randomness: per sample a picture, flip, timestep, template, latent noise and posterior noise."""

    picture: Tensor
    flip: Tensor
    timestep: Tensor
    template: tuple[int, ...]
    noise: Tensor
    posterior: Tensor

    @classmethod
    def of(cls, key: str, step: int, cache: LatentCache, rule: BatchRule) -> "Batch":
        """Draw for samples 0 … batch - 1 of a step; ``key`` names the run's seed and concept."""
        part = torch.randperm(rule.own, generator=generator(f"{key}/{step}/parts")).tolist()
        drawn: list[list[Any]] = []
        for sample in range(rule.own):
            g = generator(f"{key}/{step}/{sample}")
            timestep = _timestep(g, rule, part[sample])
            mirrored = torch.rand((), generator=g) < 0.5 if rule.flip else torch.tensor(False)
            template = int(torch.randint(rule.templates, (), generator=g))
            noise, posterior = torch.randn(2, *cache.mean.shape[2:], generator=g)
            variant = int(torch.randint(cache.variants, (), generator=g)) if cache.variants > 1 else 0
            # pictures take turns, so each is seen equally often
            pictures = cache.mean.shape[1] // cache.variants
            picture = (step * rule.own + sample) % pictures + variant * pictures
            drawn.append([picture, int(mirrored), timestep, template, noise, posterior])
            if rule.antithetic and len(drawn) < rule.batch:
                drawn.append([picture, int(mirrored), timestep, template, -noise, posterior])
        picture, mirror, timestep, template, noise, posterior = map(list, zip(*drawn, strict=True))
        return cls(
            picture=torch.tensor(picture),
            flip=torch.tensor(mirror),
            timestep=torch.tensor(timestep),
            template=(template[0],) * rule.batch if rule.one_template else tuple(template),
            noise=torch.stack(noise),
            posterior=torch.stack(posterior),
        )

    def part(self, chosen: slice) -> "Batch":
        """The draws of some of the samples."""
        return Batch(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def together(cls, several: Sequence["Batch"]) -> "Batch":
        """The draws of several concepts, one after the other."""
        joined: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(draws, field.name) for draws in several]
            joined[field.name] = torch.cat(values) if isinstance(values[0], Tensor) else sum(values, ())
        return cls(**joined)

    def to(self, device: torch.device) -> "Batch":
        """The same draws on another device, sent without waiting where it can be."""
        tensors = {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        if device.type == "cuda":
            tensors = {name: value.pin_memory() for name, value in tensors.items()}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()})


def _timestep(g: torch.Generator, rule: BatchRule, part: int) -> int:
    """A timestep; where they are stratified, of the part'th part."""
    if not rule.stratified and rule.timestep_bias == 1:
        return int(torch.randint(rule.timesteps, (), generator=g))
    u = torch.rand((), generator=g, dtype=torch.float64).item()
    if rule.stratified:
        u = (part + u) / rule.own
    return min(int((1 - u**rule.timestep_bias) * rule.timesteps), rule.timesteps - 1)


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
