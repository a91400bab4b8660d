"""Pictures → Concept: XTI (one row per layer) and TI (one row for all layers), the same training with another tying."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from promptplus.caption_files import caption_templates, describing_template
from promptplus.choices import InversionMethod, Kind, Preset, Tying
from promptplus.concept import Concept
from promptplus.datasets import Dataset, Pictures, read_dataset
from promptplus.density import TokenDensity
from promptplus.errors import ConceptError, PictureError, SettingsError
from promptplus.files import as_path
from promptplus.fingerprints import settings_hash
from promptplus.layers import LayerMap
from promptplus.models import base_model, picture_size
from promptplus.pictures import to_pixels
from promptplus.pplus import PPlus
from promptplus.templates import TEMPLATES, filled
from promptplus.text_encoders import token_table_of
from promptplus.training.arguments import check_arguments, concept_names
from promptplus.training.batches import encode_pictures
from promptplus.training.checkpoint import locked
from promptplus.training.distributed import Distributed
from promptplus.training.first_rows import class_word_rows, initial_rows, learned_layers
from promptplus.training.loop import TrainingLoop
from promptplus.training.noise_schedule import check_trainable, gradients_on
from promptplus.training.picture_record import picture_names
from promptplus.training.result import InversionResult
from promptplus.training.run import TrainingRun, record_of
from promptplus.training.run_folder import RunFolder, preview_interval
from promptplus.training.settings import InversionSettings, inversion_settings
from promptplus.training.settings_help import takes_settings
from promptplus.training.token_rows import RowsTrainable

RECORDED = ("token", "initializer", "class_word", "kind", "base_model", "token_table")


@takes_settings(InversionSettings)
def invert(
    pplus: PPlus,
    pictures: Pictures,
    token: str | None = None,
    initializer: str | None = None,
    *,
    class_word: str | None = None,
    kind: Kind | None = None,
    out: str | os.PathLike[str] | None = None,
    captions: bool = False,
    describe: str | None = None,
    preset: Preset | None = None,
    preview_every: int | None = None,
    progress: bool = True,
    log_with: Sequence[str] = (),
    **options: Any,
) -> Concept:
    """Learn a concept from a few pictures (paper section 3.2).

    Only the token rows are trained. The pipeline comes back as it was. On a CPU, equal arguments give equal bits.

    Args:
        pplus: the pipeline to learn on, with P+ installed.
        pictures: a folder, a file, a pattern such as ``photos/*.jpg``, or one or several PIL pictures, arrays or
            tensors: see ``load_pictures``. A folder's ``concept.json`` supplies what is not given.
        token: the placeholder token to define, as ``<cat>``.
        initializer: the word whose token embedding the rows begin as.
        class_word: the plain word for the class. Default: the initializer.
        kind: ``object`` (default) or ``style``. Decides the caption templates.
        out: a folder for settings, log, previews, checkpoint and the concept file: a new one, or one that holds this
            very run. The run then continues where it stopped, and ``steps`` may have grown.
        captions: train each picture with the caption in the text file beside it (``p0.txt``, ``p0.caption`` or a line
            of ``metadata.jsonl``) and not with the templates. The token takes the place of ``{}`` or the class word.
        describe: one caption for all pictures, as ``a {} striped mug on a table``, in place of the templates. It says
            all but the concept, so that the token keeps what the words leave over.
        preset: named settings of ``promptplus.training.settings.PRESETS``. Options given beside it win.
        preview_every: steps between preview strips; 0: none. Default: five over the run if there is a folder.
        progress: show a progress bar.
        log_with: trackers of accelerate that get the loss too, as ``tensorboard``, ``wandb`` or ``trackio``.

    Returns:
        The learned concept.

    Raises:
        ConceptError: a token, initializer or class word that cannot be used.
        PictureError: pictures or captions that cannot be read.
        SettingsError: an option outside its range, or another option than a run in ``out`` was begun with.
        OutputError: ``out`` cannot be used, or holds something else.
        WriteError: the disk is full, read-only or broken.
        TrainingError: the training failed: a loss that is not finite, or no memory for one picture.
    """
    names = concept_names(token=token, initializer=initializer, class_word=class_word, kind=kind)
    settings = inversion_settings(preset, options)
    check_arguments(pplus, preview_every=preview_every, progress=progress, log_with=log_with, captions=captions)
    with _inversion(pplus, [(read_dataset(pictures, names, captions, describe), out)], settings) as loop:
        return loop.run(preview_interval(preview_every, settings, out is not None), progress, log_with)[0].concept


@takes_settings(InversionSettings)
def run_inversion(
    pplus: PPlus,
    pictures: Pictures,
    token: str | None = None,
    initializer: str | None = None,
    *,
    class_word: str | None = None,
    kind: Kind | None = None,
    out: str | os.PathLike[str] | None = None,
    captions: bool = False,
    describe: str | None = None,
    preset: Preset | None = None,
    preview_every: int | None = None,
    progress: bool = True,
    log_with: Sequence[str] = (),
    **options: Any,
) -> InversionResult:
    """Learn a concept as ``invert`` does; returns losses, previews and settings beside it."""
    names = concept_names(token=token, initializer=initializer, class_word=class_word, kind=kind)
    settings = inversion_settings(preset, options)
    check_arguments(pplus, preview_every=preview_every, progress=progress, log_with=log_with, captions=captions)
    with _inversion(pplus, [(read_dataset(pictures, names, captions, describe), out)], settings) as loop:
        return loop.run(preview_interval(preview_every, settings, out is not None), progress, log_with)[0]


@takes_settings(InversionSettings)
def run_inversions(
    pplus: PPlus,
    folders: Sequence[str | os.PathLike[str] | Dataset],
    *,
    out: str | os.PathLike[str],
    captions: bool = False,
    describe: str | None = None,
    preset: Preset | None = None,
    preview_every: int | None = None,
    progress: bool = True,
    log_with: Sequence[str] = (),
    **options: Any,
) -> list[InversionResult]:
    """Learn several concepts side by side, in shared batches. Each learns what it would learn alone.

    Args:
        folders: one of pictures for each concept, with a ``concept.json`` that names its token and initializer; or
            such folders as ``read_dataset`` returns them.
        out: a folder that gets one run folder for each concept, named like its pictures' folder.
        captions, describe, preset, preview_every, progress, log_with: as for ``invert``.
        options: as for ``invert``, the same for all concepts. ``batch_size`` is each concept's own.
    """
    settings = inversion_settings(preset, options)
    check_arguments(pplus, preview_every=preview_every, progress=progress, log_with=log_with, captions=captions)
    parent = as_path(out)
    datasets = [read_dataset(folder, None, captions, describe) for folder in folders]
    _check_that_all_differ(datasets)
    with _inversion(pplus, [(one, parent / one.name) for one in datasets], settings) as loop:
        return loop.run(preview_interval(preview_every, settings, True), progress, log_with)


@contextmanager
def _inversion(
    pplus: PPlus,
    datasets: Sequence[tuple[Dataset, str | os.PathLike[str] | None]],
    settings: InversionSettings,
) -> Iterator[TrainingLoop[InversionResult]]:
    """The training loop of concepts, given each one's pictures and run folder; the folders are locked while inside."""
    check_trainable(pplus.pipe)
    word_density = cache(partial(TokenDensity.over_words, pplus.encoders))
    runs = []
    with gradients_on(), ExitStack() as locks:
        untrained = [_untrained(pplus, dataset, settings) for dataset, _ in datasets]
        for (concept, captions), (dataset, out) in zip(untrained, datasets, strict=True):
            pixels = to_pixels(dataset.pictures, picture_size(pplus.pipe))
            folder = RunFolder(out) if out is not None and Distributed().first else None
            if folder:
                locks.enter_context(locked(folder.path))
            encode = partial(encode_pictures, pplus.pipe, pixels, settings, concept.token)
            record = {name: getattr(concept, name) for name in RECORDED}
            record |= record_of(pixels, settings, pplus.pipe, picture_names(dataset))
            if captions is not None:
                record["captions"] = concept.provenance["captions"]
            if template := concept.provenance.get("describe"):
                record["describe"] = template
            trainable = RowsTrainable(pplus, concept, encode, settings, word_density, captions, template)
            runs.append(TrainingRun(trainable, record, folder))
        yield TrainingLoop(pplus.pipe, runs, settings)


def usual_tying(method: InversionMethod, layers: LayerMap) -> Tying:
    """The tying of a method: TI ties all layers, XTI those of one transformer, which are one layer in most models."""
    if method == "ti":
        return "all"
    return "layer" if len(layers.transformers) == len(layers) else "transformer"


def _untrained(pplus: PPlus, dataset: Dataset, settings: InversionSettings) -> tuple[Concept, tuple[str, ...] | None]:
    """The concept before its training, and its pictures' captions with ``{}``, if they are used.

    Raises ConceptError where its names cannot be used with this pipeline, PictureError where its captions cannot.
    """
    note = dataset.note
    if not note.token or not note.initializer:
        where = f" of {dataset.folder}" if dataset.folder else ""
        raise ConceptError(
            f"name the token{where} (as <cat>) and the initializer (as cat), or write them into concept.json"
        )
    pplus.check_token(note.token)
    if note.token in pplus.concepts:
        raise ConceptError(f"a concept {note.token} was added already; forget({note.token!r}) first")
    class_word, captions = note.class_word or note.initializer, None
    provenance: dict[str, Any] = {"pictures": len(dataset.pictures), **settings.model_dump()}
    if dataset.captions is not None:
        captions = caption_templates(dataset.captions, note.token, class_word)
        provenance["captions"] = settings_hash({"captions": captions})
    templates = captions or TEMPLATES[note.kind or "object"]
    if dataset.describe is not None:
        templates = [describing_template(dataset.describe, note.token, class_word)]
        provenance["describe"] = templates[0]
    tying = settings.tying or usual_tying(settings.method, pplus.layers)
    concept = Concept(
        token=note.token,
        rows=_untrained_rows(pplus, note.initializer, class_word, settings, tying),
        layers=pplus.layers,
        tying=tying,
        initializer=note.initializer,
        class_word=class_word,
        kind=note.kind or "object",
        base_model=base_model(pplus.pipe),
        token_table=token_table_of(pplus.encoders),
        provenance=provenance,
        encoders=tuple(pplus.widths.items()) if len(pplus.widths) > 1 else (),
    )
    _check_caption_length(pplus, templates, note.token, settings.vectors)
    return concept, captions


def _untrained_rows(
    pplus: PPlus, initializer: str, class_word: str, settings: InversionSettings, tying: Tying
) -> Float[Tensor, "layers vectors width"]:
    """The initializer's rows in the layers that are learned, the class word's in all others.

    Raises LayerError where the model has no such layers, SettingsError where they share rows with others.
    """
    rows = initial_rows(pplus, initializer, settings).repeat(len(pplus.layers), 1, 1)
    learned = learned_layers(pplus.layers, settings, tying)
    if others := [layer for layer in range(len(pplus.layers)) if layer not in learned]:
        rows[others] = class_word_rows(pplus, class_word, settings.vectors)
    return rows


def _check_caption_length(pplus: PPlus, templates: Sequence[str], token: str, vectors: int) -> None:
    """See that a caption's rows all fit into the text encoder: a row that is cut off would never be trained."""
    lengths = {text: len(pplus.tokenizer(text).input_ids) for text in filled(templates, "")}
    longest = max(lengths, key=lengths.__getitem__)
    room = pplus.positions - lengths[longest]
    if room < 1:
        raise PictureError(f"the caption {longest!r} has no room for {token}; shorten it by {vectors - room} tokens")
    if vectors > room:
        raise SettingsError(f"vectors: captions have room for {room} rows of {token}, not for {vectors}")


def _check_that_all_differ(datasets: Sequence[Dataset]) -> None:
    if not datasets:
        raise PictureError("no folders of pictures were given")
    names = {"token": [one.note.token for one in datasets], "folder name": [one.name for one in datasets]}
    for what, values in names.items():
        twice = [name for name in values if name and values.count(name) > 1]
        if twice:
            raise ConceptError(f"two concepts have the {what} {twice[0]}; each needs its own")
