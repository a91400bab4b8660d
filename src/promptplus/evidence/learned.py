"""What a matrix has learned, for the studies that look at it; concepts whose training failed are left out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from promptplus.analysis.mixing import disjoint
from promptplus.concept import Concept
from promptplus.evaluation.matrix import Matrix, Result
from promptplus.evaluation.tasks import Task
from promptplus.evidence.claims import At
from promptplus.evidence.sizes import Size


class Learned:
    """The rows of a size's first trainings, by concept's name.

    Args:
        results: all that the matrix has.
    """

    def __init__(self, matrix: Matrix, size: Size, concepts: Sequence[Path], results: Sequence[Result]) -> None:
        self.matrix, self.size, self.concepts = matrix, size, concepts
        self.finished = {(one.concept, one.method, one.steps) for one in results if one.seed == 0}

    def of(self, which: At) -> dict[str, Concept]:
        """What a method had learned after so many steps, of each concept whose training got there."""
        (method,) = (one for one in (*self.size.methods, *self.size.regularised) if one.name == which[0])
        there = [folder for folder in self.concepts if (folder.name, *which) in self.finished]
        return {folder.name: self.matrix.concept(Task(folder, method, 0), which[1]) for folder in there}

    @property
    def mixed(self) -> dict[str, dict[str, Concept]]:
        """What is mixed, by what reports call it; the first is XTI as it is."""
        others = {method.name: self.of((method.name, method.steps[-1])) for method in self.size.regularised}
        return {"XTI": self.of(self.size.ours), **others}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Concepts that every way to train has learned, two and two, none of them twice."""
        return self._pairs([*self.mixed.values(), self.of(self.size.rival)])

    @property
    def plain_pairs(self) -> list[tuple[str, str]]:
        """Concepts that both XTI and TI, as they are, have learned, two and two."""
        return self._pairs([self.of(self.size.ours), self.of(self.size.rival)])

    def _pairs(self, ways: Sequence[Mapping[str, Concept]]) -> list[tuple[str, str]]:
        complete = [folder.name for folder in self.concepts if all(folder.name in way for way in ways)]
        return disjoint(complete)[: self.size.mixes]

    @property
    def key(self) -> dict[str, Any]:
        """All that pictures of pairs depend on."""
        ways = {**self.mixed, "rival": self.of(self.size.rival)}
        rows = {way: {n: (one.sha256, one.class_word) for n, one in found.items()} for way, found in ways.items()}
        pairs = [self.pairs, self.plain_pairs]
        return {"rows": rows, "pairs": pairs, "seeds": self.size.mix_seeds, "left_out": self.left_out}

    @property
    def left_out(self) -> str:
        """A sentence about trainings that failed; empty where none did."""
        failed = "; ".join(map(str, self.matrix.failed))
        return f"Left out, because the training failed: {failed}." if failed else ""
