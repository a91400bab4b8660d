"""A pipeline's denoiser, called outside its pipeline: noisy latents, timestep and text → what it predicts."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from promptplus.denoisers import denoiser_of
from promptplus.text_states import PackedText

Latents = Float[Tensor, "batch channels height width"]


@dataclass(frozen=True)
class DenoiserCall:
    """Calls a denoiser as its stock pipeline does, with all it takes beside the text states.

    Stable Diffusion XL gets the picture's size, as of a picture that was not cropped; PixArt's variances are left out.

    Attributes:
        run: the denoiser, or what replaces it for many calls of one shape (``training.compilation``).
        config: the denoiser's configuration.
        pixels: pixels of a picture for each latent pixel.
    """

    run: Any
    config: Any
    pixels: int

    @classmethod
    def of(cls, pipe: Any, run: Any = None) -> Self:
        """The calls of a pipeline's denoiser; ``run``: what is called in its place."""
        denoiser = denoiser_of(pipe)
        return cls(denoiser if run is None else run, denoiser.config, pipe.vae_scale_factor)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of latents and text states that it takes."""
        return self.run.dtype

    def __call__(self, noisy: Latents, timestep: Shaped[Tensor, "*batch"], text: PackedText) -> Latents:
        """What the denoiser predicts, in its own dtype.

        Args:
            noisy: noisy latents, in the denoiser's dtype.
            timestep: one for all, or one for each.
            text: on the denoiser's device and in its dtype.
        """
        arguments: dict[str, Any] = {"encoder_hidden_states": text.states}
        if text.mask is not None:
            arguments["encoder_attention_mask"] = text.mask
        if (added := self._added(noisy, text)) is not None:
            arguments["added_cond_kwargs"] = added
        timestep = timestep.to(noisy.device, non_blocking=True).expand(len(noisy)) * (
            getattr(self.config, "timestep_scale", None) or 1
        )
        predicted: Tensor = self.run(noisy, timestep=timestep, **arguments, return_dict=False)[0]
        return predicted[:, : noisy.shape[1]] if self._learns_variance else predicted

    def _added(self, noisy: Latents, text: PackedText) -> dict[str, Any] | None:
        """What the denoiser takes beside text and timestep; None: nothing."""
        size = [self.pixels * side for side in noisy.shape[-2:]]
        if getattr(self.config, "addition_embed_type", None) == "text_time":
            sizes = [*size, 0, 0, *size]  # original, top left corner of the crop, target
            return {"text_embeds": text.pooled, "time_ids": self._for_each(noisy, sizes)}
        if hasattr(self.config, "use_additional_conditions"):
            if not self._takes_size:
                return {"resolution": None, "aspect_ratio": None}
            ratio = [size[0] / size[1]]
            return {"resolution": self._for_each(noisy, size), "aspect_ratio": self._for_each(noisy, ratio)}
        return None

    @property
    def _takes_size(self) -> bool:
        """Whether it is a PixArt-Alpha of 1024 pixels."""
        use = self.config.use_additional_conditions
        return self.config.sample_size == 128 if use is None else bool(use)  # as PixArtTransformer2DModel decides

    @property
    def _learns_variance(self) -> bool:
        return getattr(self.config, "out_channels", None) == 2 * self.config.in_channels

    @staticmethod
    def _for_each(noisy: Latents, values: list[Any]) -> Float[Tensor, "batch values"]:
        return torch.tensor([values], dtype=noisy.dtype).to(noisy.device, non_blocking=True).expand(len(noisy), -1)
