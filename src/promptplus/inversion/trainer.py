"""The training loop: XTI (one row per layer) and TI (one row for all), the same loop with different tying."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor
from tqdm import tqdm

from promptplus.concept import Concept, Kind, Tying, token_table_hash
from promptplus.conditioning import PPlus
from promptplus.errors import ConceptError, ModelError, SettingsError, TrainingError
from promptplus.generation import denoise, pack_kwargs, quiet
from promptplus.inversion.images import load_pictures, read_note, to_pixels
from promptplus.inversion.objective import LatentCache
from promptplus.inversion.rows import TrainedRows, frozen, initial_rows, train_rows
from promptplus.inversion.run import InversionRun, InversionSettings, Method, RunFolder
from promptplus.pocket import PIPELINE
from promptplus.templates import TEMPLATES
from promptplus.text import Placeholder, check_token

TYING: dict[Method, Tying] = {"xti": "layer", "ti": "all"}
PREVIEW_SEEDS = (0, 1, 2, 3)
PREVIEW_PROMPTS = {"object": "a photo of a {}", "style": "a painting in the style of {}"}
PREVIEWS = 5  # how many strips a run makes by default, its last step's among them
LOG_EVERY = 10  # steps between reads of the loss: each read waits for the device
SMOOTHED = 50  # steps whose mean loss the progress bar shows


class Options(TypedDict, total=False):
    """Keyword options of ``invert``: those of InversionSettings."""

    method: Method
    steps: int
    batch_size: int
    learning_rate: float
    vectors: int
    seed: int
    flip: bool


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
    **options: Unpack[Options],
) -> InversionRun:
    """Learn a concept, and keep what a person wants to look at afterwards.

    Args:
        pictures: a folder, or a list of paths or PIL pictures. A folder's ``concept.json`` supplies what is not given.
        token: the placeholder token to define, as ``<cat>``.
        initializer: the word whose token embedding the rows begin as.
        class_word: the plain word for the class; default: the initializer.
        kind: ``object`` (default) or ``style``; decides the caption templates.
        out: a new folder for settings, log, previews and the concept file.
        preview_every: steps between preview strips; 0: none; default: five over the run if there is a folder.
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
    if folder:
        folder.write_settings({k: v for k, v in blank.describe().items() if k != "row_norms"})
    if preview_every is None:
        preview_every = math.ceil(settings.steps / PREVIEWS) if folder else 0
    return _run(pplus, blank, pixels, settings, folder, preview_every, progress)


def _run(
    pplus: PPlus,
    blank: Concept,
    pixels: Tensor,
    settings: InversionSettings,
    folder: RunFolder | None,
    preview_every: int,
    progress: bool,
) -> InversionRun:
    began = time.monotonic()
    pipe = pplus.pipe
    rows = TrainedRows.of(blank, pipe.unet.device, pipe.text_encoder.dtype)
    bar = tqdm(total=settings.steps, desc=f"{settings.method} {blank.token}", disable=not progress)
    with frozen(pipe.unet, pipe.text_encoder, pipe.vae), bar:
        journal = _Journal(pplus, blank, rows, folder, preview_every, settings.steps, bar)
        cache = LatentCache.encode(pipe.vae, pixels)
        for loss in train_rows(pplus, blank, rows, cache, settings):
            journal.record(loss)
    learned = rows.placeholder.rows.detach().float().cpu()
    concept = replace(blank, rows=learned)
    if folder:
        folder.finish(concept)
    return InversionRun(
        concept=concept,
        settings=settings,
        losses=tuple(journal.losses),
        moved=tuple((learned - blank.rows).norm(dim=-1).mean(dim=1).tolist()),
        previews=tuple(journal.previews),
        seconds=time.monotonic() - began,
        folder=folder.path if folder else None,
    )


class _Journal:
    """What is kept while a run goes on: losses, previews, the log, the progress bar."""

    def __init__(
        self,
        pplus: PPlus,
        concept: Concept,
        rows: TrainedRows,
        folder: RunFolder | None,
        preview_every: int,
        steps: int,
        bar: "tqdm[Any]",
    ) -> None:
        self._pplus, self._concept, self._rows = pplus, concept, rows
        self._folder, self._preview_every, self._steps, self._bar = folder, preview_every, steps, bar
        self._pending: list[Tensor] = []
        self.losses: list[float] = []
        self.previews: list[tuple[int, list[Image.Image]]] = []
        if preview_every:
            self._look(0)

    def record(self, loss: Tensor) -> None:
        """Take one step's loss; every few steps read them all at once (each read waits for the device)."""
        self._pending.append(loss)
        self._bar.update()
        step = len(self.losses) + len(self._pending)
        last = step == self._steps
        if last or step % LOG_EVERY == 0:
            self._read(step)
        if self._preview_every and (last or step % self._preview_every == 0):
            self._look(step)

    def _read(self, step: int) -> None:
        values = torch.stack(self._pending).tolist()
        if not all(map(math.isfinite, values)):
            raise TrainingError(
                f"the loss of {self._concept.token} is not finite near step {step}; lower learning_rate or use float32"
            )
        if self._folder:
            self._folder.log(len(self.losses), values)
        self.losses += values
        self._pending.clear()
        recent = self.losses[-SMOOTHED:]
        self._bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}")

    def _look(self, step: int) -> None:
        pictures = _preview(self._pplus, self._concept, self._rows.placeholder)
        self.previews.append((step, pictures))
        if self._folder:
            self._folder.preview(step, pictures)


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


def _preview(pplus: PPlus, concept: Concept, placeholder: Placeholder) -> list[Image.Image]:
    text = PREVIEW_PROMPTS[concept.kind].format(concept.token)
    layers = len(pplus.layers)
    with torch.no_grad(), quiet(pplus.pipe):
        states = pplus.states([[text] * layers], {concept.token: placeholder})
        kwargs = pack_kwargs(states.expand(len(PREVIEW_SEEDS), -1, -1, -1), pplus.states([[""] * layers]))
        return denoise(pplus.pipe, kwargs, PREVIEW_SEEDS)
