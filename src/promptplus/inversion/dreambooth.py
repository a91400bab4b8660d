"""Pictures → a denoiser that knows their subject by name: DreamBooth (Ruiz et al., 2023), in full or as LoRA."""

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict, Unpack

from huggingface_hub import cached_assets_path
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from promptplus.concept import Kind
from promptplus.conditioning import PPlus
from promptplus.errors import ConceptError, ModelError, SettingsError
from promptplus.files import whole_file, write_atomically
from promptplus.generation import generate, usual_sampling
from promptplus.inversion.checkpoint import ROWS_BYTES, locked
from promptplus.inversion.denoisers import save_lora, save_pipeline, with_denoiser
from promptplus.inversion.draws import LatentCache, jittered
from promptplus.inversion.images import load_pictures, read_note, to_pixels
from promptplus.inversion.previews import preview, preview_prompt
from promptplus.inversion.processes import Processes
from promptplus.inversion.run import DreamBoothMethod, Run, RunFolder, Schedule, checked, often
from promptplus.inversion.seat import Common, Seat, pixels_hash, record_of, weights_hash
from promptplus.inversion.sitting import Sitting
from promptplus.inversion.subject import (
    DEFAULTS,
    LORA,
    DenoiserTrainee,
    DenoiserTrainer,
    DreamBoothSettings,
)
from promptplus.models import base_model, picture_size

PIPELINE, LORA_FILE, FINISHED = "pipeline", "pytorch_lora_weights.safetensors", "finished.json"
CLASS_BATCH = 4  # class pictures drawn at once (diffusers' DreamBooth example)
BYTES_PER_WEIGHT = 12  # of a checkpoint: float32, and the optimiser's two moments
STILL = 1e-4  # a denoiser whose weights moved less than this share of their norm has learned nothing (our choice)


class Options(TypedDict, total=False):
    """Keyword options of ``dreambooth``: those of DreamBoothSettings."""

    method: DreamBoothMethod
    identifier: str
    class_count: int
    prior_weight: float
    rank: int
    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    flip: bool
    micro_batch: int | None
    min_snr: float | None
    jitter: int
    schedule: Schedule
    warmup: int
    stratified: bool
    antithetic: bool
    noisier: float


@dataclass(frozen=True)
class DreamBoothRun(Run):
    """A finished DreamBooth.

    Attributes:
        product: the folder ``pipeline``, which diffusers and ``promptplus.load`` open; or the LoRA's file.
        settings: how it was trained.
        class_word: the subject is called ``{identifier} {class_word}`` in prompts.
        moved: how far the trained weights moved, as a share of their norm.
    """

    product: Path
    settings: DreamBoothSettings
    class_word: str
    moved: float

    @property
    def name(self) -> str:
        """What the subject is called in prompts."""
        return f"{self.settings.identifier} {self.class_word}"

    @property
    def facts(self) -> dict[str, Any]:
        """What was asked, for people."""
        return {"class_word": self.class_word, **self.settings.model_dump()}


def dreambooth(
    pplus: PPlus,
    pictures: str | os.PathLike[str] | Sequence[Any],
    class_word: str | None = None,
    *,
    out: str | os.PathLike[str],
    kind: Kind | None = None,
    class_pictures: str | os.PathLike[str] | None = None,
    preview_every: int | None = None,
    progress: bool = True,
    log_with: Sequence[str] = (),
    **options: Unpack[Options],
) -> DreamBoothRun:
    """Teach a copy of the denoiser a subject; it is written to ``out`` as a pipeline, or as a LoRA.

    Args:
        pictures: a folder, or a list of paths or PIL pictures. A folder's ``concept.json`` supplies what is not given.
        class_word: the plain word for the subject's class.
        kind: ``object`` (default) or ``style``; decides the prompt.
        class_pictures: a folder of pictures of the class; default: the model draws ``class_count``, once for all runs.
        out: as for ``run_inversion``, and so are ``preview_every``, ``progress`` and ``log_with``.
        options: see DreamBoothSettings.

    The pipeline comes back as it was.
    """
    settings = checked(DreamBoothSettings, {**DEFAULTS.get(options.get("method", "dreambooth"), {}), **options})
    _check(settings, options, class_pictures)
    note = read_note(pictures) if isinstance(pictures, str | os.PathLike) else None
    class_word = class_word or (note and (note.class_word or note.initializer))
    if not class_word:
        raise ConceptError("name the class of the subject (as cat), or write it into concept.json as class_word")
    kind = kind or (note and note.kind) or "object"
    prompts = tuple(preview_prompt(kind, words) for words in (f"{settings.identifier} {class_word}", class_word))
    size = picture_size(pplus.pipe)
    pixels = to_pixels(load_pictures(pictures), size)
    others = None
    if settings.prior_weight:
        source = class_pictures or draw_class(pplus, prompts[1], settings.class_count, settings.seed, progress)
        others = to_pixels(load_pictures(source), size)
    folder = RunFolder(out) if Processes().first else None
    with locked(folder.path) if folder else nullcontext():
        seat = DreamBoothSeat(pplus, class_word, prompts, pixels, others, settings, folder, Path(out))
        sitting = Sitting(
            pplus.pipe, [seat], settings, lambda trainees, schedule: DenoiserTrainer(trainees, schedule, settings)
        )
        return sitting.run(often(preview_every, settings, folder), progress, log_with)[0]


