"""What invert does once its words are read: learn one concept, several, or a denoiser; draw the page; tell."""

import re
from pathlib import Path
from typing import Any

from promptplus.cli.common import open_model, say
from promptplus.errors import SettingsError
from promptplus.training.result import InversionResult


def check_alone(method: str, others: dict[str, Any]) -> None:
    """See that no other words were given: DreamBooth trains one denoiser, which has a name and no rows."""
    for name, value in others.items():
        if value is not None:
            raise SettingsError(f"{name} is no option of the method {method}; leave it out")


def dreambooth(
    pictures: Path,
    told: Any,
    class_pictures: Path | None,
    out: Path | None,
    place: tuple[Any, ...],
    call: dict[str, Any],
    as_json: bool,
) -> None:
    """Train a denoiser on one subject."""
    from promptplus.errors import ConceptError
    from promptplus.files import free_folder
    from promptplus.pictures import load_pictures, read_note
    from promptplus.training import dreambooth as training
    from promptplus.training.distributed import Distributed
    from promptplus.training.run_folder import check_run_folder

    note = read_note(pictures)
    named = {"class_word": told.class_word or note.class_word or note.initializer, "kind": told.kind or note.kind}
    if not named["class_word"]:
        raise ConceptError("name the class of the subject, as --class-word cat, or write it into concept.json")
    name = re.sub(r"[^\w-]+", "-", f"{call.get('identifier', 'sks')}-{named['class_word']}")
    out = out or free_folder(Path("runs") / name)
    first = Distributed().first
    if first:
        check_run_folder(out)
    loaded = load_pictures(pictures)  # a bad folder is found before the model loads
    others = load_pictures(class_pictures) if class_pictures else None
    run = training.dreambooth(open_model(*place), loaded, **named, class_pictures=others, out=out, **call)
    if not first:
        return
    page = _page(run, out)
    done = "was trained before; it lies" if run.resumed == run.settings.steps else "is"
    use = "--lora" if run.product.is_file() else "--model"
    sentence = (
        f'the denoiser that knows "{run.name}" {done} in {run.product}; its weights moved by {run.moved:.2%} of their '
        f"norm; try it: promptplus generate 'a photo of a {run.name}' {use} {run.product}; the run's page: {page}"
    )
    numbers = {"seconds": round(run.seconds, 1), "resumed": run.resumed, "moved": run.moved}
    say({"name": run.name, "product": str(run.product), "page": str(page), **numbers}, sentence, as_json)


def one_concept(
    pictures: Path, told: Any, out: Path | None, place: tuple[Any, ...], call: dict[str, Any], as_json: bool
) -> None:
    """Learn one concept's rows."""
    from promptplus.errors import ConceptError
    from promptplus.files import free_folder
    from promptplus.pictures import load_pictures, read_note
    from promptplus.placeholders import check_form
    from promptplus.training.distributed import Distributed
    from promptplus.training.invert import run_inversion
    from promptplus.training.run_folder import check_run_folder

    note = read_note(pictures)
    note = note.model_copy(update=told.model_dump(exclude_none=True))
    if note.token is None:
        raise ConceptError(f"name the placeholder token, as --token '<cat>', or write it into {pictures}/concept.json")
    first = Distributed().first
    out = out or free_folder(Path("runs") / check_form(note.token).strip("<>"))
    if first:
        check_run_folder(out)
    loaded = load_pictures(pictures)  # a bad folder is found before the model loads
    run = run_inversion(open_model(*place), loaded, **note.model_dump(), out=out, **call)
    if first:
        say(*_result(run), as_json)


def each_concept(
    pictures: Path, told: Any, out: Path | None, place: tuple[Any, ...], call: dict[str, Any], as_json: bool
) -> None:
    """Learn every sub-folder's concept, side by side."""
    from promptplus.errors import ConceptError
    from promptplus.files import check_folder, free_folder
    from promptplus.pictures import concept_folders, load_pictures
    from promptplus.training.distributed import Distributed
    from promptplus.training.invert import run_inversions
    from promptplus.training.run_folder import check_run_folder

    given = told.model_dump(exclude_none=True)
    if given:
        raise ConceptError(
            f"with --each every folder's concept.json names its {next(iter(given))}; leave the option out"
        )
    folders = concept_folders(pictures)
    out = check_folder(out or free_folder(Path("runs") / pictures.resolve().name))
    first = Distributed().first
    for folder in folders:
        if first:
            check_run_folder(out / folder.name)
        load_pictures(folder)  # a bad folder is found before the model loads
    runs = run_inversions(open_model(*place), folders, out=out, **call)
    if not first:
        return
    results = [_result(run) for run in runs]
    say({"concepts": [values for values, _ in results]}, "\n".join(sentence for _, sentence in results), as_json)


def _page(run: Any, folder: Path) -> Path:
    """Draw a run's page into its folder."""
    from promptplus.files import write_atomically
    from promptplus.report.training_page import run_page

    return write_atomically(folder / "run.html", run_page(run).encode())


def _result(run: InversionResult) -> tuple[dict[str, Any], str]:
    """Draw the run's page; what to print, as values and as a sentence."""
    assert run.folder is not None
    page = _page(run, run.folder)
    concept = run.folder / "concept.safetensors"
    done = "was learned before and lies" if run.resumed == run.settings.steps else "is"
    least, most = min(run.share_moved), max(run.share_moved)
    sentence = (
        f"{run.concept.token} {done} in {concept}; its rows moved by {least:.0%} to {most:.0%} of their norm; "
        f"the run's page: {page}"
    )
    numbers = {"seconds": round(run.seconds, 1), "resumed": run.resumed, "share_moved": run.share_moved}
    return {"token": run.concept.token, "concept": str(concept), "page": str(page), **numbers}, sentence
