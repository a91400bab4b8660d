"""The command ``reproduce``: measure what the paper claims."""

from pathlib import Path
from typing import Annotated, Any

import typer

from promptplus.cli.common import (
    Device,
    Dtype,
    Json,
    Model,
    ModelOptions,
    Ray,
    complain,
    open_model,
    run_tasks_on_ray,
    say,
    spoken_warnings,
)
from promptplus.errors import SettingsError

PLAN = "Plan (defaults: those of --quick or --full)"  # a panel of the help text


def count(least: int, text: str) -> Any:
    """An option that changes a number of the plan."""
    return typer.Option(min=least, help=text, rich_help_panel=PLAN)


def reproduce(
    quick: Annotated[bool, typer.Option("--quick", help="The short plan: 20 minutes on two cores.")] = False,
    full: Annotated[bool, typer.Option("--full", help="The whole plan. An estimate of its time comes first.")] = False,
    concepts: Annotated[
        Path | None,
        typer.Option(help="A folder with one folder of pictures for each concept. Default: the pocket's concepts."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder of results: a new one, or one to continue. Default: runs/reproduce-PLAN."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps of the studies of attributes and attention.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="Guidance scale of these two studies.")] = None,
    pairs: Annotated[int | None, count(2, "Prompt pairs of the attribute study.")] = None,
    pair_seeds: Annotated[int | None, count(1, "Pictures of each prompt pair.")] = None,
    map_seeds: Annotated[int | None, count(1, "Pictures of each prompt pair in heat maps.")] = None,
    prompts: Annotated[int | None, count(2, "Prompts of the attention study.")] = None,
    prompt_seeds: Annotated[int | None, count(1, "Pictures of each prompt in the attention study.")] = None,
    concept_count: Annotated[int | None, count(2, "Concepts to learn.")] = None,
    runs: Annotated[int | None, count(1, "Training runs of each method on each concept.")] = None,
    per_prompt: Annotated[int | None, count(1, "Pictures of each prompt in the comparison of methods.")] = None,
    few: Annotated[
        int | None, count(0, "Concepts that TI learns in 5000 steps, and that are learned from one picture.")
    ] = None,
    tuned: Annotated[int | None, count(0, "Concepts that are learned at the best learning rates.")] = None,
    mixes: Annotated[int | None, count(1, "Pairs of concepts to mix. No concept is in two pairs.")] = None,
    mix_seeds: Annotated[int | None, count(1, "Pictures of each mix.")] = None,
    edits: Annotated[int | None, count(1, "Edits of each attribute.")] = None,
    things: Annotated[int | None, count(1, "Things of which single attributes are learned.")] = None,
    thing_prompts: Annotated[int | None, count(1, "Prompts of each concept of one attribute.")] = None,
    people: Annotated[
        Path | None, typer.Option(help="The report of a user study, as promptplus study report wrote it.")
    ] = None,
    ray: Ray = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Run every study, and report the paper's claims beside what was measured.

    Existing results are reused, and a stopped run continues. The report says which claims do not hold.
    """
    if quick == full:
        raise SettingsError("give --quick or --full")
    from promptplus.datasets import concept_folders
    from promptplus.files import check_folder
    from promptplus.profiles import profile_of
    from promptplus.reproduce.claims import table
    from promptplus.reproduce.plan import FULL, QUICK, change_counts
    from promptplus.reproduce.run import Reproduction
    from promptplus.user_study.report import read_report

    counts = {"pairs": pairs, "pair_seeds": pair_seeds, "map_seeds": map_seeds, "prompts": prompts}
    counts |= {"prompt_seeds": prompt_seeds, "concepts": concept_count, "runs": runs, "per_prompt": per_prompt}
    counts |= {"few": few, "tuned": tuned, "mixes": mixes, "mix_seeds": mix_seeds, "edits": edits}
    counts |= {"things": things, "thing_prompts": thing_prompts}
    plan = change_counts(QUICK if quick else FULL, counts)
    out = check_folder(out or Path("runs") / f"reproduce-{plan.name}")
    given = concept_folders(concepts) if concepts else None
    voted = read_report(people) if people else None
    options = ModelOptions(model, device, dtype)
    with spoken_warnings():
        pplus = open_model(options)
        folders = given or profile_of(pplus.pipe).concepts
        if not folders:
            raise SettingsError(f"name pictures for {model} to learn from: --concepts FOLDER")
        reproduction = Reproduction(pplus, model, plan, folders, out, complain, voted, steps=steps, guidance=guidance)
        if full:
            complain(reproduction.estimate())
        if ray:
            folder = reproduction.grid.folder
            run_tasks_on_ray(ray, options, (), plan.per_prompt, folder, reproduction.tasks)
        report = reproduction.run()
    page = report.write(out)
    claims = table(report.claims)
    rows = [dict(zip(claims, row, strict=True)) for row in zip(*claims.values(), strict=True)]
    lines = "\n".join(f"{row['holds?']:<13} {row['claim']}\n{'':<13} {row['measured [95 %]']}" for row in rows)
    say({"page": str(page), "claims": rows}, f"{lines}\nthe page: {page}", as_json)
