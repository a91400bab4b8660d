"""Prompts and seeds → pictures, in batches, through the stock pipeline. One seed makes one picture."""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from promptplus.denoisers import denoiser_of
from promptplus.errors import ModelError, PromptError, SettingsError
from promptplus.hooks import has_ip_adapter
from promptplus.kept_pictures import kept_or_drawn
from promptplus.models import picture_size
from promptplus.pictures import pixels_of
from promptplus.pipelines import own_pipeline, scheduler_class
from promptplus.pplus import PPlus, Prompt
from promptplus.profiles import default_sampling
from promptplus.start_image import KeepOutside, StartImage
from promptplus.text_states import PromptEmbeds

BATCH = 16  # pictures at once; with the pocket model a picture then took .28 s, alone .92 s (our measurement, 2 cores)
PLAIN = ("prompt_embeds", "negative_prompt_embeds")  # what every pipeline takes
MAX_SIDE = 8192  # pixels; far above what any model was trained with (our choice)


class DrawingOptions(TypedDict, total=False):
    """How encoded prompts become pictures. What is None or left out is the model's own.

    Attributes:
        steps: number of denoising steps.
        guidance: guidance scale, 0 or more.
        scheduler: a name in ``pipelines.SCHEDULERS``, or diffusers' class name.
        width, height: of the pictures, in pixels.
        start: the picture to start from.
        safety_checker: False leaves the safety checker out.
    """

    steps: int | None
    guidance: float | None
    scheduler: str | None
    width: int | None
    height: int | None
    start: StartImage | None
    safety_checker: bool


def generate(
    pplus: PPlus,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    *,
    negative: Prompt = "",
    batch: int = BATCH,
    clip_skip: int | None = None,
    compel: bool = False,
    progress: bool | str = False,
    **options: Unpack[DrawingOptions],
) -> list[Image.Image]:
    """Generate one picture for each prompt and its seed.

    The noise is drawn from the seed on the CPU. A picture does not depend on the device; on its batch only by rounding.

    Args:
        pplus: the pipeline, with the concepts that the prompts use.
        prompts: one prompt for each picture, in any form that ``PPlus.encode`` takes.
        seeds: one seed for each prompt, from 0 to 2⁶³ - 1.
        negative: negative prompt of all pictures; "": none is given.
        batch: pictures generated at once.
        clip_skip, compel: as in ``PPlus.encode``.
        progress: show a progress bar; a text is its title.
        options: see ``DrawingOptions``.

    Raises:
        PromptError: the numbers of prompts and seeds differ, or a prompt cannot be encoded.
        SettingsError: an option or a seed is outside its range.
    """
    texts: dict[str, Any] = {"negative": negative, "clip_skip": clip_skip, "compel": compel}
    batches = generate_batches(pplus, prompts, seeds, batch=batch, **texts, **options)
    pictures: list[Image.Image] = []
    label = progress if isinstance(progress, str) else "generate"
    with tqdm(total=len(prompts), desc=label, unit="picture", disable=not progress) as bar:
        for made in batches:
            pictures += made
            bar.update(len(made))
    return pictures


def generate_batches(
    pplus: PPlus,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    *,
    negative: Prompt = "",
    batch: int = BATCH,
    clip_skip: int | None = None,
    compel: bool = False,
    **options: Unpack[DrawingOptions],
) -> Iterator[list[Image.Image]]:
    """Generate as ``generate`` does; yields each batch when it is made. Wrong options are refused at once."""
    if len(prompts) != len(seeds):
        raise PromptError(f"{len(prompts)} prompts but {len(seeds)} seeds; give a seed for each prompt")
    if not all(0 <= seed < 2**63 for seed in seeds):
        raise SettingsError(f"a seed is a whole number from 0 to 2⁶³ - 1, not {max(seeds, key=abs)}")
    check_options(pplus.pipe, options)

    def made(start: int) -> list[Image.Image]:
        part = list(prompts[start : start + batch])
        embeds = pplus.encode(part, negative or None, clip_skip=clip_skip, compel=compel)
        return denoise(pplus.pipe, embeds, seeds[start : start + batch], **options)

    return map(made, range(0, len(prompts), batch))


def check_steps(steps: int, timesteps: int) -> None:
    """Raise SettingsError where there are more denoising steps than the timesteps a model was trained with."""
    if not 1 <= steps <= timesteps:
        raise SettingsError(f"steps are 1 to {timesteps}, the timesteps this model was trained with, not {steps}")