class DreamBoothSeat(Seat[DenoiserTrainee, DreamBoothRun]):
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
        self.product = out / (LORA_FILE if settings.method == LORA else PIPELINE)
        told = {"class_word": class_word, "prompt": prompts[0], "base_model": base_model(pplus.pipe)}
        record = {**told, "class_pictures": pixels_hash(others) if others is not None else None}
        record |= record_of(pixels, settings, pplus.pipe)
        room = ROWS_BYTES + BYTES_PER_WEIGHT * sum(weight.numel() for weight in pplus.pipe.unet.parameters())
        super().__init__(f"{settings.identifier} {class_word}", settings, record, folder, room)

    def prepare(self, timesteps: int) -> DenoiserTrainee:
        vae, settings = self.pplus.pipe.vae, self.settings
        pixels = jittered(self.pixels, settings.jitter, f"{settings.seed}/{self.name}")
        subject = LatentCache.encode(vae, pixels, variants=1 + settings.jitter)
        others = LatentCache.encode(vae, self.others) if self.others is not None else None
        layers = len(self.pplus.layers)
        states = self.pplus.states([[prompt] * layers for prompt in self.prompts])[:, 0].detach()
        return DenoiserTrainee(self.pplus, self.name, states, subject, others, settings, timesteps)

    def describe(self) -> dict[str, Any]:
        return {name: value for name, value in self.record.items() if name not in ("pictures", "class_pictures")}

    def look_without(self) -> list[Image.Image]:
        return preview(self.pplus, self.prompts[1])

    def finished(self) -> DreamBoothRun | None:
        common = self.then()
        path = self.product.parent / FINISHED
        if common is None or not (path.exists() and self.product.exists()):
            return None
        told = json.loads(path.read_text("utf-8"))
        if told["settings"] != self.settings.model_dump():  # fewer steps: the last sitting ended before it was written
            return None
        return self._run(told["moved"], common)

    def finish(self, without: Sequence[Image.Image]) -> DreamBoothRun:
        moved = self.trainee.moved()
        if self.folder:
            self.folder.keep_without(without)
            if self.settings.method == LORA:
                save_lora(self.pplus.pipe, self.trainee.unet, self.product)
            else:
                save_pipeline(with_denoiser(self.pplus.pipe, self.trainee.learned), self.product)
            told = {"settings": self.settings.model_dump(), "moved": moved}
            write_atomically(self.product.parent / FINISHED, json.dumps(told, indent=2).encode())
        return self._run(moved, self.now(without))

    def _run(self, moved: float, common: Common) -> DreamBoothRun:
        if moved < STILL:
            advice = "train for more steps, or raise the learning rate"
            warnings.warn(f"the denoiser hardly moved ({moved:.1e} of its norm); {advice}", stacklevel=6)
        return DreamBoothRun(
            product=self.product, settings=self.settings, class_word=self.class_word, moved=moved, **common
        )


def draw_class(pplus: PPlus, prompt: str, count: int, seed: int, progress: bool) -> list[Path]:
    """The model's own pictures of a class, drawn once and kept in the Hugging Face cache (``HF_ASSETS_CACHE``).

    A call that was stopped goes on where it was. Under several processes the first one draws.
    """
    pipe = pplus.pipe
    weights = [weights_hash(part) for part in (pipe.unet, pipe.text_encoder, pipe.vae)]
    made_by = [base_model(pipe), *weights, prompt, count, seed, *usual_sampling(pipe)]
    key = sha256(json.dumps(made_by).encode()).hexdigest()[:32]
    folder = cached_assets_path("promptplus", "class-pictures", key)
    seeds = {folder / f"{number:04d}.png": seed + number for number in range(count)}
    processes = Processes()
    if processes.first:
        missing = [path for path in seeds if not path.exists()]
        with tqdm(total=count, initial=count - len(missing), desc="class pictures", disable=not progress) as bar:
            for start in range(0, len(missing), CLASS_BATCH):
                paths = missing[start : start + CLASS_BATCH]
                pictures = generate(pplus, [prompt] * len(paths), [seeds[path] for path in paths])
                for path, picture in zip(paths, pictures, strict=True):
                    with whole_file(path) as temporary:
                        picture.save(temporary, "PNG")
                bar.update(len(paths))
    return processes.from_first(list(seeds))


def _check(settings: DreamBoothSettings, options: Options, class_pictures: object) -> None:
    if settings.method != LORA and "rank" in options:
        raise SettingsError(f"rank is no option of the method {settings.method}; leave it out")
    if class_pictures and not settings.prior_weight:
        raise SettingsError("class pictures are not used with prior_weight 0; leave one of them out")
    if settings.method == LORA and not find_spec("peft"):
        raise ModelError("LoRA needs peft: pip install 'promptplus[lora]'")
