"""A denoiser in training on a subject, with its class beside it (DreamBooth, Ruiz et al., 2023): all of it, or LoRA."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from promptplus.pplus import PPlus
from promptplus.training.batches import Batch, BatchRule, LatentCache
from promptplus.training.denoiser_files import adapted, duplicate, save_lora, save_pipeline, with_denoiser
from promptplus.training.previews import sample
from promptplus.training.settings import DreamBoothSettings, LoraSettings
from promptplus.training.step import Trainer
from promptplus.training.trainable import Trainable

WEIGHT_DECAY, MAX_NORM = 1e-2, 1.0  # AdamW's, and where gradients are clipped (diffusers' DreamBooth example)


class DenoiserTrainable(Trainable):
    """A copy of the denoiser in training. The pipeline's own stays as it is.

    Args:
        states: text states ``[2, S, D]`` of the subject's prompt and of its class'.
        subject, others: latents of its pictures, and of the class'; None: no prior preservation.
    """

    settings: DreamBoothSettings
    checkpoint_every = 500  # steps; Stable Diffusion's checkpoint takes 10 GB (diffusers' DreamBooth example)

    def __init__(
        self,
        pplus: PPlus,
        name: str,
        states: Tensor,
        subject: LatentCache,
        others: LatentCache | None,
        settings: DreamBoothSettings,
        timesteps: int,
    ) -> None:
        self.pipe, self.states, self.subject, self.others = pplus.pipe, states, subject, others
        self.negative = pplus.states([[""] * len(pplus.layers)])[:, :1]
        self.timesteps = timesteps
        if isinstance(settings, LoraSettings):
            self.unet = adapted(pplus.pipe.unet, settings.rank, settings.seed)
            self.checkpoint_every = Trainable.checkpoint_every  # a small file again
        else:
            self.unet = duplicate(pplus.pipe.unet, torch.float32)
        weights = {name: weight for name, weight in self.unet.named_parameters() if weight.requires_grad}
        super().__init__(name, weights, settings, WEIGHT_DECAY)

    @property
    def shares(self) -> Tensor:
        parts = [1.0] if self.others is None else [1.0, self.settings.prior_weight]
        batch = self.settings.batch_size
        return torch.tensor(parts, dtype=torch.float64).repeat_interleave(batch) / batch

    def draws(self) -> Batch:
        subject = self._draws(self.subject, "")
        if self.others is None:
            return subject.to(self.device)
        others = replace(self._draws(self.others, "/class"), template=(1,) * self.settings.batch_size)
        return Batch.together([subject, others]).to(self.device)

    def _draws(self, cache: LatentCache, suffix: str) -> Batch:
        settings = self.settings
        rule = BatchRule(timesteps=self.timesteps, templates=1, **settings.drawing)
        return Batch.of(f"{settings.seed}/{self.name}{suffix}", self.step, cache, rule)

    def latents(self, draws: Batch) -> Tensor:
        batch = self.settings.batch_size
        subject = self.subject.sample(draws.part(slice(batch)))
        if self.others is None:
            return subject
        return torch.cat([subject, self.others.sample(draws.part(slice(batch, None)))])

    @torch.no_grad()
    def move(self, loss: Tensor) -> None:
        nn.utils.clip_grad_norm_(self.weights.values(), MAX_NORM)
        super().move(loss)

    def look(self) -> list[Image.Image]:
        tuned = with_denoiser(self.pipe, self.learned)
        return sample(tuned, self.states[:1, None], self.negative)

    def rescue(self, folder: Path) -> Path:
        path = folder / ("last_good.safetensors" if self.is_lora else "last_good")
        self.save(path)
        return path

    def save(self, path: Path) -> None:
        """Write what was learned: a LoRA's file, or a pipeline's folder."""
        if self.is_lora:
            save_lora(self.pipe, self.unet, path)
        else:
            save_pipeline(with_denoiser(self.pipe, self.learned), path)

    @property
    def is_lora(self) -> bool:
        """Whether LoRA matrices are trained, not the denoiser itself."""
        return isinstance(self.settings, LoraSettings)

    @property
    def learned(self) -> Any:
        """The denoiser as it is now, in the pipeline's precision."""
        dtype = self.pipe.unet.dtype
        return self.unet if self.unet.dtype is dtype else copy.deepcopy(self.unet).to(dtype)

    @torch.no_grad()
    def moved(self) -> float:
        """How far the trained weights moved, as a share of their norm."""
        far = whole = 0.0
        for change, before in self._changes():
            far += float(change.float().square().sum())
            whole += float(before.float().square().sum())
        return (far / whole) ** 0.5

    def _changes(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(change, weight before) of what is trained, one after the other: all at once would take a model's memory."""
        if self.is_lora:
            layers = (m for m in self.unet.modules() if hasattr(m, "get_delta_weight"))
            yield from ((m.get_delta_weight("default"), m.base_layer.weight) for m in layers)
        else:
            before = dict(self.pipe.unet.named_parameters())
            yield from ((weight - before[name].to(weight), before[name]) for name, weight in self.weights.items())


class DenoiserTrainer(Trainer[DenoiserTrainable]):
    """Moves a denoiser: the subject's mean loss, plus its class' times ``prior_weight``."""

    advice = "use the method dreambooth-lora, or gradient checkpointing"

    def __init__(self, trainees: Sequence[DenoiserTrainable], scheduler: Any, settings: DreamBoothSettings) -> None:
        (trainee,) = trainees
        super().__init__(trainee.unet, trainees, scheduler, settings)
        self.precision = mixed_precision(trainee.pipe.unet, settings)

    def encode(self, active: Sequence[DenoiserTrainable], draws: Sequence[Batch]) -> tuple[Tensor, list[int]]:
        return active[0].states[:, None], list(draws[0].template)


def mixed_precision(unet: Any, settings: DreamBoothSettings) -> Any:
    """Where the denoiser runs: in the pipeline's half precision, its trained weights in float32 all the same.

    All of a denoiser in float16 would overflow: there it is bfloat16 where the device has it, else float32.
    """
    dtype, device = unet.dtype, unet.device.type
    if dtype is torch.float16 and not isinstance(settings, LoraSettings):
        able = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = torch.bfloat16 if able else torch.float32
    return torch.autocast(device, dtype) if dtype in (torch.float16, torch.bfloat16) else nullcontext()
