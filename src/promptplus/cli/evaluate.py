"""The command ``evaluate``: compare methods on concepts, or score pictures that exist."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from promptplus.errors import PictureError, SettingsError, first_line

if TYPE_CHECKING:
    from promptplus.evaluation.training_cache import MethodSpec
    from promptplus.experiments.study import Study

METHODS = "word, xti, ti, a preset, dreambooth or dreambooth-lora"


def evaluate(
    concepts: Annotated[
        Path | None,
        typer.Argument(help="A folder with one folder of pictures for each concept, with a concept.json in it."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A method to compare: {METHODS}; with its steps, as xti@50,500. Repeatable. "
            "Default: word, xti@500 and ti@500."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training runs of each method on each concept.")] = 1,
    baseline: Annotated[
        str | None,
        typer.Option(help="The method that others are compared with, one of them. Default: xti@500, if it is."),
    ] = None,
    per_prompt: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 4,
    prompts: Annotated[
        Path | None, typer.Option(help="A text file of prompts, one a line, with {} for the concept's word.")
    ] = None,
    shard: Annotated[str, typer.Option(help="The part of the tasks that this process runs: 0/4 is the first.")] = "0/1",
    ray: Ray = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Score the pictures of this folder instead. Its prompts.json maps file names to prompts."),
    ] = None,
    concept: Annotated[Path | None, typer.Option(help="With --images: a folder of the concept's own pictures.")] = None,
    out: Annotated[Path, typer.Option(help="The folder of results: a new one, or one to continue.")] = Path(
        "runs/evaluation"
    ),
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Compare methods on concepts, or score pictures that exist.

    The scores are subject similarity (judge: DINO) and text similarity (judge: CLIP).

    Existing results are reused. Several processes with the same --out share the tasks.
    """
    options = ModelOptions(model, device, dtype)
    with spoken_warnings():
        if images or concept:
            _score(images, concept, options, as_json)
            return
        if concepts is None:
            raise SettingsError("name a folder of concepts, or --images and --concept")
        methods = [parse_method(text) for text in method or ("word", "xti@500", "ti@500")]
        request = ComparisonRequest(
            concepts,
            methods,
            seeds,
            _baseline(baseline, methods),
            _read_prompts(prompts) if prompts else [],
            per_prompt,
            _parse_shard(shard),
            out,
        )
        _compare(request, options, ray, as_json)


@dataclass(frozen=True)
class ComparisonRequest:
    """What the command line asks to compare.

    Attributes:
        concepts: a folder of concepts' folders.
        seeds: training runs of each method on each concept.
        baseline: the method that others are compared with, at its last step count.
        prompts: templates with ``{}``; empty: the model's usual ones.
        shard: (number, count): every count-th task from number on is this process's.
        out: folder of results.
    """

    concepts: Path
    methods: "list[MethodSpec]"
    seeds: int
    baseline: "MethodSpec"
    prompts: list[str]
    per_prompt: int
    shard: tuple[int, int]
    out: Path


def _compare(request: ComparisonRequest, options: ModelOptions, ray: str | None, as_json: bool) -> None:
    """Run this process's tasks, then report on all that are done."""
    from promptplus.datasets import concept_folders
    from promptplus.evaluation.grid import ExperimentGrid
    from promptplus.evaluation.scoring import Scorer
    from promptplus.evaluation.training_cache import Task
    from promptplus.experiments import methods as comparison
    from promptplus.files import check_folder

    folders = concept_folders(request.concepts)
    seeds = range(request.seeds)
    tasks = [Task(folder, method, seed) for method in request.methods for folder in folders for seed in seeds]
    number, count = request.shard
    check_folder(request.out)
    if ray:
        run_tasks_on_ray(ray, options, request.prompts, request.per_prompt, request.out, tasks[number::count])
    pplus = open_model(options)
    scorer = Scorer.for_model(pplus.pipe, request.prompts, request.per_prompt)
    grid = ExperimentGrid(pplus, options.model, scorer, request.out)
    grid.run(tasks[number::count])
    by_task = [grid.find(task) for task in tasks]
    if missing := sum(None in results for results in by_task) - len(grid.failed):
        complain(
            f"note: {missing} of {len(tasks)} tasks are left to other processes; run this again when they are done"
        )
    results = [result for several in by_task for result in several if result]
    study = comparison.study(results, request.baseline.end, comparison.gallery(grid, tasks))
    _report(study, request.out, as_json)
    grid.pack()


