"""Tasks of an experiment grid, and the training cache: concepts and LoRAs that are trained once and then reused."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save

from promptplus.concept import Concept
from promptplus.datasets import FolderNote, load_pictures, read_note
from promptplus.denoisers import denoiser_of, models_of
from promptplus.errors import ConceptError, SettingsError, first_line
from promptplus.evaluation.store import ConceptStore
from promptplus.files import make_folder, write_atomically
from promptplus.fingerprints import settings_hash, tensor_hash, weights_hash
from promptplus.lora import add_loras
from promptplus.models import base_model, load, picture_size
from promptplus.pictures import to_pixels
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
"""The method without training: prompts hold the class word instead of a concept."""

_NOT_HASHED = {"steps", "seed", "micro_batch", "speed"}  # hashed separately, or without effect on what is trained
_SECONDS = "seconds"  # in the provenance of a stored concept: how long its training took


@dataclass(frozen=True)
class MethodSpec:
    """One method of a comparison, with its training options.

    Attributes:
        name: its name in tables; results do not depend on it.
        options: arguments of ``run_inversion``, or of ``dreambooth`` if ``options["method"]`` is one of its methods;
            without steps and seed.
        steps: the step counts to score it at; several are snapshots of one training.
        pictures: how many of the first pictures to train on; 0: all. It is always scored against all pictures.
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
        """Name and last step count."""
        return self.name, self.steps[-1]

    @property
    def is_dreambooth(self) -> bool:
        """Whether it trains the denoiser, in full or by a LoRA."""
        return str(self.options.get("method", "")).startswith("dreambooth")

    @property
    def is_lora(self) -> bool:
        """Whether it trains a LoRA."""
        return self.options.get("method") == LORA

    @property
    def settings(self) -> TrainingSettings:
        """The options, with defaults for all others; ``steps`` is a placeholder."""
        kind: type[TrainingSettings] = settings_kind(self.options) if self.is_dreambooth else InversionSettings
        given = {name: value for name, value in self.options.items() if name in kind.model_fields}
        return validated(kind, {"steps": 1, **given})

    @property
    def training_key(self) -> dict[str, Any]:
        """Everything that decides what it trains except concept, seed and steps; content of the hash in ids."""
        if self.name == WORD:
            return {}
        return {**self.options, **self.settings.model_dump(exclude=_NOT_HASHED), "first": self.pictures}


@dataclass(frozen=True)
class Task:
    """One training: a concept's folder, a method and a seed."""

    concept: Path
    method: MethodSpec
    seed: int

    def __str__(self) -> str:
        return f"{self.concept.name}, {self.method.name}, seed {self.seed}"

    @property
    def note(self) -> FolderNote:
        """The note in the concept's folder. Raises ConceptError if it has no class word."""
        note = read_note(self.concept)
        if (note.class_word or note.initializer) is None:
            raise ConceptError(f"{self.concept}/concept.json names no class_word; write it there")
        return note

    @property
    def class_word(self) -> str:
        """The plain word for the class of the concept."""
        return self.note.class_word or self.note.initializer or ""

    @property
    def subject(self) -> str:
        """The text that names the concept in DreamBooth's prompts: identifier and class word."""
        settings = self.method.settings
        assert isinstance(settings, DreamBoothSettings)
        return settings.subject(self.class_word)


