"""The commands about existing concepts: ``mix``, ``convert`` and ``info``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from promptplus.cli.common import Json, console, read_concept, say, spoken_warnings

if TYPE_CHECKING:
    from promptplus.concept import Concept

Target = Literal["ours", "kohya", "textual-inversion", "hub"]
HUB = "hub:"


def mix(
    shape: Annotated[str, typer.Option(help="The concept file that gives the shape; FILE=<name> gives it a token.")],
    style: Annotated[str, typer.Option(help="The concept file that gives the style, in the same forms.")],
    token: Annotated[str, typer.Option(help="The placeholder token of the mixed concept, as <catmug>.")],
    out: Annotated[Path, typer.Option(help="The new concept file.")],
    shape_layers: Annotated[
        str | None,
        typer.Option(help="The layers that the shape's concept fills: names, groups or numbers. Default: coarse."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Mix one concept's shape with another's style into a new concept file."""
    from promptplus.mixing import mix as mix_concepts

    _check_new(out)
    with spoken_warnings():
        mixed = mix_concepts(read_concept(shape), read_concept(style), token, shape_layers)
    mixed.save(out)
    supplied = mixed.provenance["supplied_by"]
    table = "\n".join(f"  {layer:<10} {source}" for layer, source in supplied.items())
    say({"concept": str(out), "supplied_by": supplied}, f"{token} is in {out}; its layers come from\n{table}", as_json)


def convert(
    concept: Annotated[
        str, typer.Argument(help="A concept's file of any tool, a folder, a run's folder, or hub:owner/name.")
    ],
    to: Annotated[
        Target,
        typer.Option(help="The new format: ours, kohya's layers, one textual inversion, or a folder for the hub."),
    ] = "ours",
    out: Annotated[
        str | None,
        typer.Option(help="The new file or folder; hub:owner/name uploads. Default: the token's name, in this folder."),
    ] = None,
    token: Annotated[str | None, typer.Option(help="The token, where the file names none, or another.")] = None,
    licence: Annotated[str, typer.Option(help="For the hub: a licence, as cc-by-4.0. Default: unknown.")] = "",
    pictures: Annotated[
        Path | None, typer.Option(help="For the hub: a folder of pictures that shall go along. Default: none go.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="For the hub: upload to a private repository.")] = False,
    as_json: Json = False,
) -> None:
    """Write a concept of any tool's file for another tool, or for the hub.

    A textual inversion has one row for all layers: of a concept with a row for each layer it is the mean. How far the
    layers are from it is printed; how alike its pictures are is not known.
    """
    from promptplus.errors import SettingsError

    if to != "hub" and (licence or pictures or private or (out or "").startswith(HUB)):
        raise SettingsError("--licence, --pictures, --private and --out hub:… are for the hub; add --to hub")
    with spoken_warnings():
        one = read_concept(concept, token)
    values = {"token": one.token, "to": to, "spread": round(one.spread, 4)}
    if to == "hub":
        extras = {"licence": licence, "grid": _grid(Path(concept)), "pictures": _pictures(pictures)}
        made, sentence = _to_hub(one, out or _name(one), extras, private)
    else:
        path = Path(out or f"{_name(one)}.safetensors")
        _check_new(path)
        made, sentence = str(_write(one, to, path)), _said(one, to, path)
    say({**values, "out": made}, sentence, as_json)


def _write(concept: "Concept", to: str, path: Path) -> Path:
    writers = {"ours": concept.save, "kohya": concept.save_kohya, "textual-inversion": concept.save_approximation}
    return writers[to](path)


def _said(concept: "Concept", to: str, path: Path) -> str:
    """What is said of a written file: which rows it has, what was lost, what other tools will call it."""
    said = f"{concept.token} is in {path}"
    if to == "kohya":
        return f"{said}, {len(concept.layers)} layers; kohya's scripts call it {path.stem}, as the file"
    if to == "textual-inversion" and concept.tying != "all":
        return (
            f"{said}, as the mean of {len(concept.layers)} layers, whose rows lie {concept.spread:.0%} of their length "
            "away from it (0%: nothing is lost); how alike the pictures are is not known"
        )
    return said


def _to_hub(concept: "Concept", out: str, extras: dict[str, Any], private: bool) -> tuple[str, str]:
    """Write the folder, or upload it. Returns where it is, and a sentence."""
    there = "; no licence was given, so the card says unknown: --licence" if not extras["licence"] else ""
    if out.startswith(HUB):
        address = concept.push_to_hub(out, **extras, private=private)
        return address, f"{concept.token} is at {address}{there}"
    folder = concept.save_folder(out, **extras)
    return str(folder), f"{concept.token} is in the folder {folder}, as the hub has it{there}"


def _grid(run: Path) -> Any:
    """The last previews of a training run's folder, on one sheet; None of anything else."""
    from promptplus.report.picture_grid import tile
    from promptplus.training.run_folder import read_previews

    strips = read_previews(run) if run.is_dir() else []
    return tile(strips[-1][1], columns=len(strips[-1][1])) if strips else None


def _pictures(folder: Path | None) -> list[Any]:
    from promptplus.datasets import load_pictures

    return load_pictures(folder) if folder else []


def _name(concept: "Concept") -> str:
    """A name for a file, from the token."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in concept.token.strip("<>")).strip("-") or "concept"


def _check_new(path: Path) -> None:
    """Raise OutputError, before any work, where a file exists or its folder cannot be written to."""
    from promptplus.errors import OutputError
    from promptplus.files import check_folder

    if path.exists():
        raise OutputError(f"{path} exists already; nothing is overwritten, so give another --out")
    check_folder(path.parent)


def info(
    file: Annotated[str, typer.Argument(help="A concept's file of any tool, a folder, hub:owner/name, or a picture.")],
    as_json: Json = False,
) -> None:
    """Show what a concept's file of any tool holds, or the generation parameters of a picture."""
    from promptplus.png_metadata import describe

    values = describe(file)
    if as_json:
        console.print(json.dumps(values), markup=False)
        return
    for name, value in values.items():
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        console.print(f"{name:>14}  {shown}", markup=False)
