"""The files of a study: ``study.json``, which the server reads, and ``key.json``, which says whose pictures they are.

Nothing here is heavy to import, so that the server starts quickly.
"""

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from promptplus.errors import StudyError
from promptplus.text_files import parse_json, read_bytes, read_json

STUDY_JSON, KEY_JSON, VOTES, PICTURES = "study.json", "key.json", "votes.sqlite", "pictures"
Side = Literal["A", "B"]
Answer = Literal["A", "B", "tie"]
REMEDY = "build the study again with promptplus study build"

PictureId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
PairId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(_Record):
    """A question that is asked about pairs of pictures.

    Attributes:
        name: in files, such as ``subject``.
        text: as people read it.
        real: whether real pictures of the concept are shown beside the pair.
        prompt: whether the prompt is shown.
    """

    name: Name
    text: str
    real: bool
    prompt: bool


class Pair(_Record):
    """Two pictures to compare. Nothing in it says which methods made them, or whether it is a catch trial.

    Attributes:
        a, b: the pictures on the left and on the right.
        prompt: the text they were made from; "" where no question shows it.
        real: real pictures of the concept.
        questions: the names of the questions that are asked about it.
        everyone: whether every participant sees it.
    """

    id: PairId
    a: PictureId
    b: PictureId
    prompt: str
    real: tuple[PictureId, ...]
    questions: tuple[str, ...]
    everyone: bool


class Rules(_Record):
    """What is fixed before the first vote.

    Attributes:
        participants: the study closes when so many have answered everything; who has begun may finish.
        pairs_each: pairs that each participant compares, besides the catch trials.
        most_wrong: a participant with more wrong answers in catch trials is left out.

    The votes of participants who did not answer everything do not count.
    """

    participants: Annotated[int, Field(ge=1)]
    pairs_each: Annotated[int, Field(ge=1)]
    most_wrong: Annotated[int, Field(ge=0)]


class StudyDesign(_Record):
    """The file ``study.json``.

    Attributes:
        format: version of the file.
        title, consent: texts of the first page.
        size: width and height of every compared picture, in pixels.
        order_key: decides each participant's order, together with the participant's code.
        key_sha256: of ``key.json``, so that it cannot be changed after the votes.
        questions, pairs, rules: the study.
    """

    format: Literal[1] = 1
    title: str
    consent: str
    size: Annotated[int, Field(ge=1)]
    order_key: str
    key_sha256: str
    questions: tuple[Question, ...] = Field(min_length=1)
    pairs: tuple[Pair, ...] = Field(min_length=1)
    rules: Rules

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [question.name for question in self.questions]
        ids = [pair.id for pair in self.pairs]
        if len(set(names)) < len(names) or len(set(ids)) < len(ids):
            raise ValueError("a question or a pair is there twice")
        if any(not pair.questions or not set(pair.questions) <= set(names) for pair in self.pairs):
            raise ValueError("a pair has a question that the study has not")
        return self

    @property
    def id(self) -> str:
        """A hash of the whole study: votes of another study have another one."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def pictures(self) -> set[str]:
        """The ids of all pictures."""
        return {picture for pair in self.pairs for picture in (pair.a, pair.b, *pair.real)}

    def question(self, name: str) -> Question:
        """The question of a name, which the study has."""
        return next(question for question in self.questions if question.name == name)


class PairKey(_Record):
    """What ``key.json`` says about a pair.

    Attributes:
        concept, item: which pictures were compared, by the names of their folder and file.
        a, b: the methods of the two pictures; "" in a catch trial.
        right: the right answer of a catch trial; None: it is none.
    """

    concept: str
    item: str
    a: str
    b: str
    right: Side | None = None


class StudyKey(_Record):
    """The file ``key.json``. The server neither reads nor serves it."""

    format: Literal[1] = 1
    methods: tuple[str, ...]
    seed: int
    pairs: dict[str, PairKey]


def read_design(folder: Path) -> StudyDesign:
    """Read ``study.json``. Raises StudyError where it is none, or where a picture of it is missing."""
    design = read_json(folder / STUDY_JSON, StudyDesign, StudyError, "is no user study", REMEDY)
    if missing := [name for name in sorted(design.pictures) if not picture_path(folder, name).is_file()]:
        raise StudyError(f"{picture_path(folder, missing[0])} is missing; {REMEDY}")
    return design


def read_key(folder: Path, design: StudyDesign) -> StudyKey:
    """Read ``key.json``. Raises StudyError where it is none, or not the one that the study was built with."""
    path = folder / KEY_JSON
    data = read_bytes(path, StudyError)
    if hashlib.sha256(data).hexdigest() != design.key_sha256:
        raise StudyError(f"{path} is not the key that {folder / STUDY_JSON} was built with; give the unchanged file")
    key = parse_json(data, StudyKey, StudyError, f"{path} is no key of a user study", REMEDY)
    if set(key.pairs) != {pair.id for pair in design.pairs}:
        raise StudyError(f"{path} and {folder / STUDY_JSON} have other pairs; {REMEDY}")
    return key


def picture_path(folder: Path, picture_id: str) -> Path:
    """Where a study keeps a picture."""
    return folder / PICTURES / f"{picture_id}.png"


def draw_order(design: StudyDesign, code: str, pairs: Sequence[str]) -> list[str]:
    """Pairs in a participant's own order, which depends only on the study and the participant's code."""
    order = sorted(pairs)
    random.Random(f"{design.order_key}:{code}").shuffle(order)
    return order
