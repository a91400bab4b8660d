"""Pictures → a denoiser that knows their subject by name: DreamBooth (Ruiz et al., 2023), in full or as LoRA."""

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Unpack

from PIL import Image
from torch import Tensor

from promptplus.concept import Kind
from promptplus.errors import ConceptError, ModelError, SettingsError
from promptplus.files import write_atomically
from promptplus.fingerprints import tensor_hash
from promptplus.models import base_model, picture_size
from promptplus.pictures import load_pictures, read_note, to_pixels
from promptplus.pplus import PPlus
from promptplus.training.batches import LatentCache
from promptplus.training.checkpoint import ROWS_BYTES, locked
from promptplus.training.denoiser import DenoiserTrainable, DenoiserTrainer
from promptplus.training.distributed import Distributed
from promptplus.training.loop import TrainingLoop
from promptplus.training.previews import preview, preview_prompt
from promptplus.training.prior_images import draw_class
from promptplus.training.result import Run
from promptplus.training.run import Common, Seat, record_of
from promptplus.training.run_folder import RunFolder, check_run_folder, often
from promptplus.training.settings import (
    DreamBoothMethod,
    DreamBoothSettings,
    LoraSettings,
    TrainingOptions,
    checked,
    settings_kind,
)

PIPELINE, LORA_FILE, FINISHED = "pipeline", "pytorch_lora_weights.safetensors", "finished.json"
BYTES_PER_WEIGHT = 24  # of a checkpoint at most: a weight and its two moments, in float64
STILL = 1e-4  # a denoiser whose weights moved less than this share of their norm has learned nothing (our choice)


class Options(TrainingOptions, total=False):
    """Keyword options of ``dreambooth``: those of DreamBoothSettings, and of LoraSettings for ``dreambooth-lora``."""

    method: DreamBoothMethod
    identifier: str
    class_count: int
    prior_weight: float
    rank: int


@dataclass(frozen=True)
class DreamBoothResult(Run):
    """A finished DreamBooth.

    Attributes:
        product: the folder ``pipeline``, which diffusers and ``promptplus.load`` open; or the LoRA's file.
        settings: how it was trained.
        class_word: the subject is called ``{identifier} {class_word}`` in prompts.
        model: what it was trained on, in words.
        moved: how far the trained weights moved, as a share of their norm.
    """

    product: Path
    settings: DreamBoothSettings
    class_word: str
    model: str
    moved: float

    @property
    def name(self) -> str:
        """What the subject is called in prompts."""
        return self.settings.subject(self.class_word)

    @property
    def facts(self) -> dict[str, Any]:
        """What was asked, for people."""
        return {"class_word": self.class_word, "model": self.model, **self.settings.model_dump()}


def dreambooth(
    pplus: PPlus,
    pictures: str | os.PathLike[str] | Sequence[Any],
    class_word: str | None = None,
    *,
    out: str | os.PathLike[str],
    kind: Kind | None = None,
    class_pictures: str | os.PathLike[str] | Sequence[Any] | None = None,
    preview_every: int | None = None,
    progress: bool = True,
    log_with: Sequence[str] = (),
    **options: Unpack[Options],
) -> DreamBoothResult:
    """Teach a copy of the denoiser a subject; it is written to ``out`` as a pipeline, or as a LoRA.

    Args:
        pictures: a folder, or a list of paths or PIL pictures. A folder's ``concept.json`` supplies what is not given.
        class_word: the plain word for the subject's class.
        kind: ``object`` (default) or ``style``; decides the prompt.
        class_pictures: of the class, given like ``pictures``; default: the model draws ``class_count``, once for all.
        out: as for ``run_inversion``, and so are ``preview_every``, ``progress`` and ``log_with``.
        options: see DreamBoothSettings.

    The pipeline comes back as it was.
    """
    settings = checked(settings_kind(options), options)
    _check(settings, options, class_pictures)
    if Distributed().first:
        check_run_folder(out)
    note = read_note(pictures) if isinstance(pictures, str | os.PathLike) else None
    class_word = class_word or (note and (note.class_word or note.initializer))
    if not class_word:
        raise ConceptError("name the class of the subject (as cat), or write it into concept.json as class_word")
    kind = kind or (note and note.kind) or "object"
    prompts = tuple(preview_prompt(kind, words) for words in (settings.subject(class_word), class_word))
    size = picture_size(pplus.pipe)
    pixels = to_pixels(load_pictures(pictures), size)
    others = None
    if settings.prior_weight:
        source = class_pictures or draw_class(pplus, prompts[1], settings.class_count, settings.seed, progress)
        others = to_pixels(load_pictures(source), size)
    folder = RunFolder(out) if Distributed().first else None
    with locked(folder.path) if folder else nullcontext():
        seat = DreamBoothSeat(pplus, class_word, prompts, pixels, others, settings, folder, Path(out))
        sitting = TrainingLoop(
            pplus.pipe, [seat], settings, lambda trainees, schedule: DenoiserTrainer(trainees, schedule, settings)
        )
        return sitting.run(often(preview_every, settings, folder), progress, log_with)[0]


