"""Prompts and seeds → pictures, in batches, through the stock pipeline. One seed makes one picture."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from promptplus.errors import PromptError, SettingsError
from promptplus.hooks import pack
from promptplus.pplus import PPlus, Prompt, PromptEmbeds
from promptplus.profiles import default_sampling

BATCH = 16  # pictures at once; with the pocket model a picture then took .28 s, alone .92 s (our measurement, 2 cores)


def generate(
    pplus: PPlus,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    *,
    negative: Prompt = "",
    steps: int | None = None,
    guidance: float | None = None,
    batch: int = BATCH,
    clip_skip: int | None = None,
    progress: bool | str = False,
) -> list[Image.Image]:
    """Generate one picture for each prompt and its seed, at the model's native size.

    The noise is drawn from the seed on the CPU, so a picture depends neither on its batch nor on the device.

    Args:
        pplus: the pipeline, with the concepts that the prompts use.
        prompts: one prompt for each picture, in any form that ``PPlus.encode`` takes.
        seeds: one seed for each prompt, from 0 to 2⁶³ - 1.
        negative: negative prompt of all pictures.
        steps: number of denoising steps. Default: the model's profile.
        guidance: guidance scale. Default: the model's profile.
        batch: pictures generated at once.
        clip_skip: as in ``PPlus.encode``.
        progress: show a progress bar; a text is its title.

    Raises:
        PromptError: the numbers of prompts and seeds differ, or a prompt cannot be encoded.
        SettingsError: ``steps`` or a seed is outside its range.
    """
    if len(prompts) != len(seeds):
        raise PromptError(f"{len(prompts)} prompts but {len(seeds)} seeds; give a seed for each prompt")
    steps, guidance = default_sampling(pplus.pipe, steps, guidance)
    most = pplus.pipe.scheduler.config.num_train_timesteps
    if not 1 <= steps <= most:
        raise SettingsError(f"steps are 1 to {most}, the timesteps this model was trained with, not {steps}")
    if not all(0 <= seed < 2**63 for seed in seeds):
        raise SettingsError(f"a seed is a whole number from 0 to 2⁶³ - 1, not {max(seeds, key=abs)}")
    pictures: list[Image.Image] = []
    label = progress if isinstance(progress, str) else "generate"
    with quiet(pplus.pipe), tqdm(total=len(prompts), desc=label, unit="picture", disable=not progress) as bar:
        for start in range(0, len(prompts), batch):
            embeds = pplus.encode(list(prompts[start : start + batch]), negative, clip_skip=clip_skip)
            pictures += denoise(pplus.pipe, embeds, seeds[start : start + batch], steps=steps, guidance=guidance)
            bar.update(len(pictures) - bar.n)
    return pictures


def denoise(
    pipe: Any,
    embeds: PromptEmbeds,
    seeds: Sequence[int],
    *,
    steps: int | None = None,
    guidance: float | None = None,
    prompt_schedule: Mapping[int, Float[Tensor, "batch tokens packed"]] | None = None,
) -> list[Image.Image]:
    """Generate pictures from encoded prompts, as one batch.

    Args:
        pipe: a pipeline with the per-layer hooks installed.
        embeds: encoded prompts, as ``PPlus.encode`` returns them.
        seeds: one seed for each prompt.
        steps: number of denoising steps. Default: the model's profile.
        guidance: guidance scale. Default: the model's profile.
        prompt_schedule: prompt embeddings by the denoising step (1, 2, …) from which on they replace the prompts'.
    """
    steps, guidance = default_sampling(pipe, steps, guidance)
    call: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance}
    call["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
    if prompt_schedule:
        negative = embeds["negative_prompt_embeds"]

        def replace_prompt(pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            scheduled = prompt_schedule.get(step + 1)
            if scheduled is None:
                return tensors
            guided = pipeline.do_classifier_free_guidance
            return {**tensors, "prompt_embeds": torch.cat([negative, scheduled]) if guided else scheduled}

        call |= {"callback_on_step_end": replace_prompt, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    return pipe(**embeds, **call).images


def to_prompt_embeds(
    states: Float[Tensor, "batch layers tokens width"], negative: Float[Tensor, "1 layers tokens width"]
) -> PromptEmbeds:
    """Pipeline arguments from the text states of prompts and those of one negative prompt for all."""
    return {"prompt_embeds": pack(states), "negative_prompt_embeds": pack(negative.expand_as(states))}


@contextmanager
def quiet(pipe: Any) -> Generator[None]:
    """Switch the pipeline's own progress bar off for the length of a ``with`` block."""
    before = getattr(pipe, "_progress_bar_config", None)
    pipe.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        if before is None:
            del pipe._progress_bar_config
        else:
            pipe._progress_bar_config = before
