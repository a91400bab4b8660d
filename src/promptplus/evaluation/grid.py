"""Experiment grid: concepts × methods × seeds, shared by any number of processes and safe against kills.

A task's result is named by a hash of everything it depends on. Results are written atomically, and one that exists is
never computed again. A process locks the task it works on; the lock ends with the process. Trained concepts have ids
of their own, so other prompts or judges need no new training.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from promptplus.concept import Concept
from promptplus.datasets import load_pictures
from promptplus.errors import BusyError, LossError, OutputError, warn
from promptplus.evaluation.scoring import Scorer
from promptplus.evaluation.store import RecordStore
from promptplus.evaluation.training_cache import Task, TrainingCache
from promptplus.files import write_atomically
from promptplus.fingerprints import settings_hash, weights_hash
from promptplus.kept_pictures import keeping
from promptplus.models import load
from promptplus.pictures import read_picture
from promptplus.pplus import PPlus
from promptplus.profiles import default_sampling
from promptplus.report.picture_grid import GAP, tile
from promptplus.text_files import as_json
from promptplus.training.checkpoint import locked


@dataclass(frozen=True)
class GridResult:
    """The scores of one training after some steps.

    Attributes:
        concept: name of the concept's folder.
        method: name of the method.
        subject: subject similarity, mean over prompts; ``text``: text similarity, the same.
        seconds: duration of the training up to there.
        by_prompt: (subject similarity, text similarity) of each prompt.
    """

    concept: str
    method: str
    seed: int
    steps: int
    subject: float
    text: float
    seconds: float
    by_prompt: dict[str, tuple[float, float]]


class ExperimentGrid:
    """Trains and scores tasks with one pipeline. Everything it writes is under ``folder``.

    ``folder/results`` holds scores and sheets of the scored pictures, ``folder/learned`` trained concepts and LoRAs,
    ``folder/runs`` trainings that are under way. ``pack`` moves scores and concepts into one file each.

    Args:
        source: the name that the pipeline was loaded by.
        scorer: generates and scores the pictures.

    Attributes:
        cache: the training cache.
        failed: tasks whose training failed; they are left out.
        scoring_key: what a result depends on besides the training: judges, prompts and sampling.
    """

    def __init__(self, pplus: PPlus, source: str, scorer: Scorer, folder: Path) -> None:
        self.pplus, self.scorer, self.folder = pplus, scorer, folder
        self.cache, self.results = TrainingCache(pplus, source, folder), RecordStore(folder / "results")
        self.failed: list[Task] = []
        judges = {"clip": weights_hash(scorer.clip.model), "dino": weights_hash(scorer.dino.model)}
        # "says" is the reference noun; the hash key keeps its former name, so that earlier results are reused
        texts = {"prompts": scorer.prompts, "per_prompt": scorer.per_prompt, "says": scorer.reference_noun}
        self.scoring_key: dict[str, Any] = {**judges, **texts, "sampling": default_sampling(pplus.pipe)}

    def run(self, tasks: Sequence[Task], *, progress: bool = True) -> list[GridResult]:
        """Do all tasks that have no results yet; returns all results there are, in the order of the tasks.

        Tasks that other processes work on are skipped, and tried once more at the end. A task whose loss is not finite
        is left out with a warning.
        """
        left = [task for task in tasks if None in self.find(task)]
        with tqdm(total=len(tasks), initial=len(tasks) - len(left), desc="tasks", disable=not progress) as bar:
            for last_round in (False, True):
                held = []
                for task in left:
                    bar.set_postfix_str(str(task))
                    if self._try(task):
                        bar.update()
                    else:
                        held.append(task)
                left = held if not last_round else []
        return [result for task in tasks for result in self.find(task) if result]

    def _try(self, task: Task) -> bool:
        try:
            return self.do(task)
        except LossError as error:
            warn(f"left out: {task}: {error}")
            self.failed.append(task)
            return True

    def find(self, task: Task) -> list[GridResult | None]:
        """The results of a task, one for each of its step counts; None where there is none yet."""
        return [self._result(task, self.id(task, steps)) for steps in task.method.steps]

    def _result(self, task: Task, result_id: str) -> GridResult | None:
        """A stored record as the result of a task; the names of concept and method are the task's."""
        if (record := self.results.entry(result_id)) is None:
            return None
        fault, remedy = f"{self.results.path(result_id)} is no result", "remove it to measure it again"
        named = {**record, "concept": task.concept.name, "method": task.method.name}
        return as_json(named, GridResult, OutputError, fault, remedy)

    def do(self, task: Task) -> bool:
        """Train and score one task, or continue it; returns False if another process holds it."""
        try:
            with locked(self.cache.run_folder(task)):
                for steps in sorted(task.method.steps):
                    if self.id(task, steps) not in self.results:
                        self._measure(task, steps)
                self.cache.forget_run(task)
        except BusyError:
            return False
        return True

    def pack(self) -> None:
        """Pack results and trained concepts: call it when the work is done."""
        self.results.pack()
        self.cache.concepts.pack()

    def concept(self, task: Task, steps: int) -> Concept:
        """The concept that a finished task of ``xti`` or ``ti`` had trained after so many steps."""
        return self.cache.concept(task, steps)

    def pictures(self, task: Task, steps: int) -> list[Image.Image]:
        """The first scored picture of each prompt of a finished task; empty where the pictures were not kept."""
        path = self._sheet_path(task, steps)
        if not path.exists():
            return []
        sheet, count = read_picture(path), len(self.scorer.prompts)
        side = (sheet.width - GAP * (count - 1)) // count
        return [sheet.crop((x, 0, x + side, side)) for x in range(0, sheet.width, side + GAP)]

    def id(self, task: Task, steps: int) -> str:
        """The id of a task's result after so many steps: a hash of everything it depends on."""
        return settings_hash({"learned": self.cache.id(task, steps), **self.scoring_key})

    def _measure(self, task: Task, steps: int) -> None:
        with self.cache.pipeline_with_concept(task, steps) as (pplus, word, seconds):
            real = load_pictures(task.concept)
            with keeping(self.cache.run_folder(task)):
                scores, pictures = self.scorer.score_model(pplus, word, task.class_word, real, task.seed)
        result = GridResult(
            concept=task.concept.name,
            method=task.method.name,
            seed=task.seed,
            steps=steps,
            subject=scores.subject,
            text=scores.text,
            seconds=seconds,
            by_prompt=scores.by_prompt,
        )
        write_atomically(self._sheet_path(task, steps), _sheet(pictures, self.scorer.per_prompt))
        self.results.write(self.id(task, steps), {**asdict(result), "options": task.method.options})

    def _sheet_path(self, task: Task, steps: int) -> Path:
        return self.results.folder / f"{self.id(task, steps)}.png"


def open_grid(
    model: str, device: str | None, dtype: str | None, prompts: Sequence[str], per_prompt: int, folder: Path
) -> ExperimentGrid:
    """Load a model and its judges, and open a folder of results with them; workers of their own begin so."""
    pplus = PPlus(load(model, device=device, dtype=dtype))
    return ExperimentGrid(pplus, model, Scorer.for_model(pplus.pipe, prompts, per_prompt), folder)


def _sheet(pictures: Sequence[Image.Image], per_prompt: int) -> bytes:
    """One PNG of all scored pictures: one column per prompt."""
    rows = [picture for row in range(per_prompt) for picture in pictures[row::per_prompt]]
    buffer = io.BytesIO()
    tile(rows, len(pictures) // per_prompt).save(buffer, "PNG")
    return buffer.getvalue()
