"""The verb that compares methods, or scores anybody's pictures: evaluate."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from promptplus.cli.common import Device, Dtype, Json, Model, Ray, complain, on_ray, open_model, say, spoken_warnings
from promptplus.errors import PictureError, SettingsError

METHODS = "word, xti, ti, a preset, dreambooth or dreambooth-lora"


def evaluate(
    concepts: Annotated[
        Path | None, typer.Argument(help="A folder with a folder of pictures for each concept, concept.json in it.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"{METHODS}; with its steps, as xti@50,500; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each.")] = 1,
    baseline: Annotated[str, typer.Option(help="What gains are over, as xti@500.")] = "xti@500",
    per_prompt: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 4,
    prompts: Annotated[Path | None, typer.Option(help="A text file, a prompt with {} on each line.")] = None,
    shard: Annotated[str, typer.Option(help="This process's part of the tasks, as 0/4.")] = "0/1",
    ray: Ray = None,
    images: Annotated[
        Path | None, typer.Option(help="Score these pictures instead; prompts.json names their texts.")
    ] = None,
    concept: Annotated[Path | None, typer.Option(help="With --images: the concept's own pictures.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of results, new or to go on with.")] = Path("runs/evaluation"),
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Subject and text similarity of methods on concepts, or of pictures that are there.

    Results that exist are reused; processes that name the same --out share the tasks.
    """
    with spoken_warnings():
        if images or concept:
            _score(images, concept, (model, device, dtype), as_json)
            return
        if concepts is None:
            raise SettingsError("name a folder of concepts, or --images and --concept")
        asked = _Asked(
            [_method(text) for text in method or ("word", "xti@500", "ti@500")],
            _method(baseline),
            _lines(prompts) if prompts else [],
            per_prompt,
            _shard(shard),
        )
        _compare(asked, concepts, seeds, ray, out, (model, device, dtype), as_json)


@dataclass(frozen=True)
class _Asked:
    """The words of the command, read."""

    methods: list[Any]
    baseline: Any
    prompts: list[str]
    per_prompt: int
    shard: tuple[int, int]


def _compare(
    asked: _Asked, concepts: Path, seeds: int, ray: str | None, out: Path, place: tuple[Any, ...], as_json: bool
) -> None:
    from promptplus.evaluation.grid import ExperimentGrid
    from promptplus.evaluation.training_cache import Task
    from promptplus.experiments import methods as evaluation
    from promptplus.experiments.defaults import scorer_for
    from promptplus.files import check_folder
    from promptplus.pictures import concept_folders

    folders = concept_folders(concepts)
    tasks = [Task(folder, one, seed) for one in asked.methods for folder in folders for seed in range(seeds)]
    number, count = asked.shard
    check_folder(out)
    if ray:
        on_ray(ray, (*place, asked.prompts, asked.per_prompt, out), tasks[number::count])
    pplus = open_model(*place)
    matrix = ExperimentGrid(pplus, place[0], scorer_for(pplus.pipe, asked.prompts, asked.per_prompt), out)
    matrix.run(tasks[number::count])
    found = [matrix.find(task) for task in tasks]
    if missing := sum(None in results for results in found) - len(matrix.failed):
        complain(
            f"note: {missing} of {len(tasks)} tasks are left to other processes; run this again when they are done"
        )
    results = [result for several in found for result in several if result]
    baseline = (asked.baseline.name, asked.baseline.steps[-1])
    study = evaluation.study(results, baseline, evaluation.gallery(matrix, tasks))
    page = study.write(out)
    table = study.tables["methods"]
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    said = "\n".join(
        f"{r['method']:<16} {r['steps']:>5}  {r['subject similarity']}  {r['text similarity']}" for r in rows
    )
    say({"page": str(page), "methods": rows}, f"{said}\nthe page: {page}", as_json)


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    if any(line.count("{}") != 1 for line in lines):
        raise SettingsError(f"{path}: every prompt needs one {{}} for the concept's word")
    return lines


def _method(text: str) -> Any:
    """``xti@50,500`` → a Method."""
    from promptplus.evaluation.training_cache import WORD, Method
    from promptplus.training.settings import PRESETS

    name, _, said = text.partition("@")
    known: dict[str, dict[str, Any]] = {WORD: {}, **{n: {"method": n} for n in ("xti", "ti")}, **PRESETS}
    known |= {n: {"method": n} for n in ("dreambooth", "dreambooth-lora")}
    if name not in known:
        raise SettingsError(f"no method {name!r}; use {METHODS}")
    try:
        steps = tuple(sorted(int(number) for number in said.split(","))) if said else (known[name].get("steps", 500),)
    except ValueError as error:
        raise SettingsError(f"{text!r} does not name steps, as xti@50,500") from error
    options = {key: value for key, value in known[name].items() if key != "steps"}
    return Method(name, options, (0,) if name == WORD else steps)


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise SettingsError(f"shard {text!r} is not a part such as 0/4")
    return int(number), int(count)


def _score(images: Path | None, concept: Path | None, place: tuple[Any, ...], as_json: bool) -> None:
    from promptplus.evaluation.scoring import score_images
    from promptplus.experiments.defaults import scorer_for
    from promptplus.pictures import load_pictures, picture_files, read_picture

    if not (images and concept):
        raise SettingsError("--images and --concept go together: the pictures, and the concept's own")
    real = load_pictures(concept)
    texts = images / "prompts.json"
    said: dict[str, str] = {}
    if texts.is_file():
        try:
            said = dict(json.loads(texts.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise PictureError(f"{texts} is no object of file names and prompts") from error
    files = [path for path in picture_files(images) if path != texts]
    if said and (silent := [path.name for path in files if path.name not in said]):
        raise PictureError(f"{texts} names no prompt of {silent[0]}")
    pictures = [read_picture(path) for path in files]
    scorer = scorer_for(open_model(*place).pipe)
    prompts = [said[path.name] for path in files] if said else []
    subject, text = score_images(scorer.clip, scorer.dino, pictures, prompts, real)
    values = {"pictures": len(pictures), "subject": subject, "text": text}
    words = f"subject similarity {subject:.3f}" + (f", text similarity {text:.3f}" if text is not None else "")
    say(values, f"{len(pictures)} pictures: {words}", as_json)
