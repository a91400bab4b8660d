"""The commands about existing concepts: ``mix`` and ``info``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from promptplus.cli.common import Json, console, say


def mix(
    shape: Annotated[Path, typer.Option(help="The concept file that gives the shape.")],
    style: Annotated[Path, typer.Option(help="The concept file that gives the style.")],
    token: Annotated[str, typer.Option(help="The placeholder token of the mixed concept, as <catmug>.")],
    out: Annotated[Path, typer.Option(help="The new concept file.")],
    shape_layers: Annotated[
        str | None,
        typer.Option(help="The layers that the shape's concept fills: names, groups or numbers. Default: coarse."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Mix one concept's shape with another's style into a new concept file."""
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
    file: Annotated[Path, typer.Argument(help="A concept file, or a picture that generate made.")],
    as_json: Json = False,
) -> None:
    """Show what a concept file holds, or the generation parameters of a picture."""
    from promptplus.png_metadata import describe

    values = describe(file)
    if as_json:
        console.print(json.dumps(values), markup=False)
        return
    for name, value in values.items():
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        console.print(f"{name:>14}  {shown}", markup=False)
