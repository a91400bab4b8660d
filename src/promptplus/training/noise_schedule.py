"""What a denoiser was trained with: its noise schedule, what it predicts, and whether it can be trained on."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from promptplus.backbones import dit
from promptplus.denoisers import denoiser_of, models_of
from promptplus.errors import ModelError
from promptplus.hooks import has_ip_adapter

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What a denoiser may predict: the noise, the velocity (Salimans and Ho, 2022), or the clean latents."""


@dataclass(frozen=True)
class FlowSchedule:
    """Rectified flow (Liu et al., 2023): noisy = (1 - sigma) clean + sigma noise; the denoiser predicts noise - clean.

    Sigma is drawn as the pipeline's own steps are spaced: evenly, then moved towards noise by ``shift`` (our choice).

    Attributes:
        num_train_timesteps: how many timesteps are drawn from.
        shift: the scheduler's shift; 1: none.
    """

    num_train_timesteps: int
    shift: float
    prediction_type: ClassVar[str] = "flow_prediction"

    @property
    def config(self) -> Self:
        """Itself: read as the configuration of a scheduler is."""
        return self

    def sigma(self, timestep: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The share of noise at a timestep."""
        even = (timestep + 1).float() / self.num_train_timesteps
        return self.shift * even / (1 + (self.shift - 1) * even)

    def add_noise(
        self,
        latents: Float[Tensor, "batch channels height width"],
        noise: Float[Tensor, "batch channels height width"],
        timestep: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Noisy latents."""
        return torch.lerp(latents, noise, self.sigma(timestep).to(latents)[:, None, None, None])


def training_scheduler(pipe: Any) -> Any:
    """The noise schedule that the pipeline's denoiser was trained with: DDPM's, or one of rectified flow.

    Raises ModelError for a scheduler of another kind: one of EDM, with another prediction type, or with a noise
    schedule that DDPM does not have.
    """
    config, name = pipe.scheduler.config, type(pipe.scheduler).__name__
    kind = config.get("prediction_type")
    if dit.is_dit(denoiser_of(pipe)):  # a U-Net was not trained with flow, whatever its scheduler says
        if kind == FlowSchedule.prediction_type:
            return FlowSchedule(config["num_train_timesteps"], config.get("flow_shift") or 1.0)
        if name == "FlowMatchEulerDiscreteScheduler" and not config.get("use_dynamic_shifting"):
            return FlowSchedule(config["num_train_timesteps"], config["shift"])
    used = inspect.signature(type(pipe.scheduler)).parameters.keys()  # a configuration may hold what its class ignores
    ddpm = {"prediction_type", "beta_schedule"} <= used and "snr_shift_scale" not in used
    if not ddpm or kind not in PREDICTIONS or config.get("use_flow_sigmas"):
        raise ModelError(
            f"{name} with prediction type {kind!r} cannot be trained with: promptplus trains denoisers of a DDPM noise "
            f"schedule that predict {', '.join(PREDICTIONS)}; set pipe.scheduler to the one the model was made with"
        )
    from diffusers import DDPMScheduler  # slow to import: only when something is trained

    known = inspect.signature(DDPMScheduler).parameters.keys()  # given one by one: from_config leaves defaults out
    return DDPMScheduler(**{name: config[name] for name in known & config.keys()})


def target_of(
    scheduler: Any,
    latents: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    timestep: Int[Tensor, " batch"],
) -> Float[Tensor, "batch channels height width"]:
    """What the denoiser should predict for clean latents with noise at a timestep."""
    kind = scheduler.config.prediction_type
    if kind == FlowSchedule.prediction_type:
        return noise - latents
    if kind == "v_prediction":
        return scheduler.get_velocity(latents, noise, timestep)
    return latents if kind == "sample" else noise


def model_timestep(scheduler: Any, timestep: Int[Tensor, " batch"]) -> Shaped[Tensor, " batch"]:
    """What the denoiser is told of a timestep: its number; with rectified flow the share of noise, as a number."""
    if isinstance(scheduler, FlowSchedule):
        return scheduler.sigma(timestep) * scheduler.num_train_timesteps
    return timestep


def min_snr_weight(
    scheduler: Any, timestep: Int[Tensor, " batch"], most: float, like: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """The weight of a timestep's error that makes it min(SNR, ``most``) times the error of the clean latents.

    Hang et al., 2023, section 3.4, for each kind of prediction.
    """
    if isinstance(scheduler, FlowSchedule):
        sigma = scheduler.sigma(timestep).to(like)
        return ((1 - sigma) / sigma).square().clamp(max=most) * sigma.square()
    clean = scheduler.alphas_cumprod[timestep].to(like)
    snr = clean / (1 - clean)
    return {
        "epsilon": (most / snr).clamp(max=1),
        "v_prediction": snr.clamp(max=most) / (snr + 1),
        "sample": snr.clamp(max=most),
    }[scheduler.config.prediction_type]


def check_trainable(pipe: Any) -> None:
    """See, before any work, that the pipeline's denoiser can be called in training. Raises ModelError otherwise."""
    training_scheduler(pipe)
    denoiser = denoiser_of(pipe)
    if has_ip_adapter(denoiser):
        raise ModelError("an IP-Adapter is loaded, and training has no picture for it: pipe.unload_ip_adapter() first")
    for name in ("class_embed_type", "num_class_embeds", "addition_embed_type"):
        value = getattr(denoiser.config, name, None)
        if value not in (None, "text_time"):
            raise ModelError(
                f"{type(denoiser).__name__} has {name} {value!r}: it takes further inputs beside text, "
                "which training does not supply; use a text-to-image denoiser without them"
            )
    if any(weight.is_inference() for model in models_of(pipe).values() for weight in model.parameters()):
        raise ModelError("the model was loaded inside torch.inference_mode(); load it outside, then it can be trained")


@contextmanager
def gradients_on() -> Iterator[None]:
    """While inside, gradients are recorded, also where the caller has switched them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
