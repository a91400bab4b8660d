"""Concepts × methods × seeds: a list of tasks that any number of processes share, and that survives their deaths.

A result's id is a hash of all it depends on; it is a small JSON file that is written whole. What exists is never
computed again, and two processes never work on one task: they hold locks, which die with them.
"""

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.errors import BusyError, ConceptError
from promptplus.evaluation.scoring import Scorer
from promptplus.files import make_folder, write_atomically
from promptplus.generation import usual_sampling
from promptplus.inversion.checkpoint import locked
from promptplus.inversion.dreambooth import LORA_FILE, dreambooth
from promptplus.inversion.images import load_pictures, read_note, tile, to_pixels
from promptplus.inversion.run import InversionSettings, checked
from promptplus.inversion.seat import pixels_hash, weights_hash
from promptplus.inversion.subject import settings_kind
from promptplus.inversion.trainer import run_inversion
from promptplus.models import add_loras, base_model, load, picture_size

WORD = "word"
"""The method that learns nothing: the class word stands in the concept's place."""

_INDIFFERENT = {"steps", "seed", "micro_batch", "speed"}  # told apart, or change nothing that is learned


@dataclass(frozen=True)
class Method:
    """A row of a comparison.

    Attributes:
        name: what tables call it; results do not depend on it.
        options: for ``run_inversion``, or for ``dreambooth`` where ``options["method"]`` says so; no steps, no seed.
        steps: where it is scored; more than one are snapshots of one run.
        pictures: train on the first so many alone; 0: on all. It is scored against all.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    steps: tuple[int, ...] = (500,)
    pictures: int = 0

    @property
    def is_dreambooth(self) -> bool:
        """Whether it trains the denoiser."""
        return str(self.options.get("method", "")).startswith("dreambooth")

    @property
    def learns(self) -> dict[str, Any]:
        """All that decides what it learns but concept, seed and steps: its options, and the defaults of the others."""
        kind = settings_kind(self.options) if self.is_dreambooth else InversionSettings
        given = {name: value for name, value in self.options.items() if name in kind.model_fields}
        settings = checked(kind, {"steps": 1, **given}).model_dump(exclude=_INDIFFERENT)
        return {**self.options, **settings, "first": self.pictures}


@dataclass(frozen=True)
class Task:
    """One run: a concept's folder, a method, a seed."""

    concept: Path
    method: Method
    seed: int

    def __str__(self) -> str:
        return f"{self.concept.name}, {self.method.name}, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """A run's scores after some steps. ``seconds``: of training up to there; ``by_prompt``: (subject, text)."""

    concept: str
    method: str
    seed: int
    steps: int
    subject: float
    text: float
    seconds: float
    by_prompt: dict[str, tuple[float, float]]


