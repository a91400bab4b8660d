"""What a training step sees: for each sample a picture, a timestep, a caption template and noise.

Every random number is a function of (seed, concept, step, sample). So a run repeats bit for bit and saves no state.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptplus.latents import posterior, safe_vae, scale_and_shift
from promptplus.training.settings import TrainingSettings

JITTER = (0.8, 1.2)  # range of the factors on brightness, contrast and saturation (our choice)


@dataclass(frozen=True)
class LatentCache:
    """The VAE's posterior of every picture and of its mirror image, encoded once.

    Sampling the posterior anew in each step gives the distribution that encoding in each step would give.

    Attributes:
        mean, std: of the posterior; the first axis is 0 for the picture and 1 for its mirror image.
        scale, shift: the VAE's scaling and shift factors.
        variants: how often each of N pictures is there; picture p is at p, p + N, p + 2 N, ….
    """

    mean: Float[Tensor, "flip pictures channels height width"]
    std: Float[Tensor, "flip pictures channels height width"]
    scale: float
    shift: float
    variants: int = 1

    @classmethod
    @torch.no_grad()
    def encode(cls, vae: Any, pixels: Float[Tensor, "pictures 3 rows columns"], variants: int = 1) -> "LatentCache":
        """Encode pixels in [-1, 1], one picture at a time: of all parts, a VAE takes the most memory.

        ``vae``: as ``latents.safe_vae`` gives it.
        """
        both = (picture for side in (pixels, pixels.flip(-1)) for picture in side)
        mean, std = (
            torch.cat(parts).float() for parts in zip(*(posterior(vae, one[None]) for one in both), strict=True)
        )
        shape = (2, len(pixels), *mean.shape[1:])
        scale, shift = scale_and_shift(vae)
        return cls(mean.view(shape), std.view(shape), scale, shift, variants)

    def sample(self, batch: "Batch") -> Float[Tensor, "batch channels height width"]:
        """Latents for the samples of a batch, in float32."""
        mean, std = self.mean[batch.flip, batch.picture], self.std[batch.flip, batch.picture]
        return (mean + std * batch.posterior.to(mean) - self.shift) * self.scale


def encode_class_pictures(pipe: Any, pixels: Float[Tensor, "pictures 3 rows columns"]) -> LatentCache:
    """Encode pictures as they are."""
    return LatentCache.encode(safe_vae(pipe), pixels)


def encode_pictures(
    pipe: Any, pixels: Float[Tensor, "pictures 3 rows columns"], settings: TrainingSettings, name: str
) -> LatentCache:
    """Encode pictures and their copies in other colours; ``name``: the concept's, which the colours depend on."""
    variants = jittered(pixels, settings.jitter, f"{settings.seed}/{name}")
    return LatentCache.encode(safe_vae(pipe), variants, variants=1 + settings.jitter)


@dataclass(frozen=True)
class BatchRule:
    """How the samples of a batch are drawn.

    Attributes:
        batch: samples in a batch.
        timesteps: timesteps of the noise schedule.
        templates: caption templates to choose from.
        flip: mirror half of the pictures.
        one_template: the first sample's template serves the whole batch.
        stratified: draw one timestep from each of equal parts of the schedule, in random order (our choice).
        antithetic: every second sample repeats the one before it with the opposite noise (our choice).
        timestep_bias: timestep = (1 - u ** bias) * timesteps for uniform u. 1: uniform; above 1: more noisy ones.
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
    def independent(self) -> int:
        """Samples that are drawn; the others repeat them."""
        return -(-self.batch // 2) if self.antithetic else self.batch


@dataclass(frozen=True)
class Batch:
    """The random numbers of one training step.

    Attributes:
        picture: the picture's number in the ``LatentCache``; ``flip``: 1 for its mirror image.
        timestep: in the noise schedule.
        template: the caption template's number.
        noise: what is added to the latents; ``posterior``: what the VAE's posterior is sampled with.
    """

    picture: Int[Tensor, " batch"]
    flip: Int[Tensor, " batch"]
    timestep: Int[Tensor, " batch"]
    template: tuple[int, ...]
    noise: Float[Tensor, "batch channels height width"]
    posterior: Float[Tensor, "batch channels height width"]

    @classmethod
    def of(cls, key: str, step: int, cache: LatentCache, rule: BatchRule) -> "Batch":
        """Draw the batch of a step. ``key`` names the run's seed and concept."""
        part = torch.randperm(rule.independent, generator=generator(f"{key}/{step}/parts")).tolist()
        samples: list[list[Any]] = []
        for sample in range(rule.independent):
            g = generator(f"{key}/{step}/{sample}")
            timestep = _timestep(g, rule, part[sample])
            mirrored = torch.rand((), generator=g) < 0.5 if rule.flip else torch.tensor(False)
            template = int(torch.randint(rule.templates, (), generator=g))
            noise, posterior = torch.randn(2, *cache.mean.shape[2:], generator=g)
            variant = int(torch.randint(cache.variants, (), generator=g)) if cache.variants > 1 else 0
            # pictures take turns, so each is seen equally often
            pictures = cache.mean.shape[1] // cache.variants
            picture = (step * rule.independent + sample) % pictures + variant * pictures
            samples.append([picture, int(mirrored), timestep, template, noise, posterior])
            if rule.antithetic and len(samples) < rule.batch:
                samples.append([picture, int(mirrored), timestep, template, -noise, posterior])
        picture, mirror, timestep, template, noise, posterior = map(list, zip(*samples, strict=True))
        return cls(
            picture=torch.tensor(picture),
            flip=torch.tensor(mirror),
            timestep=torch.tensor(timestep),
            template=(template[0],) * rule.batch if rule.one_template else tuple(template),
            noise=torch.stack(noise),
            posterior=torch.stack(posterior),
        )

    def part(self, samples: slice) -> "Batch":
        """Some of the samples."""
        return Batch(*(getattr(self, field.name)[samples] for field in fields(self)))

    @classmethod
    def concatenate(cls, batches: Sequence["Batch"]) -> "Batch":
        """The samples of several batches, one batch after the other."""
        joined: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(batch, field.name) for batch in batches]
            joined[field.name] = torch.cat(values) if isinstance(values[0], Tensor) else sum(values, ())
        return cls(**joined)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device, sent without waiting where that is possible."""
        tensors = {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        if device.type == "cuda":
            tensors = {name: value.pin_memory() for name, value in tensors.items()}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()})


def _timestep(g: torch.Generator, rule: BatchRule, part: int) -> int:
    """A timestep; with ``stratified`` one of the schedule's part number ``part``."""
    if not rule.stratified and rule.timestep_bias == 1:
        return int(torch.randint(rule.timesteps, (), generator=g))
    u = torch.rand((), generator=g, dtype=torch.float64).item()
    if rule.stratified:
        u = (part + u) / rule.independent
    return min(int((1 - u**rule.timestep_bias) * rule.timesteps), rule.timesteps - 1)


def generator(key: str) -> torch.Generator:
    """A CPU generator whose seed is the hash of ``key``: independent streams for any two keys."""
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def jittered(
    pixels: Float[Tensor, "pictures 3 rows columns"], copies: int, key: str
) -> Float[Tensor, "variants 3 rows columns"]:
    """The pictures, then copies of all with another brightness, contrast and saturation (our choice)."""
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
