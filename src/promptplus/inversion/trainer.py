"""Pictures → Concept: XTI (one row per layer) and TI (one row for all), the same training with different tying."""

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypedDict, Unpack

from pydantic import ValidationError

from promptplus.concept import Concept, Kind, Tying, token_table_hash
from promptplus.conditioning import PPlus
from promptplus.errors import ConceptError, ModelError, SettingsError
from promptplus.inversion.checkpoint import locked
from promptplus.inversion.images import load_pictures, read_note, to_pixels
from promptplus.inversion.rows import initial_rows
from promptplus.inversion.run import InversionRun, InversionSettings, Method, RunFolder, Templates
from promptplus.inversion.sitting import Sitting
from promptplus.pocket import PIPELINE
from promptplus.templates import TEMPLATES
from promptplus.text import check_token

TYING: dict[Method, Tying] = {"xti": "layer", "ti": "all"}
PREVIEWS = 5  # how many strips a run makes by default, its last step's among them


class Options(TypedDict, total=False):
    """Keyword options of ``invert``: those of InversionSettings."""

    method: Method
    steps: int
    batch_size: int
    learning_rate: float
    vectors: int
    seed: int
    flip: bool
    templates: Templates
    micro_batch: int | None


def invert(
    pplus: PPlus,
    pictures: str | os.PathLike[str] | Sequence[Any],
    token: str | None = None,
    initializer: str | None = None,
    *,
    class_word: str | None = None,
    kind: Kind | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Concept:
    """Learn a concept from a few pictures (paper section 3.2); see ``run_inversion`` for the arguments."""
    told = {"class_word": class_word, "kind": kind, "out": out, "progress": progress}
    return run_inversion(pplus, pictures, token, initializer, **told, **options).concept


def run_inversion(
    pplus: PPlus,
    pictures: str | os.PathLike[str] | Sequence[Any],
    token: str | None = None,
    initializer: str | None = None,
    *,
    class_word: str | None = None,
    kind: Kind | None = None,
    out: str | os.PathLike[str] | None = None,
    preview_every: int | None = None,
    progress: bool = True,
    log_with: Sequence[str] = (),
    **options: Unpack[Options],
) -> InversionRun:
    """Learn a concept, and keep what a person wants to look at afterwards.

    Args:
        pictures: a folder, or a list of paths or PIL pictures. A folder's ``concept.json`` supplies what is not given.
        token: the placeholder token to define, as ``<cat>``.
        initializer: the word whose token embedding the rows begin as.
        class_word: the plain word for the class; default: the initializer.
        kind: ``object`` (default) or ``style``; decides the caption templates.
        out: a folder for settings, log, previews, checkpoint and the concept file: a new one, or one that holds this
            very run, which then goes on where it stopped (``steps`` may have grown).
        preview_every: steps between preview strips; 0: none; default: five over the run if there is a folder.
        log_with: trackers of accelerate that get the loss too, as ``tensorboard``, ``wandb`` or ``trackio``.
        options: see InversionSettings.

    Only the rows are trained; the pipeline comes back as it was. On a CPU, equal arguments give equal bits.
    """
    settings = _settings(options)
    note = read_note(pictures) if isinstance(pictures, str | os.PathLike) else None
    token, initializer = token or (note and note.token), initializer or (note and note.initializer)
    if not token or not initializer:
        raise ConceptError("name the token (as <cat>) and the initializer (as cat), or write them into concept.json")
    check_token(token, pplus.pipe.tokenizer)
    if token in pplus.concepts:
        raise ConceptError(f"a concept {token} was added already; forget({token!r}) first")
    start = initial_rows(pplus, initializer, settings)
    size = _picture_size(pplus)
    pixels = to_pixels(load_pictures(pictures), size)
    blank = Concept(
        token=token,
        rows=start.expand(len(pplus.layers), -1, -1),
        layers=pplus.layers,
        tying=TYING[settings.method],
        initializer=initializer,
        class_word=class_word or (note and note.class_word) or initializer,
        kind=kind or (note and note.kind) or "object",
        base_model=_base_model(pplus.pipe),
        token_table=token_table_hash(pplus.pipe.text_encoder, pplus.pipe.tokenizer),
        provenance={"pictures": len(pixels), **settings.model_dump()},
    )
    _check_room(pplus, blank, settings.vectors)
    folder = RunFolder(out) if out is not None else None
    if preview_every is None:
        preview_every = math.ceil(settings.steps / PREVIEWS) if folder else 0
    with locked(folder.path) if folder else nullcontext():
        return Sitting(pplus, blank, pixels, settings, folder).run(preview_every, progress, log_with)


def _picture_size(pplus: PPlus) -> int:
    """The side of the pictures this pipeline is trained with, in pixels."""
    unet, vae = pplus.pipe.unet.config, pplus.pipe.vae.config
    if unet.in_channels != vae.latent_channels:
        raise ModelError(f"inversion needs a text-to-image denoiser; this one takes {unet.in_channels} channels")
    size = unet.sample_size if isinstance(unet.sample_size, int) else max(unet.sample_size)
    return size * pplus.pipe.vae_scale_factor


def _check_room(pplus: PPlus, concept: Concept, vectors: int) -> None:
    """See that a caption's rows all fit into the text encoder: a row that is cut off would never be trained."""
    tokenizer, templates = pplus.pipe.tokenizer, TEMPLATES[concept.kind]
    room = pplus.positions - max(len(tokenizer(template.format("")).input_ids) for template in templates)
    if vectors > room:
        raise SettingsError(f"vectors: captions have room for {room} rows of {concept.token}, not for {vectors}")


def _settings(options: Options) -> InversionSettings:
    try:
        return InversionSettings(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{name}: {first['msg'].lower()}, not {first['input']!r}") from error


def _base_model(pipe: Any) -> str:
    """A name for the model that means something on another machine: never a path."""
    source = str(pipe.config.get("_name_or_path") or "unknown")
    if source == str(PIPELINE):
        return "pocket"
    return Path(source).name if Path(source).exists() else source