class DreamBoothSeat(Seat[DenoiserTrainable, DreamBoothResult]):
    """Trains a denoiser on ``pixels`` ``[N, 3, H, W]``, and on its class' pictures ``others``."""

    settings: DreamBoothSettings

    def __init__(
        self,
        pplus: PPlus,
        class_word: str,
        prompts: Sequence[str],
        pixels: Tensor,
        others: Tensor | None,
        settings: DreamBoothSettings,
        folder: RunFolder | None,
        out: Path,
    ) -> None:
        self.pplus, self.class_word, self.prompts, self.pixels, self.others = pplus, class_word, prompts, pixels, others
        self.product = out / (LORA_FILE if isinstance(settings, LoraSettings) else PIPELINE)
        told: dict[str, Any] = {"class_word": class_word, "prompt": prompts[0], "base_model": base_model(pplus.pipe)}
        told["class_pictures"] = tensor_hash(others) if others is not None else None
        record = {**told, **record_of(pixels, settings, pplus.pipe)}
        room = ROWS_BYTES + BYTES_PER_WEIGHT * sum(weight.numel() for weight in pplus.pipe.unet.parameters())
        super().__init__(settings.subject(class_word), settings, record, folder, room)

    def prepare(self, timesteps: int) -> DenoiserTrainable:
        vae = self.pplus.pipe.vae
        subject = self.latents(vae, self.pixels)
        others = LatentCache.encode(vae, self.others) if self.others is not None else None
        layers = len(self.pplus.layers)
        states = self.pplus.states([[prompt] * layers for prompt in self.prompts])[:, 0].detach()
        return DenoiserTrainable(self.pplus, self.name, states, subject, others, self.settings, timesteps)

    def describe(self) -> dict[str, Any]:
        return {name: value for name, value in self.record.items() if name not in ("pictures", "class_pictures")}

    def look_without(self) -> list[Image.Image]:
        return preview(self.pplus, self.prompts[1])

    def finished(self) -> DreamBoothResult | None:
        common = self.then()
        path = self.product.parent / FINISHED
        if common is None or not (path.exists() and self.product.exists()):
            return None
        try:
            told = json.loads(path.read_text("utf-8"))
            settings, moved = told["settings"], float(told["moved"])
        except (ValueError, KeyError, TypeError):
            return None
        if settings != self.settings.model_dump():  # fewer steps: the last sitting ended before it was written
            return None
        return self._run(moved, common)

    def finish(self, without: Sequence[Image.Image]) -> DreamBoothResult:
        moved = self.trainee.moved()
        if self.folder:
            self.folder.keep_without(without)
            self.trainee.save(self.product)
            told = {"settings": self.settings.model_dump(), "moved": moved}
            write_atomically(self.product.parent / FINISHED, json.dumps(told, indent=2).encode())
        return self._run(moved, self.now(without))

    def _run(self, moved: float, common: Common) -> DreamBoothResult:
        if moved < STILL:
            advice = "train for more steps, or raise the learning rate"
            warnings.warn(f"the denoiser hardly moved ({moved:.1e} of its norm); {advice}", stacklevel=6)
        return DreamBoothResult(
            product=self.product,
            settings=self.settings,
            class_word=self.class_word,
            model=base_model(self.pplus.pipe),
            moved=moved,
            **common,
        )


def _check(settings: DreamBoothSettings, options: Options, class_pictures: object) -> None:
    if class_pictures and not settings.prior_weight:
        raise SettingsError("class pictures are not used with prior_weight 0; leave one of them out")
    if class_pictures and "class_count" in options:
        raise SettingsError("class_count says how many pictures to draw; leave it out beside class pictures")
    if isinstance(settings, LoraSettings) and not find_spec("peft"):
        raise ModelError("LoRA needs peft: pip install 'promptplus[lora]'")