def check_options(pipe: Any, options: DrawingOptions) -> None:
    """Raise SettingsError where an option is outside its range for this model, ModelError for an IP-Adapter."""
    if has_ip_adapter(denoiser_of(pipe)):
        raise ModelError(
            "an IP-Adapter is loaded, and there is no picture for it here: call the pipeline itself, "
            "pipe(**pplus.encode(prompt), ip_adapter_image=picture), or pipe.unload_ip_adapter() first"
        )
    steps, guidance = default_sampling(pipe, options.get("steps"), options.get("guidance"))
    check_steps(steps, pipe.scheduler.config.num_train_timesteps)
    if not (math.isfinite(guidance) and guidance >= 0):
        raise SettingsError(f"guidance is a number from 0 on, not {guidance}")
    if name := options.get("scheduler"):
        scheduler_class(name)
    for side in ("width", "height"):
        value = options.get(side)
        if value is not None and (value % pipe.vae_scale_factor or not 1 <= value <= MAX_SIDE):
            unit = pipe.vae_scale_factor
            raise SettingsError(f"{side} is a multiple of {unit} pixels, at most {MAX_SIDE}, not {value}")
    start = options.get("start")
    if start and int(steps * start.strength) < 1:
        raise SettingsError(
            f"strength {start.strength} of {steps} steps leaves no step; take more steps or a higher strength"
        )


def denoise(
    pipe: Any,
    embeds: PromptEmbeds,
    seeds: Sequence[int],
    *,
    prompt_schedule: Mapping[int, Float[Tensor, "batch tokens packed"]] | None = None,
    keep: bool = True,
    **options: Unpack[DrawingOptions],
) -> list[Image.Image]:
    """Generate pictures from encoded prompts, as one batch. The pipeline itself is not called, only its models.

    Args:
        pipe: a pipeline with the per-layer hooks installed.
        embeds: encoded prompts, as ``PPlus.encode`` returns them.
        seeds: one seed for each prompt.
        prompt_schedule: prompt embeddings by the denoising step (1, 2, …) from which on they replace the prompts'.
        keep: whether the pictures may be read again where ``kept_pictures`` are; False where the calls are watched.
        options: see ``DrawingOptions``.

    Raises SettingsError where an option is outside its range, ModelError where texts cannot change on the way.
    """
    check_options(pipe, options)
    steps, guidance = default_sampling(pipe, options.get("steps"), options.get("guidance"))
    start, schedule = options.get("start"), prompt_schedule or {}
    if schedule and "prompt_attention_mask" in embeds:
        raise ModelError(f"{type(pipe).__name__} keeps one mask, so its texts cannot change during the denoising")
    width, height = options.get("width"), options.get("height")
    own = own_pipeline(
        pipe,
        scheduler=options.get("scheduler"),
        for_picture=start is not None,
        safety_checker=options.get("safety_checker", True),
    )
    call: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance}
    values: dict[str, Any] = {**call, "seeds": list(seeds), "size": [width, height]}
    tensors: dict[str, Tensor] = {f"from step {step}": states for step, states in schedule.items()}
    tensors |= {"prompt": embeds["prompt_embeds"], "negative": embeds["negative_prompt_embeds"]}
    tensors |= {name: value for name, value in embeds.items() if isinstance(value, Tensor) and name not in PLAIN}
    if start:
        start = start.resized(pipe, width, height)
        call |= start.arguments(own)
        values["strength"] = start.strength
        tensors["start"] = pixels_of([start.picture])
        if start.mask:
            tensors["mask"] = pixels_of([start.mask.convert("RGB")])
    else:
        call |= _size(own, width, height)

    def draw() -> list[Image.Image]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        inside = KeepOutside(own, start, list(seeds)) if start and start.blends(own) else None
        if schedule or inside:
            names = [*(["latents"] if inside else []), *(["prompt_embeds"] if schedule else [])]
            call["callback_on_step_end_tensor_inputs"] = names
            call["callback_on_step_end"] = partial(_after_step, schedule, embeds["negative_prompt_embeds"], inside)
        made = own(**embeds, **call, generator=generators).images
        return [start.composed(picture) for picture in made] if start else made

    return kept_or_drawn(own, tensors, values, len(seeds), draw) if keep else draw()


def _size(pipe: Any, width: int | None, height: int | None) -> dict[str, int | None]:
    """The arguments for a picture's size; None: the model's own."""
    height_of_call = inspect.signature(type(pipe).__call__).parameters.get("height")
    if height_of_call and isinstance(height_of_call.default, int):  # Sana's: one size for all models, and no None
        return {"width": width or picture_size(pipe), "height": height or picture_size(pipe)}
    return {"width": width, "height": height}


def _after_step(
    schedule: Mapping[int, Tensor],
    negative: Tensor,
    inside: KeepOutside | None,
    pipeline: Any,
    step: int,
    timestep: Any,
    tensors: dict[str, Tensor],
) -> dict[str, Tensor]:
    """What the pipeline goes on with after a step: other prompts, and the start picture outside the mask."""
    if inside:
        tensors = {**tensors, "latents": inside(pipeline, step, timestep, tensors["latents"])}
    scheduled = schedule.get(step + 1)
    if scheduled is not None:
        guided = pipeline.do_classifier_free_guidance
        tensors = {**tensors, "prompt_embeds": torch.cat([negative, scheduled]) if guided else scheduled}
    return tensors
