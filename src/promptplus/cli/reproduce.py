"""The verb that measures what the paper claims: reproduce."""

from pathlib import Path
from typing import Annotated

import typer

from promptplus.cli.common import Device, Dtype, Json, Model, Ray, complain, on_ray, open_model, say, spoken_warnings
from promptplus.errors import SettingsError


def reproduce(
    quick: Annotated[bool, typer.Option("--quick", help="20 minutes of the pocket on two cores.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Everything; an estimate comes first.")] = False,
    concepts: Annotated[
        Path | None, typer.Option(help="Concepts' folders, a concept.json in each; default: the pocket's.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of results, new or to go on with.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps of the studies of layers and attention.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="Guidance scale of these two.")] = None,
    ray: Ray = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """The paper's evidence: every study, and a table of claims beside what was measured.

    Results that exist are used again; a run that was stopped goes on. The report says what does not hold.
    """
    if quick == full:
        raise SettingsError("give --quick or --full")
    from promptplus.evidence.claims import table
    from promptplus.evidence.defaults import is_pocket
    from promptplus.evidence.reproduce import Reproduction
    from promptplus.evidence.sizes import FULL, QUICK
    from promptplus.files import check_folder
    from promptplus.inversion.images import concept_folders
    from promptplus.pocket import CONCEPTS
    from promptplus.pocket.concepts import REPORT

    size = QUICK if quick else FULL
    out = check_folder(out or Path("runs") / f"reproduce-{size.name}")
    given = concept_folders(concepts) if concepts else None
    with spoken_warnings():
        pplus = open_model(model, device, dtype)
        if given is None and not is_pocket(pplus.pipe):
            raise SettingsError(f"name pictures for {model} to learn from: --concepts FOLDER")
        folders = given or [CONCEPTS / name for name in REPORT]
        work = Reproduction(pplus, model, size, folders, out, complain, steps=steps, guidance=guidance)
        if full:
            complain(work.estimate())
        if ray:
            on_ray(ray, (model, device, dtype, (), size.per_prompt, work.matrix_folder), work.tasks)
        report = work.run()
    page = report.write(out)
    found = table(report.claims)
    rows = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    said = "\n".join(f"{row['holds?']:<13} {row['claim']}\n{'':<13} {row['measured [95 %]']}" for row in rows)
    say({"page": str(page), "claims": rows}, f"{said}\nthe page: {page}", as_json)
