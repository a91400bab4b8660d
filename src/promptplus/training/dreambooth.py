"""Pictures → a denoiser that knows their subject by name: DreamBooth (Ruiz et al., 2023), whole or as LoRA."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from promptplus.choices import Kind
from promptplus.datasets import Pictures, Source, load_pictures, read_dataset
from promptplus.denoisers import denoiser_of
from promptplus.errors import ConceptError, ModelError, SettingsError
from promptplus.fingerprints import tensor_hash
from promptplus.models import base_model, picture_size
from promptplus.pictures import to_pixels
from promptplus.pplus import PPlus
from promptplus.training.arguments import check_arguments, concept_names
from promptplus.training.batches import encode_class_pictures, encode_pictures
from promptplus.training.checkpoint import locked
from promptplus.training.denoiser import DenoiserTrainable
from promptplus.training.denoiser_copies import largest_rank
from promptplus.training.distributed import Distributed
from promptplus.training.loop import TrainingLoop
from promptplus.training.noise_schedule import check_trainable, gradients_on
from promptplus.training.picture_record import PICTURE_FILES, picture_names
from promptplus.training.previews import preview_prompt
from promptplus.training.prior_images import check_cache, prior_images
from promptplus.training.result import DreamBoothResult
from promptplus.training.run import TrainingRun, record_of
from promptplus.training.run_folder import RunFolder, check_run_folder, preview_interval
from promptplus.training.settings import DreamBoothSettings, LoraSettings, settings_kind, validated
from promptplus.training.settings_help import takes_settings

NOT_DESCRIBED = ("pictures", PICTURE_FILES, "class_pictures")  # hashes, which settings.json does without


@takes_settings(DreamBoothSettings, LoraSettings)
def dreambooth(
    pplus: PPlus,
    pictures: Pictures,
    class_word: str | None = None,
    *,
    out: str | os.PathLike[str],
    kind: Kind | None = None,
    class_pictures: Source | None = None,
    preview_every: int | None = None,
    progress: bool = True,
    log_with: Sequence[str] = (),
    **options: Any,
) -> DreamBoothResult:
    """Teach a copy of the denoiser a subject; the copy is written to ``out`` as a pipeline, or as a LoRA.

    The pipeline comes back as it was.

    Args:
        pplus: the pipeline to train on, with P+ installed.
        pictures: as for ``invert``. A folder's ``concept.json`` supplies what is not given.
        class_word: the plain word for the subject's class.
        out: the run folder: a new one, or one that holds this very run, which then continues.
        kind: ``object`` (default) or ``style``. Decides the prompt.
        class_pictures: pictures of the class, given like ``pictures``. Default: the model draws ``class_count``, once.
        preview_every, progress, log_with: as for ``invert``.

    Raises ConceptError without a class word, SettingsError, PictureError, OutputError and TrainingError as ``invert``,
    ModelError where LoRA is asked for and peft is not installed.
    """
    names = concept_names(class_word=class_word, kind=kind)
    settings = validated(settings_kind(options), options)
    check_arguments(pplus, preview_every=preview_every, progress=progress, log_with=log_with)
    _check(settings, options, class_pictures)
    check_trainable(pplus.pipe)
    if isinstance(settings, LoraSettings) and not hasattr(pplus.pipe, "save_lora_weights"):
        raise ModelError(f"diffusers has no LoRA files for {type(pplus.pipe).__name__}; use the method dreambooth")
    if isinstance(settings, LoraSettings) and settings.rank > (most := largest_rank(denoiser_of(pplus.pipe))):
        raise SettingsError(f"rank: the layers of this model have room for a rank of {most}, not of {settings.rank}")
    if Distributed().first:
        check_run_folder(out)
        if settings.prior_weight and class_pictures is None:
            check_cache()
    dataset = read_dataset(pictures, names)
    if dataset.captions is not None or dataset.describe is not None:
        raise SettingsError("DreamBooth trains with one prompt and no captions; leave captions out")
    class_word, kind = dataset.note.class_word or dataset.note.initializer, dataset.note.kind or "object"
    if not class_word:
        raise ConceptError("name the class of the subject (as cat), or write it into concept.json as class_word")
    prompts = preview_prompt(kind, settings.subject(class_word)), preview_prompt(kind, class_word)
    pipe, size = pplus.pipe, picture_size(pplus.pipe)
    pixels, class_pixels = to_pixels(dataset.pictures, size), None
    if settings.prior_weight:
        if class_pictures is None:
            class_pictures = prior_images(pplus, prompts[1], settings.class_count, settings.seed, progress)
        class_pixels = to_pixels(load_pictures(class_pictures), size)
    record: dict[str, Any] = {"class_word": class_word, "prompt": prompts[0], "base_model": base_model(pipe)}
    record["class_pictures"] = tensor_hash(class_pixels) if class_pixels is not None else None
    record |= record_of(pixels, settings, pipe, picture_names(dataset))
    facts = {name: value for name, value in record.items() if name not in NOT_DESCRIBED}
    encode = partial(encode_pictures, pipe, pixels, settings, settings.subject(class_word))
    encode_class = partial(encode_class_pictures, pipe, class_pixels) if class_pixels is not None else None
    folder = RunFolder(out) if Distributed().first else None
    with gradients_on(), locked(folder.path) if folder else nullcontext():
        trainable = DenoiserTrainable(
            pplus, class_word, prompts, encode, encode_class, settings, folder=Path(out), facts=facts
        )
        loop = TrainingLoop(pipe, [TrainingRun(trainable, record, folder)], settings)
        return loop.run(preview_interval(preview_every, settings, True), progress, log_with)[0]


def _check(settings: DreamBoothSettings, options: dict[str, Any], class_pictures: object) -> None:
    if class_pictures is not None and not settings.prior_weight:
        raise SettingsError("class pictures are not used with prior_weight 0; leave one of them out")
    if class_pictures is not None and "class_count" in options:
        raise SettingsError("class_count says how many pictures to draw; leave it out beside class pictures")
    if isinstance(settings, LoraSettings) and not find_spec("peft"):
        raise ModelError("LoRA needs peft: pip install 'promptplus[lora]'")
