"""Concepts × methods × seeds: a list of tasks that any number of processes share, and that survives their deaths.

A result's id is a hash of all it depends on; it is a small JSON file that is written whole. What exists is never
computed again, and two processes never work on one task: they hold locks, which die with them. What is learned has an
id of its own, so that other prompts or judges cost no training of rows.
"""

import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from promptplus.concept import Concept
from promptplus.errors import BusyError, LossError
from promptplus.evaluation.scoring import Scorer
from promptplus.evaluation.training_cache import Task, TrainingCache
from promptplus.files import make_folder, write_atomically
from promptplus.fingerprints import settings_hash, weights_hash
from promptplus.pictures import load_pictures, read_picture
from promptplus.pplus import PPlus
from promptplus.profiles import usual_sampling
from promptplus.report.picture_grid import GAP, tile
from promptplus.training.checkpoint import locked


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


class ExperimentGrid:
    """Runs tasks on a pipeline; all it writes is under ``folder``: scores, sheets of pictures, learned concepts.

    Args:
        source: the name the pipeline was loaded by.

    Attributes:
        failed: tasks whose training failed, which are left out.
    """

    def __init__(self, pplus: PPlus, source: str, scorer: Scorer, folder: Path) -> None:
        self.pplus, self.scorer, self.folder = pplus, scorer, folder
        self.learner, self.results = TrainingCache(pplus, source, folder), make_folder(folder / "results")
        self.failed: list[Task] = []
        judges = {"clip": weights_hash(scorer.clip.model), "dino": weights_hash(scorer.dino.model)}
        asked = {"prompts": scorer.prompts, "per_prompt": scorer.per_prompt, "says": scorer.says}
        self.asked = {**judges, **asked, "sampling": usual_sampling(pplus.pipe)}

    def run(self, tasks: Sequence[Task], *, progress: bool = True) -> list[Result]:
        """Do what is left; returns all results there are, in the tasks' order.

        Tasks that other processes hold are passed over at first and tried once more in the end. A task whose loss
        is no number is left out with a warning.
        """
        left = [task for task in tasks if None in self.find(task)]
        with tqdm(total=len(tasks), initial=len(tasks) - len(left), desc="tasks", disable=not progress) as bar:
            for again in (False, True):
                held = []
                for task in left:
                    bar.set_postfix_str(str(task))
                    if self._try(task):
                        bar.update()
                    else:
                        held.append(task)
                left = held if not again else []
        return [result for task in tasks for result in self.find(task) if result]

    def _try(self, task: Task) -> bool:
        try:
            return self.do(task)
        except LossError as error:
            warnings.warn(f"left out: {task}: {error}", stacklevel=3)
            self.failed.append(task)
            return True

    def find(self, task: Task) -> list[Result | None]:
        """A task's results, None where there is none yet."""
        paths = [self._path(task, steps) for steps in task.method.steps]
        return [_read(path, task) if path.exists() else None for path in paths]

    def do(self, task: Task) -> bool:
        """Train and score one task, from where it was stopped; False if another process holds it."""
        try:
            with locked(self.learner.folder(task)):
                for steps in sorted(task.method.steps):
                    if not self._path(task, steps).exists():
                        self._measure(task, steps)
                self.learner.forget_run(task)
        except BusyError:
            return False
        return True

    def concept(self, task: Task, steps: int) -> Concept:
        """What a finished task of ``xti`` or ``ti`` had learned after so many steps."""
        return self.learner.concept(task, steps)

    def pictures(self, task: Task, steps: int) -> list[Image.Image]:
        """The first picture of each prompt that a finished task was scored by; none where they were not kept."""
        path = self._path(task, steps).with_suffix(".png")
        if not path.exists():
            return []
        sheet, count = read_picture(path), len(self.scorer.prompts)
        side = (sheet.width - GAP * (count - 1)) // count
        return [sheet.crop((x, 0, x + side, side)) for x in range(0, sheet.width, side + GAP)]

    def _measure(self, task: Task, steps: int) -> None:
        with self.learner.taught(task, steps) as (pplus, word, seconds):
            real = load_pictures(task.concept)
            scores, pictures = self.scorer.of_model(pplus, word, task.class_word, real, task.seed)
        found = Result(task.concept.name, task.method.name, task.seed, steps, scores.subject, scores.text, seconds, {})
        path = self._path(task, steps)
        write_atomically(path.with_suffix(".png"), _sheet(pictures, self.scorer.per_prompt))
        record = {**asdict(found), "by_prompt": scores.by_prompt, "options": task.method.options}
        write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())

    def _path(self, task: Task, steps: int) -> Path:
        return self.results / f"{settings_hash({'learned': self.learner.id(task, steps), **self.asked})}.json"


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
