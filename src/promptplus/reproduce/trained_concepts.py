"""What a grid has learned, for the studies that look at it; concepts whose training failed are left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptplus.concept import Concept
from promptplus.evaluation.grid import ExperimentGrid, GridResult
from promptplus.evaluation.training_cache import Task
from promptplus.experiments.mix_judge import disjoint_pairs
from promptplus.reproduce.claims import At
from promptplus.reproduce.compared_methods import named_apart
from promptplus.reproduce.plan import Size


class TrainedConcepts:
    """The rows of a size's first trainings, by concept's name.

    Args:
        results: all that the grid has.
    """

    def __init__(
        self, grid: ExperimentGrid, size: Size, concepts: Sequence[Path], results: Sequence[GridResult]
    ) -> None:
        self.grid, self.size, self.concepts = grid, size, concepts
        self.finished = {(one.concept, one.method, one.steps) for one in results if one.seed == 0}

    def of(self, which: At) -> dict[str, Concept]:
        """What a method had learned after so many steps, of each concept whose training got there."""
        return {name: self.grid.concept(task, which[1]) for name, task in self._tasks(which).items()}

    def ids(self, which: At) -> dict[str, str]:
        """The names of the same: hashes of all that decides it, so that nothing needs to be learned again for them."""
        return {name: self.grid.cache.id(task, which[1]) for name, task in self._tasks(which).items()}

    def _tasks(self, which: At) -> dict[str, Task]:
        """The trainings of a method that got to so many steps."""
        (method,) = (one for one in (*self.size.methods, *self.size.regularised) if one.name == which[0])
        return {
            folder.name: Task(folder, named_apart(method, number), 0)
            for number, folder in enumerate(self.concepts)
            if (folder.name, *which) in self.finished
        }

    @property
    def loras(self) -> dict[str, tuple[Path, str]]:
        """The files of the LoRAs that are added up, and what each one's subject is called; none if none are wanted."""
        if self.size.lora is None:
            return {}
        found = self._tasks(self.size.lora)
        return {name: (self.grid.cache.lora(task, self.size.lora[1]), task.subject) for name, task in found.items()}

    @property
    def ways(self) -> dict[str, At]:
        """What is mixed, by what reports call it; the first is XTI as it is."""
        return {"XTI": self.size.ours, **{one.name: one.end for one in self.size.regularised}}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Concepts that every way to train has learned, two and two, none of them twice."""
        loras = [self.size.lora] if self.size.lora else []
        return self._pairs(*self.ways.values(), self.size.rival, *loras)

    @property
    def plain_pairs(self) -> list[tuple[str, str]]:
        """Concepts that both XTI and TI, as they are, have learned, two and two."""
        return self._pairs(self.size.ours, self.size.rival)

    def _pairs(self, *ways: At) -> list[tuple[str, str]]:
        found = [self._tasks(way) for way in ways]
        complete = [folder.name for folder in self.concepts if all(folder.name in way for way in found)]
        return disjoint_pairs(complete)[: self.size.mixes]

    @property
    def rows_key(self) -> dict[str, Any]:
        """All that a look at the rows of XTI and TI depends on."""
        return {"rows": [self.ids(self.size.ours), self.ids(self.size.rival)], "left_out": self.left_out}

    @property
    def key(self) -> dict[str, Any]:
        """All that pictures of pairs depend on."""
        others = {way: self.ids(at) for way, at in self.ways.items()}
        if self.size.lora:
            others["added"] = self.ids(self.size.lora)
        return {**self.rows_key, **others, "pairs": [self.pairs, self.plain_pairs], "seeds": self.size.mix_seeds}

    @property
    def left_out(self) -> str:
        """A sentence about trainings that failed; empty where none did."""
        failed = "; ".join(map(str, self.grid.failed))
        return f"Left out, because the training failed: {failed}." if failed else ""
