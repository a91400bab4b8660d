"""Inversion of latents into noise: edit-friendly noise maps, and DDIM inversion.

Both give a *path* of noisy latents that ends at the clean ones. Denoising begins at the first of them, with the same
texts or with others. With noise maps (Huberman-Spiegelglas et al., 2024) every step adds what was missing on the path,
so the same texts give the clean latents back exactly. DDIM inversion (Song et al., 2021) has no maps and gives them
back approximately.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.errors import ModelError

Latents = Float[Tensor, "batch channels height width"]
Predict = Callable[[Latents, int], Latents]
"""(noisy latents, timestep) → what the denoiser predicts, with guidance."""


def first_step(share: float, steps: int) -> int:
    """The number of the first step that is taken, where a share of the steps is left out."""
    return round(share * steps)


@dataclass(frozen=True)
class Steps:
    """The denoising steps of DDIM, from noise to clean latents.

    Attributes:
        timesteps: one for each step.
        signal: ᾱ, the share of the clean latents' variance, at each timestep and after the last step.
        prediction: what the denoiser predicts: "epsilon", "v_prediction" or "sample".
    """

    timesteps: tuple[int, ...]
    signal: tuple[float, ...]
    prediction: str

    @classmethod
    def of(cls, scheduler: Any, count: int) -> Self:
        """The steps of a ``DDIMScheduler``."""
        scheduler.set_timesteps(count)
        timesteps = tuple(int(t) for t in scheduler.timesteps)
        signal = (*(float(scheduler.alphas_cumprod[t]) for t in timesteps), float(scheduler.final_alpha_cumprod))
        return cls(timesteps, signal, scheduler.config.prediction_type)

    def __len__(self) -> int:
        return len(self.timesteps)

    def skipping(self, share: float) -> "Steps":
        """The same steps without a share of them: the first ones, which have the most noise."""
        first = first_step(share, len(self))
        return Steps(self.timesteps[first:], self.signal[first:], self.prediction)

    def noisy(self, clean: Latents, noise: Latents, index: int) -> Latents:
        """Clean latents with the noise that step ``index`` begins with."""
        return self.signal[index] ** 0.5 * clean + (1 - self.signal[index]) ** 0.5 * noise

    def mean(self, latents: Latents, predicted: Latents, index: int, eta: float) -> Latents:
        """The latents after step ``index``, without the noise that the step adds (Song et al., 2021, equation 12).

        Args:
            latents: noisy latents before the step.
            predicted: the denoiser's prediction for them.
            index: the step's number.
            eta: 0 for DDIM, which adds no noise; 1 for as much noise as DDPM's.
        """
        now, after = self.signal[index], self.signal[index + 1]
        clean, noise = _clean_and_noise(latents, predicted, now, self.prediction)
        variance = eta**2 * (1 - after) / (1 - now) * (1 - now / after)
        return after**0.5 * clean + max(0.0, 1 - after - variance) ** 0.5 * noise


def _clean_and_noise(latents: Latents, predicted: Latents, signal: float, prediction: str) -> tuple[Latents, Latents]:
    """The clean latents and the noise that a prediction means, as in diffusers' DDIM scheduler."""
    rest = 1 - signal
    match prediction:
        case "epsilon":
            return (latents - rest**0.5 * predicted) / signal**0.5, predicted
        case "v_prediction":
            clean = signal**0.5 * latents - rest**0.5 * predicted
            return clean, signal**0.5 * predicted + rest**0.5 * latents
        case "sample":
            return predicted, (latents - signal**0.5 * predicted) / rest**0.5
        case _:
            raise ModelError(f"the denoiser predicts {prediction!r}; editing knows epsilon, v_prediction and sample")


@dataclass(frozen=True)
class Inversion:
    """Latents as noise.

    Attributes:
        steps: the denoising steps that lead back.
        path: noisy latents before each step, and the clean latents after the last one.
        maps: what each step adds to its mean: the noise map times its standard deviation. Empty: nothing is added.
        eta: as in ``Steps.mean``.
    """

    steps: Steps
    path: tuple[Latents, ...]
    maps: tuple[Latents, ...]
    eta: float

    def skipping(self, share: float) -> "Inversion":
        """The same inversion without a share of the steps, the first ones."""
        first = first_step(share, len(self.steps))
        return Inversion(self.steps.skipping(share), self.path[first:], self.maps[first:], self.eta)

    def repeated(self, count: int) -> "Inversion":
        """The same inversion for a batch, of one element so far."""
        path, maps = ([one.expand(count, -1, -1, -1) for one in each] for each in (self.path, self.maps))
        return Inversion(self.steps, tuple(path), tuple(maps), self.eta)

    def denoise(self, predict: Predict, mask: Float[Tensor, "1 1 height width"] | None = None) -> Latents:
        """Latents denoised along the path, with other texts.

        Args:
            predict: the denoiser with these texts. With those of the inversion, the path's own latents come back.
            mask: 1 where latents may leave the path, 0 where they stay on it.
        """
        latents = self.path[0]
        for index, timestep in enumerate(self.steps.timesteps):
            latents = self.steps.mean(latents, predict(latents, timestep), index, self.eta)
            if self.maps:
                latents = latents + self.maps[index]
            if mask is not None:
                latents = mask * latents + (1 - mask) * self.path[index + 1]
        return latents


def noise_maps(predict: Predict, steps: Steps, clean: Latents, generators: Sequence[torch.Generator]) -> Inversion:
    """Edit-friendly noise maps (Huberman-Spiegelglas et al., 2024, section 3.2).

    The noise of every step is drawn on its own, so the maps have more variance than DDPM's and hold more of the
    picture. We keep each map multiplied with its standard deviation: nothing is divided by a small number, and the last
    step, whose deviation may be zero, is exact too.

    Args:
        predict: the denoiser with the texts that describe the picture.
        steps: the steps to invert.
        clean: the picture's latents.
        generators: of the noise, one for each element of the batch, on the CPU.
    """
    path = [clean]
    for index in reversed(range(len(steps))):  # from the last step on, so that leaving out first steps changes nothing
        noise = torch.stack([torch.randn(clean.shape[1:], generator=generator) for generator in generators])
        path.append(steps.noisy(clean, noise.to(clean), index))
    path.reverse()
    maps = [
        path[index + 1] - steps.mean(path[index], predict(path[index], timestep), index, eta=1.0)
        for index, timestep in enumerate(steps.timesteps)
    ]
    return Inversion(steps, tuple(path), tuple(maps), eta=1.0)


def ddim_inversion(predict: Predict, steps: Steps, clean: Latents) -> Inversion:
    """DDIM inversion: the denoiser's own noise, added step by step.

    Equal to diffusers' ``DDIMInverseScheduler`` where the number of steps divides that of the timesteps; that one has
    wrong noise levels elsewhere.

    Args:
        predict: the denoiser with the texts that describe the picture, best without guidance.
        steps: the steps to invert.
        clean: the picture's latents.
    """
    path = [clean]
    for index in reversed(range(len(steps))):
        predicted = predict(path[-1], steps.timesteps[index])
        cleaned, noise = _clean_and_noise(path[-1], predicted, steps.signal[index + 1], steps.prediction)
        path.append(steps.noisy(cleaned, noise, index))
    return Inversion(steps, tuple(reversed(path)), (), eta=0.0)