class Matrix:
    """Runs tasks on a pipeline; all it writes is under ``folder``: scores, sheets of pictures, learned concepts.

    Args:
        source: the name the pipeline was loaded by.
    """

    def __init__(self, pplus: PPlus, source: str, scorer: Scorer, folder: Path) -> None:
        self.pplus, self.source, self.scorer, self.folder = pplus, source, scorer, folder
        self.results, self.runs = (make_folder(folder / name) for name in ("results", "runs"))
        pipe = pplus.pipe
        parts = {"clip": scorer.clip.model, "dino": scorer.dino.model, "denoiser": pipe.unet}
        parts |= {"text_encoder": pipe.text_encoder, "vae": pipe.vae}
        self.same: dict[str, Any] = {name: weights_hash(part) for name, part in parts.items()}
        self.same |= {"model": base_model(pipe), "dtype": str(pipe.unet.dtype), "sampling": usual_sampling(pipe)}
        self.asked = {"prompts": scorer.prompts, "per_prompt": scorer.per_prompt}

    def run(self, tasks: Sequence[Task], *, progress: bool = True) -> list[Result]:
        """Do what is left; returns all results there are, in the tasks' order.

        Tasks that other processes hold are passed over at first and tried once more in the end.
        """
        left = [task for task in tasks if None in self.find(task)]
        with tqdm(total=len(tasks), initial=len(tasks) - len(left), desc="tasks", disable=not progress) as bar:
            for again in (False, True):
                held = []
                for task in left:
                    bar.set_postfix_str(str(task))
                    if self.do(task):
                        bar.update()
                    else:
                        held.append(task)
                left = held if not again else []
        return [result for task in tasks for result in self.find(task) if result]

    def find(self, task: Task) -> list[Result | None]:
        """A task's results, None where there is none yet."""
        paths = [self._path(task, steps) for steps in task.method.steps]
        return [_read(path, task) if path.exists() else None for path in paths]

    def do(self, task: Task) -> bool:
        """Train and score one task, from where it was stopped; False if another process holds it."""
        folder = make_folder(self.runs / self._id(task))
        try:
            with locked(folder):
                for steps in sorted(task.method.steps):
                    if not self._path(task, steps).exists():
                        self._measure(task, steps, folder / "training")
                shutil.rmtree(folder / "training", ignore_errors=True)
        except BusyError:
            return False
        return True

    def _measure(self, task: Task, steps: int, training: Path) -> None:
        note = read_note(task.concept)
        class_word = note.class_word or note.initializer
        if class_word is None:
            raise ConceptError(f"{task.concept}/concept.json names no class_word; write it there")
        with self._learned(task, steps, training, class_word) as (pplus, word, seconds):
            scores, pictures = self.scorer.of_model(pplus, word, class_word, load_pictures(task.concept), task.seed)
        found = Result(task.concept.name, task.method.name, task.seed, steps, scores.subject, scores.text, seconds, {})
        path = self._path(task, steps)
        write_atomically(path.with_suffix(".png"), _sheet(pictures, self.scorer.per_prompt))
        record = {**asdict(found), "by_prompt": scores.by_prompt, "options": task.method.options}
        write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())

    def concept(self, task: Task, steps: int) -> Concept:
        """What a finished task of ``xti`` or ``ti`` had learned after so many steps."""
        return Concept.load(self._path(task, steps).with_suffix(".safetensors"))

    @contextmanager
    def _learned(self, task: Task, steps: int, training: Path, class_word: str) -> Iterator[tuple[PPlus, str, float]]:
        """While inside, a pipeline that knows the concept, and by which word; and the training's seconds."""
        note = read_note(task.concept)
        call: dict[str, Any] = {"out": training, "steps": steps, "seed": task.seed, "preview_every": 0}
        call |= {"progress": False, "kind": note.kind, **task.method.options}
        pictures = load_pictures(task.concept)[: task.method.pictures or None]
        if task.method.name == WORD:
            yield self.pplus, class_word, 0.0
        elif task.method.is_dreambooth:
            run = dreambooth(self.pplus, pictures, class_word, **call)
            lora = run.product.name == LORA_FILE
            here: dict[str, Any] = {"device": str(self.pplus.pipe.unet.device), "dtype": self.pplus.pipe.unet.dtype}
            pipe = load(self.source if lora else run.product, **here)
            add_loras(pipe, [run.product] if lora else [])
            with PPlus(pipe) as tuned:
                yield tuned, run.name, run.seconds
        else:
            learned = run_inversion(self.pplus, pictures, note.token, note.initializer, class_word=class_word, **call)
            self.pplus.add(learned.concept)
            learned.concept.save(self._path(task, steps).with_suffix(".safetensors"))
            try:
                yield self.pplus, learned.concept.token, learned.seconds
            finally:
                self.pplus.forget(learned.concept.token)

    def _id(self, task: Task, steps: int | None = None) -> str:
        pixels = to_pixels(load_pictures(task.concept), picture_size(self.pplus.pipe))
        told = {"pictures": pixels_hash(pixels), "note": read_note(task.concept).model_dump(), "seed": task.seed}
        learns: dict[str, Any] = {}
        if task.method.name != WORD:
            learns = {**task.method.learns, "steps": steps}
        return sha256(json.dumps({**told, **learns, **self.same, **self.asked}, sort_keys=True).encode()).hexdigest()[
            :24
        ]

    def _path(self, task: Task, steps: int) -> Path:
        return self.results / f"{self._id(task, steps)}.json"


def _read(path: Path, task: Task) -> Result:
    told = json.loads(path.read_text("utf-8"))
    del told["options"]
    return Result(**{**told, "concept": task.concept.name, "method": task.method.name})


def _sheet(pictures: Sequence[Image.Image], per_prompt: int) -> bytes:
    """A column for each prompt."""
    rows = [picture for row in range(per_prompt) for picture in pictures[row::per_prompt]]
    buffer = io.BytesIO()
    tile(rows, len(pictures) // per_prompt).save(buffer, "PNG")
    return buffer.getvalue()
