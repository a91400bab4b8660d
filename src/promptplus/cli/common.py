"""What every verb shares: the common options, messages, and a pipeline with its concepts."""

import json
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from promptplus.pplus import PPlus

console = Console(highlight=False, soft_wrap=True, emoji=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

Model = Annotated[str, typer.Option(help="pocket, a folder, a .safetensors file or a hub id.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best there is.")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16.")]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="The run's seed.")]
Ray = Annotated[str | None, typer.Option(help="Share tasks among Ray's workers: local, or a cluster's address.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]


def complain(message: str) -> None:
    """One sentence on standard error."""
    errors.print(f"promptplus: {message}", markup=False)


def say(values: dict[str, Any], sentence: str, as_json: bool) -> None:
    """The verb's result: a sentence for people, or one JSON object."""
    console.print(json.dumps(values) if as_json else sentence, markup=False)


@contextmanager
def spoken_warnings() -> "Iterator[None]":
    """While inside, our warnings are sentences on standard error, without Python's file and line."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_args, **_kwargs: complain(f"note: {message}")
        yield


def open_model(
    model: str, device: str | None, dtype: str | None, concepts: Sequence[Path] = (), loras: Sequence[Path] = ()
) -> "PPlus":
    """A pipeline with LoRAs, P+ and concepts; the concept files are read first, since they are quick to check."""
    from promptplus import Concept, PPlus, load
    from promptplus.models import add_loras

    loaded = [Concept.load(path) for path in concepts]
    _quiet_libraries()
    with errors.status(f"loading {model} …"):
        pipe = load(model, device=device, dtype=dtype)
        add_loras(pipe, loras)
        pplus = PPlus(pipe)
    for concept in loaded:
        pplus.add(concept)
    return pplus


def _quiet_libraries() -> None:
    """The libraries' own bars and notes would stand between a person and ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def on_ray(address: str, told: tuple[Any, ...], tasks: Sequence[Any]) -> None:
    """Do a matrix's tasks on Ray; ``told``: what ``open_grid`` takes. Workers have no working folder of ours."""
    from dataclasses import replace
    from functools import partial

    from promptplus.evaluation.grid import open_grid
    from promptplus.evaluation.ray_workers import run_on_ray
    from promptplus.models import POCKET

    model, device, dtype, prompts, per_prompt, folder = told
    model = str(Path(model).absolute()) if model != POCKET and Path(model).exists() else model
    device = "cuda" if device and device.startswith("cuda") else device  # each worker sees its own GPU alone
    make = partial(open_grid, model, device, dtype, prompts, per_prompt, folder.absolute())
    absolute = [replace(task, concept=task.concept.absolute()) for task in tasks]
    run_on_ray(make, absolute, address=None if address == "local" else address)
