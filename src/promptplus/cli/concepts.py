"""Verbs about concepts: invert, mix and info."""

import json
from pathlib import Path
from typing import Annotated

import typer

from promptplus.cli.common import Device, Dtype, Json, Model, Seed, console, open_model, say, spoken_warnings
from promptplus.concept import Kind
from promptplus.inversion.run import Method, Templates


def invert(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures of one concept.")],
    token: Annotated[str | None, typer.Option(help="The placeholder token to define, as <cat>.")] = None,
    initializer: Annotated[str | None, typer.Option(help="The word the rows begin as.")] = None,
    class_word: Annotated[str | None, typer.Option(help="The plain word for its class.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="What it is; decides the captions.")] = None,
    method: Annotated[Method, typer.Option(help="xti: a row per layer; ti: one row for all.")] = "xti",
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 500,
    batch_size: Annotated[int, typer.Option(help="Pictures per step.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Constant; not scaled by the batch.")] = 0.005,
    vectors: Annotated[int, typer.Option(help="Rows per layer.")] = 1,
    flip: Annotated[bool, typer.Option(help="Mirror half of the pictures.")] = True,
    templates: Annotated[Templates, typer.Option(help="A caption template per batch or per picture.")] = "picture",
    micro_batch: Annotated[int | None, typer.Option(help="Pictures in memory at once; default: the batch.")] = None,
    log_with: Annotated[list[str] | None, typer.Option(help="Also log to tensorboard, wandb or trackio.")] = None,
    preview_every: Annotated[int | None, typer.Option(min=0, help="Steps between previews; 0: none.")] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run, new or to go on with; default: runs/TOKEN.")
    ] = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Learn a concept from a folder of pictures: the concept file, a log, previews and a page.

    The same call with the same --out goes on where it was stopped; more --steps go on from a finished run.
    """
    from promptplus.errors import ConceptError
    from promptplus.files import free_folder, write_atomically
    from promptplus.inversion.images import load_pictures, read_note
    from promptplus.inversion.run import check_run_folder
    from promptplus.inversion.trainer import run_inversion
    from promptplus.report import run_page
    from promptplus.text import check_form

    note = read_note(pictures)
    token, initializer = token or note.token, initializer or note.initializer
    if token is None:
        raise ConceptError(f"name the placeholder token, as --token '<cat>', or write it into {pictures}/concept.json")
    out = check_run_folder(out or free_folder(Path("runs") / check_form(token).strip("<>")))
    with spoken_warnings():
        loaded = load_pictures(pictures)  # a bad folder is found before the model loads
        pplus = open_model(model, device, dtype)
        run = run_inversion(
            pplus,
            loaded,
            token,
            initializer,
            class_word=class_word or note.class_word,
            kind=kind or note.kind,
            out=out,
            preview_every=preview_every,
            method=method,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            vectors=vectors,
            flip=flip,
            seed=seed,
            templates=templates,
            micro_batch=micro_batch,
            log_with=log_with or (),
        )
    write_atomically(out / "run.html", run_page(run).encode())
    files = {"concept": str(out / "concept.safetensors"), "page": str(out / "run.html")}
    done = "was learned before and lies" if run.resumed == steps else "is"
    least, most = min(run.share_moved), max(run.share_moved)
    sentence = (
        f"{token} {done} in {files['concept']}; its rows moved by {least:.0%} to {most:.0%} of their norm; "
        f"the run's page: {files['page']}"
    )
    numbers = {"seconds": round(run.seconds, 1), "resumed": run.resumed, "share_moved": run.share_moved}
    say({**files, **numbers}, sentence, as_json)


def mix(
    shape: Annotated[Path, typer.Option(help="The concept file that gives the shape.")],
    style: Annotated[Path, typer.Option(help="The concept file that gives the look.")],
    token: Annotated[str, typer.Option(help="The placeholder token of the mixed concept.")],
    out: Annotated[Path, typer.Option(help="The new concept file.")],
    shape_layers: Annotated[str, typer.Option(help="Layers the shape decides.")] = "coarse",
    as_json: Json = False,
) -> None:
    """One concept's shape with another's style: a new concept file."""
    from promptplus.concept import Concept
    from promptplus.errors import OutputError
    from promptplus.mixing import mix as mix_concepts

    if out.exists():
        raise OutputError(f"{out} exists already; nothing is overwritten, so give another --out")
    mixed = mix_concepts(Concept.load(shape), Concept.load(style), token, shape_layers)
    mixed.save(out)
    supplied = mixed.provenance["supplied_by"]
    table = "\n".join(f"  {layer:<10} {source}" for layer, source in supplied.items())
    say({"concept": str(out), "supplied_by": supplied}, f"{token} is in {out}; its layers come from\n{table}", as_json)


def info(
    file: Annotated[Path, typer.Argument(help="A concept file, or a picture made by generate.")],
    as_json: Json = False,
) -> None:
    """What a concept file is, or how a picture was made."""
    from promptplus.recipes import describe

    values = describe(file)
    if as_json:
        console.print(json.dumps(values), markup=False)
        return
    for name, value in values.items():
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        console.print(f"{name:>14}  {shown}", markup=False)
