"""What is learned in a comparison: methods and tasks, and a store in which no rows are learned twice."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save

from promptplus.concept import Concept
from promptplus.errors import ConceptError, SettingsError
from promptplus.files import make_folder, write_atomically
from promptplus.fingerprints import settings_hash, tensor_hash, weights_hash
from promptplus.models import add_loras, base_model, load, picture_size
from promptplus.pictures import FolderNote, load_pictures, read_note, to_pixels
from promptplus.pplus import PPlus
from promptplus.training.dreambooth import DreamBoothResult, dreambooth
from promptplus.training.invert import run_inversion
from promptplus.training.settings import (
    LORA,
    DreamBoothSettings,
    InversionSettings,
    TrainingSettings,
    settings_kind,
    validated,
)

WORD = "word"
"""The method that learns nothing: the class word stands in the concept's place."""

_INDIFFERENT = {"steps", "seed", "micro_batch", "speed"}  # told apart, or change nothing that is learned
_SECONDS = "seconds"  # in a stored concept's provenance: what its training took


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

    def __post_init__(self) -> None:
        if len(self.steps) > 1 and self.options.get("schedule", "constant") != "constant":
            raise SettingsError(f"{self.name}: a falling rate depends on the last step, so give it one step count")

    @property
    def end(self) -> tuple[str, int]:
        """Its name and its last step count."""
        return self.name, self.steps[-1]

    @property
    def is_dreambooth(self) -> bool:
        """Whether it trains the denoiser."""
        return str(self.options.get("method", "")).startswith("dreambooth")

    @property
    def is_lora(self) -> bool:
        """Whether what it trains is a LoRA."""
        return self.options.get("method") == LORA

    @property
    def settings(self) -> TrainingSettings:
        """Its options, and the defaults of the others; their steps mean nothing."""
        kind: type[TrainingSettings] = settings_kind(self.options) if self.is_dreambooth else InversionSettings
        given = {name: value for name, value in self.options.items() if name in kind.model_fields}
        return validated(kind, {"steps": 1, **given})

    @property
    def learns(self) -> dict[str, Any]:
        """All that decides what it learns but concept, seed and steps: its options, and the defaults of the others."""
        if self.name == WORD:
            return {}
        return {**self.options, **self.settings.model_dump(exclude=_INDIFFERENT), "first": self.pictures}


@dataclass(frozen=True)
class Task:
    """One run: a concept's folder, a method, a seed."""

    concept: Path
    method: Method
    seed: int

    def __str__(self) -> str:
        return f"{self.concept.name}, {self.method.name}, seed {self.seed}"

    @property
    def note(self) -> FolderNote:
        """The concept's own, which must say what its class is called."""
        note = read_note(self.concept)
        if (note.class_word or note.initializer) is None:
            raise ConceptError(f"{self.concept}/concept.json names no class_word; write it there")
        return note

    @property
    def class_word(self) -> str:
        """The plain word for the concept's class."""
        return self.note.class_word or self.note.initializer or ""

    @property
    def subject(self) -> str:
        """What DreamBooth calls it in prompts."""
        settings = self.method.settings
        assert isinstance(settings, DreamBoothSettings)
        return settings.subject(self.class_word)


class TrainingCache:
    """Learns what tasks ask for. Rows and LoRAs are kept in ``folder/learned`` by a hash of all that they depend on.

    Args:
        source: the name the pipeline was loaded by.
    """

    def __init__(self, pplus: PPlus, source: str, folder: Path) -> None:
        self.pplus, self.source = pplus, source
        self.kept, self.runs = (make_folder(folder / name) for name in ("learned", "runs"))
        pipe = pplus.pipe
        parts = {"denoiser": pipe.unet, "text_encoder": pipe.text_encoder, "vae": pipe.vae}
        self.same: dict[str, Any] = {name: weights_hash(part) for name, part in parts.items()}
        self.same |= {"model": base_model(pipe), "dtype": str(pipe.unet.dtype)}

    def id(self, task: Task, steps: int | Sequence[int]) -> str:
        """Names what a task has learned after so many steps; with all of its step counts, its run."""
        pixels = to_pixels(load_pictures(task.concept), picture_size(self.pplus.pipe))
        told = {"pictures": tensor_hash(pixels), "note": task.note.model_dump(), "seed": task.seed, **self.same}
        return settings_hash({**told, **task.method.learns, "steps": steps})

    def folder(self, task: Task) -> Path:
        """Where a task's run lies while it is under way."""
        return make_folder(self.runs / self.id(task, task.method.steps))

    def forget_run(self, task: Task) -> None:
        """Remove what only a run that is under way needs."""
        shutil.rmtree(self.folder(task) / "training", ignore_errors=True)

    def concept(self, task: Task, steps: int) -> Concept:
        """The rows that a task had learned after so many steps; they are learned now if they never were."""
        path = self.kept / f"{self.id(task, steps)}.safetensors"
        if not path.exists():
            note = task.note
            run = run_inversion(
                self.pplus,
                self._pictures(task),
                note.token,
                note.initializer,
                class_word=task.class_word,
                **self._options(task, steps),
            )
            told = {**run.concept.provenance, _SECONDS: run.seconds}
            replace(run.concept, provenance=told).save(path)
        return Concept.load(path)

    def lora(self, task: Task, steps: int) -> Path:
        """The LoRA that a task of ``dreambooth-lora`` had learned after so many steps; learned now if it never was."""
        path = self.kept / f"{self.id(task, steps)}.safetensors"
        if not path.exists():
            run = self._dreambooth(task, steps)
            write_atomically(path, save(load_file(run.product), {_SECONDS: str(run.seconds)}))
        return path

    @contextmanager
    def taught(self, task: Task, steps: int) -> Iterator[tuple[PPlus, str, float]]:
        """While inside, a pipeline that knows the concept, and by which word; and the training's seconds."""
        if task.method.name == WORD:
            yield self.pplus, task.class_word, 0.0
        elif task.method.is_lora:
            path = self.lora(task, steps)
            with self.adapted([path]) as tuned, safe_open(path, "pt") as file:
                yield tuned, task.subject, float(file.metadata()[_SECONDS])
        elif task.method.is_dreambooth:
            run = self._dreambooth(task, steps)
            with PPlus(load(run.product, **self._here)) as tuned:
                yield tuned, task.subject, run.seconds
        else:
            concept = self.concept(task, steps)
            with self.pplus.added([concept]):
                yield self.pplus, concept.token, concept.provenance[_SECONDS]

    @contextmanager
    def adapted(self, loras: Sequence[Path]) -> Iterator[PPlus]:
        """While inside, a pipeline of its own with these LoRAs added up."""
        pipe = load(self.source, **self._here)
        add_loras(pipe, loras)
        with PPlus(pipe) as tuned:
            yield tuned

    @property
    def _here(self) -> dict[str, Any]:
        return {"device": str(self.pplus.pipe.unet.device), "dtype": self.pplus.pipe.unet.dtype}

    def _dreambooth(self, task: Task, steps: int) -> DreamBoothResult:
        return dreambooth(self.pplus, self._pictures(task), task.class_word, **self._options(task, steps))

    def _pictures(self, task: Task) -> list[Any]:
        return load_pictures(task.concept)[: task.method.pictures or None]

    def _options(self, task: Task, steps: int) -> dict[str, Any]:
        call: dict[str, Any] = {"out": self.folder(task) / "training", "steps": steps, "seed": task.seed}
        return {**call, "preview_every": 0, "progress": False, "kind": task.note.kind, **task.method.options}
