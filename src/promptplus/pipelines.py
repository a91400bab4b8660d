"""Pipelines of our own around a stock pipeline's models: with their own scheduler, for text or for a start picture.

Two calls at once never share a scheduler, so any number of threads may draw pictures with one model.
"""

import copy
import inspect
from typing import Any

from promptplus.denoisers import denoiser_of
from promptplus.errors import ModelError, SettingsError

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "deis": "DEISMultistepScheduler",
    "dpm": "DPMSolverMultistepScheduler",
    "dpm-single": "DPMSolverSinglestepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""The schedulers (samplers) that can be chosen, by short name; the class names are diffusers'."""


def scheduler_class(name: str) -> str:
    """diffusers' class name of a scheduler, from it or from a short name. Raises SettingsError for others."""
    if name in SCHEDULERS.values():
        return name
    try:
        return SCHEDULERS[name.lower()]
    except KeyError:
        raise SettingsError(f"no scheduler {name!r}; use {', '.join(SCHEDULERS)}, or diffusers' class name") from None


def own_pipeline(
    pipe: Any, *, scheduler: str | None = None, for_picture: bool = False, safety_checker: bool = True
) -> Any:
    """A pipeline with the same models that nobody else calls. The given one is not changed.

    ControlNets are left out: they need pictures that our own calls do not have.

    Args:
        pipe: a text-to-image, image-to-image or inpainting pipeline.
        scheduler: a name in ``SCHEDULERS``, or diffusers' class name. Default: a copy of the pipeline's own.
        for_picture: whether it starts from a picture.
        safety_checker: False leaves the safety checker out.

    Raises:
        SettingsError: there is no such scheduler.
        ModelError: diffusers has no such pipeline for these models.
    """
    own = copy.copy(pipe)
    own.scheduler = _scheduler(pipe, scheduler)
    if not safety_checker and getattr(own, "safety_checker", None) is not None:
        own.safety_checker = None
    takes_picture = "image" in inspect.signature(own.__call__).parameters
    if for_picture and not is_inpainting(pipe):
        own = _converted(own, "AutoPipelineForImage2Image")
    elif takes_picture and not for_picture:
        own = _converted(own, "AutoPipelineForText2Image")
    own.set_progress_bar_config(disable=True)
    return own


def is_inpainting(pipe: Any) -> bool:
    """Whether the denoiser was trained to fill in masks: it takes mask and picture as further channels."""
    return denoiser_of(pipe).config.in_channels == 2 * pipe.vae.config.latent_channels + 1


def _scheduler(pipe: Any, name: str | None) -> Any:
    if name is None:
        return copy.deepcopy(pipe.scheduler)
    import diffusers  # slow to import

    kind = getattr(diffusers, scheduler_class(name))
    usual = {"clip_sample": False, "skip_prk_steps": True}  # as in Stable Diffusion; their defaults are for pixels
    options = {name: value for name, value in usual.items() if name in inspect.signature(kind).parameters}
    try:
        return kind.from_config(pipe.scheduler.config, **options)
    except (ImportError, ValueError, NotImplementedError) as error:  # it lacks a library, or refuses the configuration
        reason = " ".join(str(error).split())
        raise SettingsError(f"the scheduler {name} cannot be used with this model: {reason}") from error


def _converted(pipe: Any, kind: str) -> Any:
    """The pipeline of another task for the same models, without ControlNets; ``kind``: diffusers' class for it."""
    import diffusers  # slow to import

    options: dict[str, Any] = {"controlnet": None} if getattr(pipe, "controlnet", None) is not None else {}
    if hasattr(pipe, "safety_checker") and pipe.safety_checker is None:
        options["requires_safety_checker"] = False
    try:
        return getattr(diffusers, kind).from_pipe(pipe, **options)
    except ValueError as error:
        task = "start from a picture" if "Image2Image" in kind else "draw from text alone"
        raise ModelError(f"{type(pipe).__name__} cannot {task}: {' '.join(str(error).split())}") from error
