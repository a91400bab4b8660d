"""What ``invert`` does with a request: train, write the run's report, print the result."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptplus.choices import Kind, Preset
from promptplus.cli.common import ModelOptions, open_model, say

if TYPE_CHECKING:
    from promptplus.datasets import Dataset, FolderNote
    from promptplus.training.result import DreamBoothResult, InversionResult


@dataclass(frozen=True)
class TrainingRequest:
    """What the command line asks for.

    Attributes:
        pictures: a folder of pictures, or of such folders.
        token, initializer, class_word, kind: of the concept; None: what the folder's ``concept.json`` says.
        class_pictures: for DreamBooth: a folder of pictures of the class.
        captions: train with the captions beside the pictures.
        describe: one caption for all pictures.
        preset: a name in ``PRESETS``, or None.
        options: the settings that were given, by name.
        preview_every: steps between previews; None: the default.
        log_with: trackers that get the loss too.
        out: the run folder; None: a new one below ``runs``.
    """

    pictures: Path
    token: str | None
    initializer: str | None
    class_word: str | None
    kind: Kind | None
    class_pictures: Path | None
    captions: bool
    describe: str | None
    preset: Preset | None
    options: dict[str, Any]
    preview_every: int | None
    log_with: tuple[str, ...]
    out: Path | None
    model: ModelOptions
    as_json: bool

    def names(self) -> "FolderNote":
        """Token, initializer, class word and kind, as far as they were given."""
        from promptplus.training.arguments import concept_names

        return concept_names(token=self.token, initializer=self.initializer, class_word=self.class_word, kind=self.kind)


def invert_one(request: TrainingRequest) -> None:
    """Learn one concept."""
    from promptplus.datasets import read_dataset
    from promptplus.errors import ConceptError
    from promptplus.files import free_folder
    from promptplus.model_folder import ModelFolder
    from promptplus.placeholders import check_new
    from promptplus.training.distributed import Distributed
    from promptplus.training.invert import run_inversion
    from promptplus.training.run_folder import check_run_folder

    # before the model: it fails faster
    dataset = read_dataset(request.pictures, request.names(), request.captions, request.describe)
    if dataset.note.token is None:
        raise ConceptError(
            f"name the placeholder token, as --token '<cat>', or write it into {request.pictures}/concept.json"
        )
    first, folder = Distributed().first, ModelFolder.read(request.model.model)
    check_new(dataset.note.token, folder.words if folder else ())
    _check_early(request, [dataset])
    out = request.out or free_folder(Path("runs") / dataset.note.token.strip("<>"))
    if first:
        check_run_folder(out)
    result = run_inversion(
        open_model(request.model),
        dataset,
        out=out,
        preset=request.preset,
        preview_every=request.preview_every,
        log_with=request.log_with,
        **request.options,
    )
    if first:
        say(*_inversion_report(result), request.as_json)


def invert_each(request: TrainingRequest) -> None:
    """Learn one concept for each sub-folder, together."""
    from promptplus.datasets import concept_folders, read_dataset
    from promptplus.errors import ConceptError
    from promptplus.files import check_folder, free_folder
    from promptplus.training.distributed import Distributed
    from promptplus.training.invert import run_inversions
    from promptplus.training.run_folder import check_run_folder

    given = list(request.names().model_dump(exclude_none=True))
    if given:
        raise ConceptError(f"with --each every folder's concept.json names its {given[0]}; leave the option out")
    folders = concept_folders(request.pictures)
    out = check_folder(request.out or free_folder(Path("runs") / request.pictures.resolve().name))
    first = Distributed().first
    if first:
        for folder in folders:
            check_run_folder(out / folder.name)
    datasets = [read_dataset(folder, None, request.captions, request.describe) for folder in folders]
    _check_early(request, datasets)
    results = run_inversions(
        open_model(request.model),
        datasets,
        out=out,
        preset=request.preset,
        preview_every=request.preview_every,
        log_with=request.log_with,
        **request.options,
    )
    if not first:
        return
    reports = [_inversion_report(result) for result in results]
    sentences = "\n".join(sentence for _, sentence in reports)
    say({"concepts": [values for values, _ in reports]}, sentences, request.as_json)


def _check_early(request: TrainingRequest, datasets: Sequence["Dataset"]) -> None:
    """Find mistakes in ``--learn`` and ``--describe`` before the model's weights are read."""
    from promptplus.caption_files import describing_template
    from promptplus.model_folder import ModelFolder

    folder, learn = ModelFolder.read(request.model.model), request.options.get("learn")
    if folder and learn is not None:  # else the model says which layers it has
        folder.layers.select(learn)
    for note in (dataset.note for dataset in datasets if dataset.describe is not None):
        if note.token and (class_word := note.class_word or note.initializer):
            describing_template(request.describe or "", note.token, class_word)