def _report(study: "Study", out: Path, as_json: bool) -> None:
    """Write the study's page and print its table of methods."""
    page = study.write(out)
    table = study.tables["methods"]
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    lines = "\n".join(
        f"{row['method']:<16} {row['steps']:>5}  {row['subject similarity']}  {row['text similarity']}" for row in rows
    )
    say({"page": str(page), "methods": rows}, f"{lines}\nthe page: {page}", as_json)


def _read_prompts(path: Path) -> list[str]:
    """The lines of a text file, each with one ``{}``."""
    from promptplus.text_files import read_text

    lines = [line.strip() for line in read_text(path, SettingsError).splitlines() if line.strip()]
    if not lines:
        raise SettingsError(f"{path} holds no prompts; write one a line, with {{}} for the concept's word")
    if any(line.count("{}") != 1 for line in lines):
        raise SettingsError(f"{path}: every prompt needs one {{}} for the concept's word")
    return lines


def parse_method(text: str) -> "MethodSpec":
    """A method from its name and steps, as ``xti@50,500``. Raises SettingsError where there is no such method."""
    from promptplus.evaluation.training_cache import WORD, MethodSpec
    from promptplus.training.settings import PRESETS, SETTINGS

    name, _, numbers = text.partition("@")
    known: dict[str, dict[str, Any]] = {WORD: {}, **{method: {"method": method} for method in SETTINGS}, **PRESETS}
    if name not in known:
        raise SettingsError(f"no method {name!r}; use {METHODS}")
    try:
        steps = tuple(sorted(map(int, numbers.split(",")))) if numbers else (known[name].get("steps", 500),)
    except ValueError as error:
        raise SettingsError(f"{text!r} does not name steps, as xti@50,500: {first_line(error)}") from error
    if steps[0] < 1:
        raise SettingsError(f"{text!r}: steps are 1 or more")
    options = {key: value for key, value in known[name].items() if key != "steps"}
    return MethodSpec(name, options, (0,) if name == WORD else steps)


def _baseline(text: str | None, methods: "list[MethodSpec]") -> "MethodSpec":
    """The baseline. Raises SettingsError where one is given that is none of the methods."""
    chosen = parse_method(text or "xti@500")
    there = [f"{one.name}@{steps}" for one in methods for steps in one.steps]
    if text and "@".join(map(str, chosen.end)) not in there:
        raise SettingsError(f"--baseline {text} is none of the methods ({', '.join(there)}); add it with --method")
    return chosen


def _parse_shard(text: str) -> tuple[int, int]:
    """``0/4`` → (0, 4)."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise SettingsError(f"shard {text!r} is not a part such as 0/4")
    return int(number), int(count)


def _score(images: Path | None, concept: Path | None, options: ModelOptions, as_json: bool) -> None:
    """Score the pictures of a folder against the concept's own, and against their prompts where there are any."""
    from promptplus.datasets import load_pictures, read_picture_prompts, read_pictures
    from promptplus.evaluation.scoring import Scorer, score_images
    from promptplus.picture_folders import PROMPTS_JSON

    if not (images and concept):
        raise SettingsError("--images and --concept go together: the pictures, and the concept's own")
    real = load_pictures(concept)
    texts = images / PROMPTS_JSON
    prompt_of = read_picture_prompts(images)
    read = read_pictures(images)
    names, pictures = [path.name for path, _ in read if path], [picture for _, picture in read]
    if prompt_of is not None and (missing := [name for name in names if name not in prompt_of]):
        raise PictureError(f"{texts} names no prompt of {missing[0]}")
    scorer = Scorer.for_model(open_model(options).pipe)
    prompts = [prompt_of[name] for name in names] if prompt_of is not None else []
    subject, text = score_images(scorer.clip, scorer.dino, pictures, prompts, real)
    values = {"pictures": len(pictures), "subject": subject, "text": text}
    sentence = f"subject similarity {subject:.3f}" + (f", text similarity {text:.3f}" if text is not None else "")
    say(values, f"{len(pictures)} pictures: {sentence}", as_json)
