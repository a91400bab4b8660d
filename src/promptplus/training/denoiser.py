"""A denoiser in training on a subject, with pictures of its class beside it (DreamBooth, Ruiz et al., 2023)."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, Float64
from PIL import Image
from pydantic import BaseModel
from torch import Tensor, nn

from promptplus.denoiser_calls import DenoiserCall
from promptplus.denoisers import denoiser_of
from promptplus.errors import OutputError, warn
from promptplus.files import write_atomically
from promptplus.models import base_model
from promptplus.pplus import PPlus
from promptplus.text_files import read_json
from promptplus.text_states import TextStates
from promptplus.training.batches import Batch, LatentCache
from promptplus.training.checkpoint import ROWS_BYTES
from promptplus.training.denoiser_copies import duplicate, save_lora, save_pipeline, with_denoiser, with_lora
from promptplus.training.previews import preview, sample
from promptplus.training.result import DreamBoothResult, TrainingResult
from promptplus.training.settings import DreamBoothSettings, LoraSettings
from promptplus.training.trainable import Trainable

PIPELINE, LORA_FILE, FINISHED = "pipeline", "pytorch_lora_weights.safetensors", "finished.json"
WEIGHT_DECAY, MAX_NORM = 1e-2, 1.0  # AdamW's, and where gradients are clipped (diffusers' DreamBooth example)
BYTES_PER_WEIGHT = 24  # of a checkpoint at most: a weight and its two moments, in float64
LEAST_MOVED = 1e-4  # a denoiser whose weights moved less than this share of their norm learned nothing (our choice)


class Finished(BaseModel):
    """The content of ``finished.json``: of which training the saved weights are."""

    settings: dict[str, Any]
    moved: float


class DenoiserTrainable(Trainable[DreamBoothResult]):
    """A copy of the denoiser, whole or with LoRA matrices. The pipeline's own denoiser stays as it is.

    The loss is the subject's mean loss, plus the class pictures' mean loss times ``prior_weight``.

    Args:
        class_word: the plain word for the subject's class.
        prompts: the subject's prompt and the class' prompt.
        encode_subject: encodes the subject's pictures; called once, when the training begins.
        encode_class: the same for pictures of the class; None: no prior preservation.
        folder: where the pipeline or the LoRA is written.
        facts: what ``settings.json`` holds.
    """

    settings: DreamBoothSettings
    checkpoint_every = 500  # steps; Stable Diffusion's checkpoint takes 10 GB (diffusers' DreamBooth example)
    keeps_previous = False  # 10 GB more
    memory_advice = "use the method dreambooth-lora, or gradient checkpointing"

    def __init__(
        self,
        pplus: PPlus,
        class_word: str,
        prompts: tuple[str, str],
        encode_subject: Callable[[], LatentCache],
        encode_class: Callable[[], LatentCache] | None,
        settings: DreamBoothSettings,
        folder: Path,
        facts: dict[str, Any],
    ) -> None:
        super().__init__(settings.subject(class_word), settings)
        self.pplus, self.pipe, self.class_word, self.prompts = pplus, pplus.pipe, class_word, prompts
        self.encode_subject, self.encode_class, self.facts = encode_subject, encode_class, facts
        self.product = folder / (LORA_FILE if self.is_lora else PIPELINE)
        weights = sum(weight.numel() for weight in denoiser_of(pplus.pipe).parameters())
        self.checkpoint_bytes = ROWS_BYTES + BYTES_PER_WEIGHT * weights
        if self.is_lora:
            self.checkpoint_every, self.keeps_previous = Trainable.checkpoint_every, True  # a small file again

    def prepare(self, timesteps: int) -> None:
        pplus, settings, layers = self.pplus, self.settings, len(self.pplus.layers)
        self.subject, self.timesteps = self.encode_subject(), timesteps
        self.class_images = self.encode_class() if self.encode_class else None
        denoiser = denoiser_of(self.pipe)
        text = pplus.text_states([[prompt] * layers for prompt in self.prompts])
        self.text, self.negative = text.of_one_layer(), pplus.without_negative(text[:1]).of_one_layer()
        if isinstance(settings, LoraSettings):
            self.trained = with_lora(denoiser, settings.rank, settings.seed)
        else:
            self.trained = duplicate(denoiser, torch.float32)
        self.denoiser = DenoiserCall.of(self.pipe, self.trained)
        self.precision = mixed_precision(denoiser, settings)
        weights = {name: weight for name, weight in self.trained.named_parameters() if weight.requires_grad}
        self.start_optimiser(weights, WEIGHT_DECAY)

    @property
    def sample_weights(self) -> Float64[Tensor, " batch"]:
        parts = [1.0] if self.class_images is None else [1.0, self.settings.prior_weight]
        batch = self.settings.batch_size
        return torch.tensor(parts, dtype=torch.float64).repeat_interleave(batch) / batch

    def next_batch(self) -> Batch:
        subject = self._batch(self.subject, "")
        if self.class_images is None:
            return subject.to(self.device)
        others = replace(self._batch(self.class_images, "/class"), template=(1,) * self.settings.batch_size)
        return Batch.concatenate([subject, others]).to(self.device)

    def _batch(self, cache: LatentCache, suffix: str) -> Batch:
        key, rule = f"{self.settings.seed}/{self.name}{suffix}", self.batch_rule(self.timesteps, templates=1)
        return Batch.of(key, self.step, cache, rule)

    def latents(self, batch: Batch) -> Float[Tensor, "batch channels height width"]:
        size = self.settings.batch_size
        subject = self.subject.sample(batch.part(slice(size)))
        if self.class_images is None:
            return subject
        return torch.cat([subject, self.class_images.sample(batch.part(slice(size, None)))])

    @classmethod
    def encode_captions(cls, trainables: Sequence[Self], batches: Sequence[Batch]) -> tuple[TextStates, list[int]]:
        (trainable,), (batch,) = trainables, batches
        return trainable.text, list(batch.template)

    @torch.no_grad()
    def move(self, loss: Tensor) -> None:
        nn.utils.clip_grad_norm_(self.weights.values(), MAX_NORM)
        super().move(loss)

    def preview(self) -> list[Image.Image]:
        tuned = with_denoiser(self.pipe, self.learned)
        return sample(tuned, self.text[:1], self.negative)

    def class_word_preview(self) -> list[Image.Image]:
        return preview(self.pplus, self.prompts[1])

    def describe(self) -> dict[str, Any]:
        return self.facts

    def rescue(self, folder: Path) -> Path:
        path = folder / ("last_good.safetensors" if self.is_lora else "last_good")
        self._save_weights(path)
        return path

    def save(self, folder: Path, result: DreamBoothResult) -> None:
        self._save_weights(self.product)
        record = {"settings": self.settings.model_dump(), "moved": result.moved}
        write_atomically(folder / FINISHED, json.dumps(record, indent=2).encode())

    def _save_weights(self, path: Path) -> None:
        """Write a LoRA's file, or a pipeline's folder."""
        if self.is_lora:
            save_lora(self.pipe, self.trained, path)
        else:
            save_pipeline(with_denoiser(self.pipe, self.learned), path)

    def result(self, base: TrainingResult) -> DreamBoothResult:
        return self._result(self.moved(), base)

    def saved_result(self, folder: Path, base: TrainingResult) -> DreamBoothResult | None:
        path = folder / FINISHED
        if not (path.exists() and self.product.exists()):
            return None
        try:
            finished = read_json(path, Finished, OutputError, "does not say how the training ended")
        except OutputError as error:
            warn(f"{error}; the weights are saved again")
            return None
        same = finished.settings == self.settings.model_dump()  # else of fewer steps: that call ended before it saved
        return self._result(finished.moved, base) if same else None

    def no_effect(self, result: DreamBoothResult) -> str:
        if result.moved >= LEAST_MOVED:
            return ""
        advice = "train for more steps, or raise the learning rate"
        return f"the denoiser hardly moved ({result.moved:.1e} of its norm); {advice}"

    def _result(self, moved: float, base: TrainingResult) -> DreamBoothResult:
        return DreamBoothResult(
            **vars(base),
            product=self.product,
            settings=self.settings,
            class_word=self.class_word,
            model=base_model(self.pipe),
            moved=moved,
        )

    @property
    def is_lora(self) -> bool:
        """Whether LoRA matrices are trained in place of the whole denoiser."""
        return isinstance(self.settings, LoraSettings)

    @property
    def learned(self) -> Any:
        """The denoiser as it is now, in the pipeline's precision."""
        dtype = denoiser_of(self.pipe).dtype
        return self.trained if self.trained.dtype is dtype else copy.deepcopy(self.trained).to(dtype)

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
            layers = (m for m in self.trained.modules() if hasattr(m, "get_delta_weight"))
            yield from ((m.get_delta_weight("default"), m.base_layer.weight) for m in layers)
        else:
            before = dict(denoiser_of(self.pipe).named_parameters())
            yield from ((weight - before[name].to(weight), before[name]) for name, weight in self.weights.items())


def mixed_precision(denoiser: Any, settings: DreamBoothSettings) -> Any:
    """The context that the denoiser runs in: the pipeline's half precision, with the trained weights in float32.

    A whole denoiser would overflow in float16. It runs in bfloat16 where the device has it, else in float32.
    """
    dtype, device = denoiser.dtype, denoiser.device.type
    if dtype is torch.float16 and not isinstance(settings, LoraSettings):
        has_bfloat16 = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = torch.bfloat16 if has_bfloat16 else torch.float32
    return torch.autocast(device, dtype) if dtype in (torch.float16, torch.bfloat16) else nullcontext()