def train_denoiser(request: TrainingRequest) -> None:
    """Train a copy of the denoiser on one subject (DreamBooth)."""
    from promptplus.datasets import load_pictures, read_dataset
    from promptplus.errors import ConceptError
    from promptplus.files import free_folder
    from promptplus.training.distributed import Distributed
    from promptplus.training.dreambooth import dreambooth
    from promptplus.training.prior_images import check_cache
    from promptplus.training.run_folder import check_run_folder

    dataset = read_dataset(request.pictures, request.names())  # a bad folder is found before the model loads
    class_word = dataset.note.class_word or dataset.note.initializer
    if not class_word:
        raise ConceptError("name the class of the subject, as --class-word cat, or write it into concept.json")
    name = re.sub(r"[^\w-]+", "-", f"{request.options.get('identifier', 'sks')}-{class_word}")
    out = request.out or free_folder(Path("runs") / name)
    first = Distributed().first
    if first:
        check_run_folder(out)
        if request.class_pictures is None and request.options.get("prior_weight") != 0:
            check_cache()
    class_pictures = load_pictures(request.class_pictures) if request.class_pictures else None
    result = dreambooth(
        open_model(request.model),
        dataset,
        class_pictures=class_pictures,
        out=out,
        preview_every=request.preview_every,
        log_with=request.log_with,
        **request.options,
    )
    if first:
        say(*_dreambooth_report(result, out), request.as_json)


def _inversion_report(result: "InversionResult") -> tuple[dict[str, Any], str]:
    """Write the run's report; returns what to print: values, and a sentence."""
    assert result.folder is not None
    page = _write_page(result, result.folder)
    concept = result.folder / "concept.safetensors"
    everywhere = len(result.concept.learned_layers) == len(result.concept.layers)
    trained = "rows" if everywhere else f"rows of {result.concept.layers.describe(result.concept.learned_layers)}"
    done = "was learned before and is" if result.resumed == result.settings.steps else "is"
    shares = [result.share_moved[layer] for layer in result.concept.learned_layers]
    least, most = min(shares), max(shares)
    sentence = (
        f"{result.concept.token} {done} in {concept}; its {trained} moved by {least:.0%} to {most:.0%} of their norm; "
        f"the run's page: {page}"
    )
    numbers = {"seconds": round(result.seconds, 1), "resumed": result.resumed, "share_moved": result.share_moved}
    return {"token": result.concept.token, "concept": str(concept), "page": str(page), **numbers}, sentence


def _dreambooth_report(result: "DreamBoothResult", folder: Path) -> tuple[dict[str, Any], str]:
    """Write the run's report; returns what to print: values, and a sentence."""
    page = _write_page(result, folder)
    done = "was trained before and is" if result.resumed == result.settings.steps else "is"
    option = "--lora" if result.product.is_file() else "--model"
    sentence = (
        f'the denoiser for "{result.name}" {done} in {result.product}; its weights moved by {result.moved:.2%} of '
        f"their norm; try it: promptplus generate 'a photo of a {result.name}' {option} {result.product}; "
        f"the run's page: {page}"
    )
    numbers = {"seconds": round(result.seconds, 1), "resumed": result.resumed, "moved": result.moved}
    return {"name": result.name, "product": str(result.product), "page": str(page), **numbers}, sentence


def _write_page(result: "InversionResult | DreamBoothResult", folder: Path) -> Path:
    """Write ``run.html`` into a run folder."""
    from promptplus.files import write_atomically
    from promptplus.report.training_page import run_page

    return write_atomically(folder / "run.html", run_page(result).encode())
