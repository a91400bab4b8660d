"""The concepts that the experiment grid has trained, for the studies that look at them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptplus.concept import Concept
from promptplus.evaluation.grid import ExperimentGrid, GridResult
from promptplus.evaluation.training_cache import Task
from promptplus.experiments.mix_judge import disjoint_pairs
from promptplus.reproduce.plan import MethodAt, Plan, with_identifier


class TrainedConcepts:
    """The concepts of a plan's first trainings, by name. Concepts whose training failed are left out.

    Args:
        concepts: folders of pictures.
        results: all results of the grid.
    """

    def __init__(
        self, grid: ExperimentGrid, plan: Plan, concepts: Sequence[Path], results: Sequence[GridResult]
    ) -> None:
        self.grid, self.plan, self.concepts = grid, plan, concepts
        self.finished = {(one.concept, one.method, one.steps) for one in results if one.seed == 0}

    def of(self, method: MethodAt) -> dict[str, Concept]:
        """The concepts that a method has learned after its steps."""
        return {name: self.grid.concept(task, method[1]) for name, task in self._tasks(method).items()}

    def ids(self, method: MethodAt) -> dict[str, str]:
        """The ids of the same concepts: hashes of all that they depend on. Nothing is trained for them."""
        return {name: self.grid.cache.id(task, method[1]) for name, task in self._tasks(method).items()}

    def _tasks(self, method: MethodAt) -> dict[str, Task]:
        """The first trainings of a method that have reached its steps."""
        (spec,) = (one for one in (*self.plan.methods, *self.plan.regularised) if one.name == method[0])
        return {
            folder.name: Task(folder, with_identifier(spec, number), 0)
            for number, folder in enumerate(self.concepts)
            if (folder.name, *method) in self.finished
        }

    @property
    def loras(self) -> dict[str, tuple[Path, str]]:
        """Each concept's LoRA file and what prompts call its subject; empty where the plan adds up no LoRAs."""
        lora = self.plan.lora
        if lora is None:
            return {}
        return {name: (self.grid.cache.lora(task, lora[1]), task.subject) for name, task in self._tasks(lora).items()}

    @property
    def mixed_methods(self) -> dict[str, MethodAt]:
        """The methods whose concepts are mixed, by their names in reports; plain XTI is the first."""
        return {"XTI": self.plan.ours, **{one.name: one.end for one in self.plan.regularised}}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Disjoint pairs of concepts that all mixed methods, TI and the LoRAs have learned."""
        loras = [self.plan.lora] if self.plan.lora else []
        return self._pairs(*self.mixed_methods.values(), self.plan.rival, *loras)

    @property
    def plain_pairs(self) -> list[tuple[str, str]]:
        """Disjoint pairs of concepts that plain XTI and TI have learned."""
        return self._pairs(self.plan.ours, self.plan.rival)

    def _pairs(self, *methods: MethodAt) -> list[tuple[str, str]]:
        learned = [self._tasks(method) for method in methods]
        complete = [folder.name for folder in self.concepts if all(folder.name in names for names in learned)]
        return disjoint_pairs(complete)[: self.plan.mixes]

    @property
    def rows_key(self) -> dict[str, Any]:
        """All that the study of token density depends on, for its hash."""
        return {"rows": [self.ids(self.plan.ours), self.ids(self.plan.rival)], "left_out": self.left_out}

    @property
    def key(self) -> dict[str, Any]:
        """All that the studies of pairs depend on, for their hashes."""
        others = {name: self.ids(method) for name, method in self.mixed_methods.items()}
        if self.plan.lora:
            others["added"] = self.ids(self.plan.lora)
        return {**self.rows_key, **others, "pairs": [self.pairs, self.plain_pairs], "seeds": self.plan.mix_seeds}

    @property
    def left_out(self) -> str:
        """A sentence about trainings that failed; empty where none did."""
        failed = "; ".join(map(str, self.grid.failed))
        return f"Left out, because the training failed: {failed}." if failed else ""
