"""The verb that measures what the paper claims: reproduce."""

from pathlib import Path
from typing import Annotated, Any

import typer

from promptplus.cli.common import Device, Dtype, Json, Model, Ray, complain, on_ray, open_model, say, spoken_warnings
from promptplus.errors import SettingsError

SIZES: dict[str, Any] = {"rich_help_panel": "Sizes (default: of --quick or --full)"}


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
    pairs: Annotated[int | None, typer.Option(min=2, help="Prompt pairs of the study of layers.", **SIZES)] = None,
    pair_seeds: Annotated[int | None, typer.Option(min=1, help="Pictures of each.", **SIZES)] = None,
    map_seeds: Annotated[int | None, typer.Option(min=1, help="Pictures of each in heat maps.", **SIZES)] = None,
    prompts: Annotated[int | None, typer.Option(min=2, help="Prompts of the study of attention.", **SIZES)] = None,
    prompt_seeds: Annotated[int | None, typer.Option(min=1, help="Pictures of each.", **SIZES)] = None,
    concept_count: Annotated[int | None, typer.Option(min=2, help="Concepts that are learned.", **SIZES)] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Trainings of each method on each.", **SIZES)] = None,
    per_prompt: Annotated[int | None, typer.Option(min=1, help="Pictures of each evaluated prompt.", **SIZES)] = None,
    few: Annotated[
        int | None,
        typer.Option(min=0, help="Concepts that TI learns for 5000 steps, and that one picture tells.", **SIZES),
    ] = None,
    tuned: Annotated[int | None, typer.Option(min=0, help="Concepts for the best learning rates.", **SIZES)] = None,
    mixes: Annotated[int | None, typer.Option(min=1, help="Pairs of concepts, none of them in two.", **SIZES)] = None,
    mix_seeds: Annotated[int | None, typer.Option(min=1, help="Pictures of each pair.", **SIZES)] = None,
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
    from promptplus.files import check_folder
    from promptplus.pictures import concept_folders
    from promptplus.profiles import profile_of
    from promptplus.reproduce.claims import table
    from promptplus.reproduce.plan import FULL, QUICK, resized
    from promptplus.reproduce.run import Reproduction

    counts = {"pairs": pairs, "pair_seeds": pair_seeds, "map_seeds": map_seeds, "prompts": prompts}
    counts |= {"prompt_seeds": prompt_seeds, "concepts": concept_count, "runs": runs, "per_prompt": per_prompt}
    counts |= {"few": few, "tuned": tuned, "mixes": mixes, "mix_seeds": mix_seeds}
    size = resized(QUICK if quick else FULL, counts)
    out = check_folder(out or Path("runs") / f"reproduce-{size.name}")
    given = concept_folders(concepts) if concepts else None
    with spoken_warnings():
        pplus = open_model(model, device, dtype)
        folders = given or profile_of(pplus.pipe).concepts
        if not folders:
            raise SettingsError(f"name pictures for {model} to learn from: --concepts FOLDER")
        work = Reproduction(pplus, model, size, folders, out, complain, steps=steps, guidance=guidance)
        if full:
            complain(work.estimate())
        if ray:
            on_ray(ray, (model, device, dtype, (), size.per_prompt, work.matrix.folder), work.tasks)
        report = work.run()
    page = report.write(out)
    found = table(report.claims)
    rows = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    said = "\n".join(f"{row['holds?']:<13} {row['claim']}\n{'':<13} {row['measured [95 %]']}" for row in rows)
    say({"page": str(page), "claims": rows}, f"{said}\nthe page: {page}", as_json)
