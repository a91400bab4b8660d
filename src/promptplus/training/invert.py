"""Pictures → Concept: XTI (one row per layer) and TI (one row for all), the same training with different tying."""

import os
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from promptplus.concept import Concept, Kind, Tying
from promptplus.errors import ConceptError, PictureError, SettingsError
from promptplus.fingerprints import token_table_hash
from promptplus.models import base_model, picture_size
from promptplus.pictures import FolderNote, load_pictures, read_note, to_pixels
from promptplus.placeholders import check_token
from promptplus.pplus import PPlus
from promptplus.templates import TEMPLATES
from promptplus.training.checkpoint import locked
from promptplus.training.compilation import Speed
from promptplus.training.distributed import Distributed
from promptplus.training.loop import TrainingLoop
from promptplus.training.norm_constraint import Constraint
from promptplus.training.presets import PRESETS, Preset
from promptplus.training.result import InversionResult
from promptplus.training.run import RowSeat
from promptplus.training.run_folder import RunFolder, often
from promptplus.training.settings import InversionSettings, Method, Templates, TrainingOptions, checked
from promptplus.training.step import RowTrainer
from promptplus.training.token_rows import RowsTrainable, initial_rows

TYING: dict[Method, Tying] = {"xti": "layer", "ti": "all"}


class Options(TrainingOptions, total=False):
    """Keyword options of ``invert``: those of InversionSettings."""

    method: Method
    vectors: int
    templates: Templates
    tying: Tying | None
    constraint: Constraint
    density: float
    average: float
    speed: Speed


def invert(
    pplus: PPlus,
    pictures: str | os.PathLike[str] | Sequence[Any],
    token: str | None = None,
    initializer: str | None = None,
    *,
    class_word: str | None = None,
    kind: Kind | None = None,
    out: str | os.PathLike[str] | None = None,
    preset: Preset | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Concept:
    """Learn a concept from a few pictures (paper section 3.2); see ``run_inversion`` for the arguments."""
    told = {"class_word": class_word, "kind": kind, "out": out, "preset": preset, "progress": progress}
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
    preset: Preset | None = None,
    preview_every: int | None = None,
    progress: bool = True,
    log_with: Sequence[str] = (),
    **options: Unpack[Options],
) -> InversionResult:
    """Learn a concept, and keep what a person wants to look at afterwards.

    Args:
        pictures: a folder, or a list of paths or PIL pictures. A folder's ``concept.json`` supplies what is not given.
        token: the placeholder token to define, as ``<cat>``.
        initializer: the word whose token embedding the rows begin as.
        class_word: the plain word for the class; default: the initializer.
        kind: ``object`` (default) or ``style``; decides the caption templates.
        out: a folder for settings, log, previews, checkpoint and the concept file: a new one, or one that holds this
            very run, which then goes on where it stopped (``steps`` may have grown).
        preset: named settings of ``presets.PRESETS``; options given beside it win.
        preview_every: steps between preview strips; 0: none; default: five over the run if there is a folder.
        log_with: trackers of accelerate that get the loss too, as ``tensorboard``, ``wandb`` or ``trackio``.
        options: see InversionSettings.

    Only the rows are trained; the pipeline comes back as it was. On a CPU, equal arguments give equal bits.
    """
    settings = _settings(preset, options)
    told = FolderNote(token=token, initializer=initializer, class_word=class_word, kind=kind)
    blank, pixels = _prepare(pplus, pictures, told, settings)
    folder = RunFolder(out) if out is not None and Distributed().first else None
    with locked(folder.path) if folder else nullcontext():
        seat = RowSeat(pplus, blank, pixels, settings, folder)
        return _sitting(pplus, [seat], settings).run(often(preview_every, settings, folder), progress, log_with)[0]