class TrainingCache:
    """Trains what tasks need. Concepts and LoRAs are kept in ``folder/learned`` by ids that hash all they depend on.

    Args:
        source: the name that the pipeline was loaded by.

    Attributes:
        concepts: the store of trained concepts.
        runs: folder of trainings that are under way.
        model_key: hashes and names of the model; part of every id.
    """

    def __init__(self, pplus: PPlus, source: str, folder: Path) -> None:
        self.pplus, self.source = pplus, source
        self.concepts, self.runs = ConceptStore(folder / "learned"), make_folder(folder / "runs")
        pipe = pplus.pipe
        self.model_key: dict[str, str] = {name: weights_hash(model) for name, model in models_of(pipe).items()}
        self.model_key |= {"model": base_model(pipe), "dtype": str(denoiser_of(pipe).dtype)}

    def id(self, task: Task, steps: int | Sequence[int]) -> str:
        """The id of what a task has trained after so many steps; with all its step counts, the id of its training."""
        pixels = to_pixels(load_pictures(task.concept), picture_size(self.pplus.pipe))
        task_key = {"pictures": tensor_hash(pixels), "note": task.note.model_dump(), "seed": task.seed}
        return settings_hash({**task_key, **self.model_key, **task.method.training_key, "steps": steps})

    def run_folder(self, task: Task) -> Path:
        """The folder of a task's training while it is under way; it is made if there is none."""
        return make_folder(self.runs / self.id(task, task.method.steps))

    def forget_run(self, task: Task) -> None:
        """Remove the files of a training that is finished."""
        shutil.rmtree(self.run_folder(task) / "training", ignore_errors=True)

    def concept(self, task: Task, steps: int) -> Concept:
        """The concept that a task has trained after so many steps. It is trained now if it is not in the cache."""
        concept_id = self.id(task, steps)
        if concept_id not in self.concepts:
            note = task.note
            run = run_inversion(
                self.pplus,
                self._pictures(task),
                note.token,
                note.initializer,
                class_word=task.class_word,
                **self._options(task, steps),
            )
            provenance = {**run.concept.provenance, _SECONDS: run.seconds}
            replace(run.concept, provenance=provenance).save(self.concepts.path(concept_id))
        return self.concepts.load(concept_id)

    def lora(self, task: Task, steps: int) -> Path:
        """The LoRA that a task of ``dreambooth-lora`` has trained after so many steps; trained now if not cached."""
        path = self.concepts.path(self.id(task, steps))
        if not path.exists():
            run = self._dreambooth(task, steps)
            write_atomically(path, save(load_file(run.product), {_SECONDS: str(run.seconds)}))
        return path

    @contextmanager
    def pipeline_with_concept(self, task: Task, steps: int) -> Iterator[tuple[PPlus, str, float]]:
        """Yields a pipeline that generates a task's concept, the word for it in prompts, and the training's seconds.

        The concept is trained now if it is not in the cache. The pipeline is as before afterwards.
        """
        if task.method.name == WORD:
            yield self.pplus, task.class_word, 0.0
        elif task.method.is_lora:
            path = self.lora(task, steps)
            with self.adapted([path]) as tuned, safe_open(path, "pt") as file:
                yield tuned, task.subject, _seconds(file.metadata() or {}, path)
        elif task.method.is_dreambooth:
            run = self._dreambooth(task, steps)
            with PPlus(load(run.product, **self._load_options)) as tuned:
                yield tuned, task.subject, run.seconds
        else:
            concept = self.concept(task, steps)
            with self.pplus.added([concept]):
                yield self.pplus, concept.token, _seconds(concept.provenance, self.concepts.path(self.id(task, steps)))

    @contextmanager
    def adapted(self, loras: Sequence[Path]) -> Iterator[PPlus]:
        """Yields a separate pipeline with the sum of these LoRAs."""
        pipe = load(self.source, **self._load_options)
        add_loras(pipe, loras)
        with PPlus(pipe) as tuned:
            yield tuned

    @property
    def _load_options(self) -> dict[str, Any]:
        denoiser = denoiser_of(self.pplus.pipe)
        return {"device": str(denoiser.device), "dtype": denoiser.dtype}

    def _dreambooth(self, task: Task, steps: int) -> DreamBoothResult:
        return dreambooth(self.pplus, self._pictures(task), task.class_word, **self._options(task, steps))

    def _pictures(self, task: Task) -> list[Image.Image]:
        return load_pictures(task.concept)[: task.method.pictures or None]

    def _options(self, task: Task, steps: int) -> dict[str, Any]:
        options: dict[str, Any] = {"out": self.run_folder(task) / "training", "steps": steps, "seed": task.seed}
        return {**options, "preview_every": 0, "progress": False, "kind": task.note.kind, **task.method.options}


def _seconds(values: Mapping[str, Any], path: Path) -> float:
    """How long a kept training took. Raises ConceptError where its file does not say."""
    try:
        return float(values[_SECONDS])
    except (KeyError, TypeError, ValueError) as error:
        raise ConceptError(f"{path} does not say how many seconds it took ({first_line(error)}); remove it") from error
