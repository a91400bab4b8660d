"""The concept files that the studio offers: those of training runs, mixes, and the pocket's own."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptplus.concept import Concept
from promptplus.errors import ConceptError, PromptPlusError
from promptplus.placeholders import normal
from promptplus.pocket import LEARNED
from promptplus.pplus import PPlus
from promptplus.training.token_rows import CONCEPT

_ENDINGS = (".safetensors", ".pt", ".bin")  # of our concepts, and of other tools'
_APPROXIMATION = "learned_embeds"  # beside a concept, it is its mean


@dataclass(frozen=True)
class ConceptFile:
    """A concept and the file it lies in.

    Attributes:
        label: the token; with the file where several have the same token.
    """

    concept: Concept
    path: Path
    label: str

    @property
    def token(self) -> str:
        return self.concept.token


class ConceptFiles:
    """Finds the concept files that fit a pipeline, the newest first. Files are read again when they have changed.

    Args:
        pplus: the pipeline.
        folders: of training runs, which hold a ``concept.safetensors`` each, or of concept files.
        bundled: whether the pocket's own concepts belong to them.
    """

    def __init__(self, pplus: PPlus, folders: Sequence[Path], bundled: bool) -> None:
        self._pplus, self._folders = pplus, (*folders, *([LEARNED] if bundled else []))
        self._read: dict[tuple[Path, int], Concept | None] = {}

    def all(self) -> list[ConceptFile]:
        """All that fit the pipeline. Damaged files and those of other models are left out."""
        paths = sorted(self._paths(), key=lambda path: -path.stat().st_mtime)
        found = [(path, concept) for path in paths if (concept := self._concept(path))]
        tokens = [concept.token for _, concept in found]
        return [
            ConceptFile(
                concept, path, concept.token if tokens.count(concept.token) == 1 else f"{concept.token} · {shown(path)}"
            )
            for path, concept in found
        ]

    def labelled(self, label: str) -> ConceptFile:
        """The file of a label. Raises ConceptError where it is gone."""
        for one in self.all():
            if label in (one.label, one.token):
                return one
        raise ConceptError(f"the concept {label} is gone; choose another")

    def of_texts(self, texts: Iterable[str], chosen: Sequence[str] = ()) -> list[ConceptFile]:
        """The files of the tokens in texts: the chosen labels first, else each token's newest file.

        Raises ConceptError where two chosen labels have one token.
        """
        picked = [self.labelled(label) for label in chosen]
        tokens = [one.token for one in picked]
        if twice := [token for token in tokens if tokens.count(token) > 1]:
            raise ConceptError(f"two concepts with the token {twice[0]} are chosen; choose one of them")
        used = [normal(text) for text in texts]
        newest: dict[str, ConceptFile] = {}
        for one in (*picked, *self.all()):
            if any(one.token in text for text in used):
                newest.setdefault(one.token, one)
        return list(newest.values())

    def _paths(self) -> Iterable[Path]:
        for folder in self._folders:
            yield from folder.glob(f"*/{CONCEPT}")
            for path in (path for ending in _ENDINGS for path in folder.glob(f"*{ending}")):
                if path.stem != _APPROXIMATION or not (folder / CONCEPT).exists():
                    yield path

    def _concept(self, path: Path) -> Concept | None:
        """The concept in a file; None where it is damaged or another model's."""
        key = path, path.stat().st_mtime_ns
        if key not in self._read:
            self._read[key] = self._fitting(path)
        return self._read[key]

    def _fitting(self, path: Path) -> Concept | None:
        try:
            concept = Concept.load(path)
            concept.check_fits(self._pplus.layers, self._pplus.widths)
        except PromptPlusError:
            return None
        return concept


def shown(path: Path) -> str:
    """A path for people and commands: relative to the folder the studio was started in, where it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