def run_inversions(
    pplus: PPlus,
    folders: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    preset: Preset | None = None,
    preview_every: int | None = None,
    progress: bool = True,
    log_with: Sequence[str] = (),
    **options: Unpack[Options],
) -> list[InversionResult]:
    """Learn several concepts side by side, in shared batches; each learns what it would learn alone.

    Args:
        folders: one of pictures for each concept, with a ``concept.json`` that names its token and initializer.
        out: a folder that gets one run folder for each, named like its pictures' folder.
        options: as for ``run_inversion``; the same for all. ``batch_size`` is each concept's own.
    """
    settings = _settings(preset, options)
    prepared = [_prepare(pplus, folder, FolderNote(), settings) for folder in folders]
    _check_that_all_differ(folders, [blank.token for blank, _ in prepared])
    with ExitStack() as locks:
        seats = []
        for source, (blank, pixels) in zip(folders, prepared, strict=True):
            folder = RunFolder(Path(out) / Path(source).name) if Distributed().first else None
            if folder:
                locks.enter_context(locked(folder.path))
            seats.append(RowSeat(pplus, blank, pixels, settings, folder))
        previews = often(preview_every, settings, seats[0].folder)
        return _sitting(pplus, seats, settings).run(previews, progress, log_with)


def _sitting(
    pplus: PPlus, seats: Sequence[RowSeat], settings: InversionSettings
) -> TrainingLoop[RowsTrainable, InversionResult]:
    return TrainingLoop(
        pplus.pipe, seats, settings, lambda trainees, schedule: RowTrainer(pplus, trainees, schedule, settings)
    )


def _prepare(pplus: PPlus, pictures: Any, told: FolderNote, settings: InversionSettings) -> tuple[Concept, Tensor]:
    """The concept before its training, and its pictures ``[N, 3, H, W]``; what is not told, the folder's note says."""
    note = read_note(pictures) if isinstance(pictures, str | os.PathLike) else FolderNote()
    token, initializer = told.token or note.token, told.initializer or note.initializer
    if not token or not initializer:
        where = f" of {pictures}" if isinstance(pictures, str | os.PathLike) else ""
        raise ConceptError(
            f"name the token{where} (as <cat>) and the initializer (as cat), or write them into concept.json"
        )
    check_token(token, pplus.pipe.tokenizer)
    if token in pplus.concepts:
        raise ConceptError(f"a concept {token} was added already; forget({token!r}) first")
    start = initial_rows(pplus, initializer, settings)
    pixels = to_pixels(load_pictures(pictures), picture_size(pplus.pipe))
    blank = Concept(
        token=token,
        rows=start.expand(len(pplus.layers), -1, -1),
        layers=pplus.layers,
        tying=settings.tying or TYING[settings.method],
        initializer=initializer,
        class_word=told.class_word or note.class_word or initializer,
        kind=told.kind or note.kind or "object",
        base_model=base_model(pplus.pipe),
        token_table=token_table_hash(pplus.pipe.text_encoder, pplus.pipe.tokenizer),
        provenance={"pictures": len(pixels), **settings.model_dump()},
    )
    _check_room(pplus, blank, settings.vectors)
    return blank, pixels


def _check_that_all_differ(folders: Sequence[str | os.PathLike[str]], tokens: Sequence[str]) -> None:
    if not folders:
        raise PictureError("no folders of pictures were given")
    for what, names in (("token", list(tokens)), ("folder name", [Path(folder).name for folder in folders])):
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ConceptError(f"two concepts have the {what} {twice[0]}; each needs its own")


def _check_room(pplus: PPlus, concept: Concept, vectors: int) -> None:
    """See that a caption's rows all fit into the text encoder: a row that is cut off would never be trained."""
    tokenizer, templates = pplus.pipe.tokenizer, TEMPLATES[concept.kind]
    room = pplus.positions - max(len(tokenizer(template.format("")).input_ids) for template in templates)
    if vectors > room:
        raise SettingsError(f"vectors: captions have room for {room} rows of {concept.token}, not for {vectors}")


def _settings(preset: Preset | None, options: Options) -> InversionSettings:
    if preset is not None and preset not in PRESETS:
        raise SettingsError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    return checked(InversionSettings, {**(PRESETS[preset] if preset else {}), **options})
