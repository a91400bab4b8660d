"""What all commands share: common options, messages, loading a model, and Ray."""

import json
import logging
import os
import re
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from promptplus.concept import Concept
    from promptplus.evaluation.training_cache import Task
    from promptplus.lora import Lora
    from promptplus.pplus import PPlus

NARROWEST = 20  # columns; in fewer, rich prints help texts and errors as empty boxes, in none nothing at all
if (columns := os.environ.get("COLUMNS", "")).isdecimal() and int(columns) < NARROWEST:  # 0: it is not known
    del os.environ["COLUMNS"]
console = Console(highlight=False, soft_wrap=True, emoji=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

Model = Annotated[
    str,
    typer.Option(help="The diffusion model: pocket (bundled), a pipeline's folder, a .safetensors file, or a hub id."),
]
Device = Annotated[
    str | None, typer.Option(help="Device: cpu, cuda, cuda:1 or mps. Default: cuda, else mps, else cpu.")
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Type of the weights: float32, float16 or bfloat16. "
        "Default: float16 on cuda (pocket: float32), else float32.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="Seed of all random draws.")]
Ray = Annotated[str | None, typer.Option(help="Share the tasks among Ray workers: local, or the address of a cluster.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")]


@dataclass(frozen=True)
class ModelOptions:
    """Which model to load, on which device, in which number type; None: the default."""

    model: str
    device: str | None = None
    dtype: str | None = None


def complain(message: str) -> None:
    """Print one sentence to standard error."""
    errors.print(f"promptplus: {one_line(message)}", markup=False)


def one_line(text: str) -> str:
    """A text without line breaks and other control characters, which file names may have."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(values: dict[str, Any], sentence: str, as_json: bool) -> None:
    """Print a command's result: a sentence, or with ``as_json`` one JSON object."""
    console.print(json.dumps(values) if as_json else sentence, markup=False)


@contextmanager
def spoken_warnings() -> "Iterator[None]":
    """While inside, print warnings as sentences to standard error, without Python's file and line, each once.

    Python forgets what it has warned of whenever some code changes the filters of warnings, as reading a picture does.
    """
    said: set[str] = set()

    def speak(message: Warning | str, *_args: Any, **_kwargs: Any) -> None:
        if str(message) not in said:
            said.add(str(message))
            complain(f"note: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = speak
        yield


def open_model(options: ModelOptions, concepts: "Sequence[Concept]" = (), loras: "Sequence[Lora]" = ()) -> "PPlus":
    """Load a pipeline, add LoRAs, P+ and concepts. Their files are read before, since that fails fastest."""
    from promptplus import PPlus, load
    from promptplus.lora import add_loras

    _quiet_libraries()
    with errors.status(f"loading {options.model} …"):
        pipe = load(options.model, device=options.device, dtype=options.dtype)
        add_loras(pipe, loras)
        pplus = PPlus(pipe)
    for concept in concepts:
        pplus.add(concept)
    return pplus


def read_concept(text: str, token: str | None = None) -> "Concept":
    """A concept from ``FILE``, or from ``FILE=<name>`` with another token; ``FILE``: as ``Concept.load`` takes it.

    ``token``: an option that names the token; it comes first.
    """
    from promptplus.concept import Concept

    match = re.fullmatch(r"(?P<file>.+)=(?P<token><[^<>]*>)", text)
    if match is None or Path(text).exists():
        return Concept.load(text, token)
    return Concept.load(match["file"], token or match["token"])


def check_folder_steps(model: str, steps: int | None) -> None:
    """Raise SettingsError where more denoising steps are given than the model's folder says it has timesteps."""
    from promptplus.generation import check_steps
    from promptplus.model_folder import ModelFolder

    folder = ModelFolder.read(model) if steps is not None else None
    if steps is not None and folder:
        check_steps(steps, folder.timesteps)


def _quiet_libraries() -> None:
    """Turn off the progress bars and notes of diffusers and transformers, which would mix with ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity(logging.CRITICAL)  # what fails is raised too
        library.disable_progress_bar()


def run_tasks_on_ray(
    address: str,
    options: ModelOptions,
    prompts: Sequence[str],
    per_prompt: int,
    folder: Path,
    tasks: "Sequence[Task]",
) -> None:
    """Run the tasks of an experiment grid on Ray workers. Paths become absolute, since workers start elsewhere.

    Args:
        address: ``local``, or the address of a cluster.
        prompts, per_prompt: the prompts that are scored, and the pictures of each.
        folder: of the grid's results; all workers must see it.
    """
    from dataclasses import replace
    from functools import partial

    from promptplus.evaluation.grid import open_grid
    from promptplus.evaluation.ray_workers import run_on_ray
    from promptplus.models import POCKET

    model, device = options.model, options.device
    model = str(Path(model).absolute()) if model != POCKET and Path(model).exists() else model
    device = "cuda" if device and device.startswith("cuda") else device  # each worker sees its own GPU alone
    make = partial(open_grid, model, device, options.dtype, prompts, per_prompt, folder.absolute())
    absolute = [replace(task, concept=task.concept.absolute()) for task in tasks]
    run_on_ray(make, absolute, address=None if address == "local" else address)
