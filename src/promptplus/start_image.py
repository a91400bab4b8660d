"""A picture to start from: image to image, and inpainting with a mask."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from promptplus.errors import PictureError, SettingsError
from promptplus.latents import posterior, safe_vae, scale_and_shift
from promptplus.models import picture_size
from promptplus.pictures import pixels_of, to_rgb
from promptplus.pipelines import is_inpainting

STRENGTH = 0.8  # diffusers' default for image to image


@dataclass(frozen=True)
class StartImage:
    """A picture that denoising starts from, and what of it may change.

    Attributes:
        picture: RGB, of any size.
        strength: the share of the denoising steps that is taken, above 0 and at most 1; 1 begins at pure noise.
        mask: white where the picture may change, black where it stays; None: everywhere. Of the picture's size.
    """

    picture: Image.Image
    strength: float = STRENGTH
    mask: Image.Image | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise SettingsError(f"strength is above 0 and at most 1, not {self.strength}")
        if self.mask is not None and self.mask.size != self.picture.size:
            raise PictureError(f"the mask is {_size(self.mask)}, the picture {_size(self.picture)}; make them equal")
        object.__setattr__(self, "picture", to_rgb(self.picture))
        if self.mask is not None:
            object.__setattr__(self, "mask", self.mask.convert("L"))

    def resized(self, pipe: Any, width: int | None, height: int | None) -> "StartImage":
        """The same start in a size that the model can draw.

        Width and height as given cut the picture's centre out. Without either, the picture keeps its shape, with the
        model's native size on its shorter side.
        """
        unit = pipe.vae_scale_factor
        scale = picture_size(pipe) / min(self.picture.size) if not is_inpainting(pipe) else 1.0
        fitted = [max(unit, round(side * scale / unit) * unit) for side in self.picture.size]
        size = (width or fitted[0], height or fitted[1])
        mask = self.mask and ImageOps.fit(self.mask, size, Image.Resampling.BILINEAR)
        return StartImage(ImageOps.fit(self.picture, size, Image.Resampling.LANCZOS), self.strength, mask)

    def blends(self, pipe: Any) -> bool:
        """Whether ``KeepOutside`` has to keep what the mask covers: an inpainting denoiser sees the mask itself."""
        return self.mask is not None and not is_inpainting(pipe)

    def arguments(self, pipe: Any) -> dict[str, Any]:
        """The pipeline's arguments. The start has the size that is drawn."""
        call: dict[str, Any] = {"image": self.picture, "strength": self.strength}
        if is_inpainting(pipe):
            mask = self.mask or Image.new("L", self.picture.size, 255)
            call |= {"mask_image": mask, "width": self.picture.width, "height": self.picture.height}
        return call

    def composed(self, picture: Image.Image) -> Image.Image:
        """A drawn picture, with the start's own pixels where the mask is black."""
        return Image.composite(picture, self.picture, self.mask) if self.mask else picture


@torch.no_grad()
def to_latents(pipe: Any, picture: Image.Image) -> Float[Tensor, "1 channels height width"]:
    """The latents of a picture: the autoencoder's mean, scaled for the denoiser."""
    vae = safe_vae(pipe)
    mean, _ = posterior(vae, pixels_of([picture]))
    scale, shift = scale_and_shift(vae)
    return ((mean - shift) * scale).to(pipe.vae.dtype)


def latent_mask(mask: Image.Image, latents: Float[Tensor, "batch channels height width"]) -> Tensor:
    """A mask in the size of latents: 1 where it is white, 0 where it is black, between them the share of white."""
    small = mask.resize((latents.shape[3], latents.shape[2]), Image.Resampling.BOX)
    return ((pixels_of([small.convert("RGB")])[:, :1] + 1) / 2).to(latents)


class KeepOutside:
    """A callback that keeps the latents outside a mask at the start picture, noised as far as each step is.

    As diffusers does in inpainting pipelines for ordinary denoisers, here for any number of latent channels.

    Args:
        pipe: the pipeline that is called.
        start: of the size that is drawn, with a mask.
        seeds: of the pictures; they decide the noise.
    """

    @torch.no_grad()
    def __init__(self, pipe: Any, start: StartImage, seeds: list[int]) -> None:
        assert start.mask is not None
        clean = to_latents(pipe, start.picture)
        shape = clean.shape[1:]
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.clean = clean.expand(len(seeds), -1, -1, -1)
        self.noise = torch.stack(noise).to(clean)
        self.mask = latent_mask(start.mask, clean)
        self.first = 0

    def __call__(self, pipeline: Any, step: int, timestep: Any, latents: Tensor) -> Tensor:
        """The latents after a step (0, 1, …)."""
        timesteps = pipeline.scheduler.timesteps
        if step == 0:
            self.first = int((timesteps == timestep).nonzero()[0, 0])
        following = self.first + step + 1
        kept = self.clean
        if following < len(timesteps):
            kept = pipeline.scheduler.add_noise(kept, self.noise, timesteps[following].repeat(len(kept)))
        return self.mask * latents + (1 - self.mask) * kept.to(latents)


def _size(picture: Image.Image) -> str:
    return f"{picture.width}×{picture.height}"
