"""Editing of a real picture: inverted with the source's texts, denoised with the target's texts in some layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from promptplus.denoiser_calls import DenoiserCall
from promptplus.denoisers import denoiser_of
from promptplus.editing.inversion import (
    Inversion,
    Latents,
    Predict,
    Steps,
    ddim_inversion,
    first_step,
    noise_maps,
)
from promptplus.errors import ModelError, PromptError, SettingsError
from promptplus.generation import check_options
from promptplus.latents import safe_vae, scale_and_shift
from promptplus.pictures import to_picture
from promptplus.pipelines import is_inpainting
from promptplus.pplus import PPlus, Prompt
from promptplus.profiles import default_sampling
from promptplus.prompts import PPlusPrompt
from promptplus.start_image import StartImage, latent_mask, to_latents
from promptplus.text_encoders import device_of, text_encoders_of
from promptplus.text_states import PackedText, PromptEmbeds

METHODS = ("noise-maps", "ddim")
STEPS = 50  # LEDITS++'s default (Brack et al., 2024)
SKIP = 0.15  # LEDITS++'s default

Target = Prompt | Mapping[str, str]
"""A whole prompt, or a dict without "default": the texts of the layers that it names."""


@dataclass(frozen=True)
class EditSettings:
    """How a picture is edited.

    Attributes:
        method: "noise-maps" or "ddim" (see ``inversion``).
        steps: denoising steps of the whole way from pure noise. Default: 50.
        guidance: guidance scale; None: the model's.
        skip: share of the steps, the first ones, that are left out. More keeps more of the picture.
    """

    method: str = METHODS[0]
    steps: int = STEPS
    guidance: float | None = None
    skip: float = SKIP

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingsError(f"no editing method {self.method!r}; use {' or '.join(METHODS)}")
        if not 0 <= self.skip < 1:
            raise SettingsError(f"skip is a share of the steps, from 0 to below 1, not {self.skip}")
        if self.steps >= 1 and first_step(self.skip, self.steps) >= self.steps:
            raise SettingsError(f"skip {self.skip} of {self.steps} steps leaves none; take more steps or skip less")


def edit(
    pplus: PPlus,
    picture: Any,
    *,
    source: Prompt,
    target: Target,
    negative: Prompt = "",
    seed: int = 0,
    mask: Any = None,
    settings: EditSettings | None = None,
) -> Image.Image:
    """Edit a picture: some layers say something else than what describes it.

    Args:
        pplus: the pipeline, with the concepts that the prompts use.
        picture: a path or a picture. It is brought to the model's native size.
        source: describes the picture.
        target: the texts to denoise with. A prompt replaces the source in all layers. A dict without "default" replaces
            it in the layers that it names: ``{"fine": "a green car"}``.
        negative: negative prompt; "": none is given.
        seed: of the noise of the noise maps.
        mask: a path or a picture of the picture's size: white where it may change. What is black stays to the bit.
        settings: default: ``EditSettings()``.

    Returns:
        The edited picture.

    Raises:
        PictureError: a picture cannot be read, or the mask has another size.
        PromptError: a prompt breaks the grammar, or the target names no layer.
        LayerError: a prompt names a layer that the model does not have.
        SettingsError: a setting is outside its range.
        ModelError: the denoiser was trained for inpainting, or has an IP-Adapter.

    Example::

        car = edit(pplus, "car.png", source="a red car on sand", target={"fine": "a green car on sand"})
    """
    shown = None if mask is None else to_picture(mask, "the mask")
    start = StartImage(to_picture(picture), mask=shown)
    return edit_batch(pplus, start, source, [target], [seed], negative=negative, settings=settings)[0]


def target_prompt(source: Prompt, target: Target) -> PPlusPrompt:
    """The whole prompt to denoise with: a target without a default has the source's texts in all other layers.

    Raises PromptError where the target names no layer.
    """
    if not isinstance(target, Mapping) or "default" in target:
        return PPlusPrompt.of(target)
    if not target:
        raise PromptError('the target names no layer; give a prompt, or texts by layers as {"fine": "a green car"}')
    whole = PPlusPrompt.of(source)
    for layers, text in target.items():
        whole = whole.with_part(layers, text)
    return whole


def edit_batch(
    pplus: PPlus,
    start: StartImage,
    source: Prompt,
    targets: Sequence[Target],
    seeds: Sequence[int],
    *,
    negative: Prompt = "",
    settings: EditSettings | None = None,
    width: int | None = None,
    height: int | None = None,
) -> list[Image.Image]:
    """Edits of one picture, as ``edit`` makes them: one for each target and its seed."""
    texts = pplus.encode([target_prompt(source, target) for target in targets], negative or None)
    start = start.resized(pplus.pipe, width, height)
    return InvertedPicture.of(pplus, start, source, seeds, negative, settings).denoised(texts)


@dataclass(frozen=True)
class InvertedPicture:
    """A picture that is inverted, once for each seed, and can be denoised with other texts.

    Attributes:
        pplus: the pipeline.
        start: the picture and its mask, of the size that is drawn.
        inversion: of one element for each seed.
        guidance: as in ``EditSettings``.
    """

    pplus: PPlus
    start: StartImage
    inversion: Inversion
    guidance: float | None

    @classmethod
    def of(
        cls,
        pplus: PPlus,
        start: StartImage,
        source: Prompt,
        seeds: Sequence[int],
        negative: Prompt,
        settings: EditSettings | None,
    ) -> Self:
        """Invert a picture with the text that describes it. Raises as ``check_edit`` does."""
        chosen = settings or EditSettings()
        check_edit(pplus.pipe, chosen)
        clean = to_latents(pplus.pipe, start.picture).expand(len(seeds), -1, -1, -1)
        inversion = invert(pplus, clean, pplus.encode([source] * len(seeds), negative or None), seeds, chosen)
        return cls(pplus, start, inversion, chosen.guidance)

    def denoised(self, texts: PromptEmbeds) -> list[Image.Image]:
        """A picture for each of the encoded prompts: with the noise of each seed, or all with that of the only one."""
        count = len(texts["prompt_embeds"])
        inversion = self.inversion.repeated(count) if len(self.inversion.path[0]) == 1 else self.inversion
        mask = latent_mask(self.start.mask, inversion.path[0]) if self.start.mask else None
        made = denoise_inversion(self.pplus, inversion, texts, self.guidance, mask)
        return [self.start.composed(picture) for picture in made]


def check_edit(pipe: Any, settings: EditSettings) -> None:
    """Raise SettingsError where a setting is outside its range for this model, ModelError where it cannot edit."""
    check_options(pipe, {"steps": settings.steps, "guidance": settings.guidance})
    if is_inpainting(pipe):
        raise ModelError("the denoiser was trained for inpainting; edit with a text-to-image model")
    flow = pipe.scheduler.config.get("prediction_type") == "flow_prediction"
    if flow or not hasattr(pipe.scheduler, "alphas_cumprod"):
        raise ModelError(f"editing needs a model with DDPM's noise, not one of {type(pipe.scheduler).__name__}")


def invert(
    pplus: PPlus, clean: Latents, texts: PromptEmbeds, seeds: Sequence[int], settings: EditSettings
) -> Inversion:
    """Invert latents of pictures, each with its texts.

    DDIM inversion has no guidance: with it, the way back would lead to another picture (Mokady et al., 2023).
    """
    from diffusers import DDIMScheduler  # slow to import

    scheduler = DDIMScheduler.from_config(pplus.pipe.scheduler.config, clip_sample=False, thresholding=False)
    steps, clean = Steps.of(scheduler, settings.steps).skipping(settings.skip), clean.float()
    if settings.method == "ddim":
        return ddim_inversion(predictor(pplus, texts, 1.0), steps, clean)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return noise_maps(predictor(pplus, texts, settings.guidance), steps, clean, generators)


def denoise_inversion(
    pplus: PPlus,
    inversion: Inversion,
    texts: PromptEmbeds,
    guidance: float | None,
    mask: Float[Tensor, "1 1 height width"] | None = None,
) -> list[Image.Image]:
    """Pictures denoised from an inversion, each with its texts."""
    return to_pictures(pplus.pipe, inversion.denoise(predictor(pplus, texts, guidance), mask))


@torch.no_grad()
def to_pictures(pipe: Any, latents: Latents) -> list[Image.Image]:
    """The pictures of latents, after the pipeline's safety checker where it has one."""
    vae = safe_vae(pipe)
    scale, shift = scale_and_shift(vae)
    decoded = vae.decode((latents / scale + shift).to(vae.dtype)).sample
    if getattr(pipe, "safety_checker", None) is None:
        return pipe.image_processor.postprocess(decoded)
    checked, unsafe = pipe.run_safety_checker(decoded, _device(pipe), denoiser_of(pipe).dtype)
    return pipe.image_processor.postprocess(checked, do_denormalize=[not flag for flag in unsafe])  # as diffusers does


def predictor(pplus: PPlus, texts: PromptEmbeds, guidance: float | None) -> Predict:
    """The denoiser with texts, one for each element of the batch, and classifier-free guidance above a scale of 1."""
    pipe = pplus.pipe
    denoiser, device = DenoiserCall.of(pipe), _device(pipe)
    _, scale = default_sampling(pipe, None, guidance)
    prompts = PackedText.of_prompts(texts)
    if scale > 1:
        prompts = PackedText.of_negatives(texts).followed_by(prompts)
    prompts = prompts.to(device, denoiser.dtype)

    @torch.no_grad()
    def predict(latents: Latents, timestep: int) -> Latents:
        repeated = torch.cat([latents] * 2) if scale > 1 else latents
        time = torch.tensor(timestep, device=device)
        predicted = denoiser(repeated.to(device, denoiser.dtype), time, prompts).to(latents)
        if scale <= 1:
            return predicted
        without, conditioned = predicted.chunk(2)
        return without + scale * (conditioned - without)

    return predict


def _device(pipe: Any) -> torch.device | None:
    """The device the models run on where their weights are elsewhere (offloading)."""
    return device_of(text_encoders_of(pipe)[0], pipe)
