"""The votes of a study, in one SQLite file. No vote is acknowledged before it is on the disk.

Write-ahead log with ``synchronous=FULL``: a commit returns after an fsync (sqlite.org/pragma.html#pragma_synchronous).
"""

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from promptplus.errors import StudyError, VoteError, first_line, short
from promptplus.user_study.design import Answer, StudyDesign, draw_order

LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # of a participant's code; without I, L, O, 0 and 1, which look alike
CODE_PART = 5  # letters; a code has two parts: 31**10 codes, or 49 bits
TOKEN_BYTES = 32  # of a session's token: nobody guesses it
WAIT_SECONDS = 30  # for another process that writes
SCHEMA = """
CREATE TABLE IF NOT EXISTS study (id TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS participants (id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
  token TEXT PRIMARY KEY, participant INTEGER NOT NULL REFERENCES participants (id)) STRICT;
CREATE TABLE IF NOT EXISTS assignments (
  participant INTEGER NOT NULL REFERENCES participants (id), position INTEGER NOT NULL, pair TEXT NOT NULL,
  PRIMARY KEY (participant, pair)) STRICT;
CREATE TABLE IF NOT EXISTS votes (
  id INTEGER PRIMARY KEY, participant INTEGER NOT NULL, pair TEXT NOT NULL, question TEXT NOT NULL,
  answer TEXT NOT NULL CHECK (answer IN ('A', 'B', 'tie')),
  UNIQUE (participant, pair, question), FOREIGN KEY (participant, pair) REFERENCES assignments (participant, pair)
) STRICT;
"""


@dataclass(frozen=True)
class Participant:
    """Someone who takes part: a number, and the code to go on with on another device."""

    number: int
    code: str


@dataclass(frozen=True)
class Step:
    """One question about one pair."""

    pair: str
    question: str


@dataclass(frozen=True)
class Progress:
    """All steps of a participant in their order, and the answers that there are."""

    steps: tuple[Step, ...]
    answers: Mapping[Step, Answer]

    @property
    def next(self) -> Step | None:
        """The first step without an answer; None: the participant has finished."""
        return next((step for step in self.steps if step not in self.answers), None)


@dataclass(frozen=True)
class Vote:
    """One answer."""

    participant: int
    pair: str
    question: str
    answer: Answer


class VoteStore:
    """The votes of one study. Any number of threads and processes may use the same file.

    Args:
        path: the SQLite file; it is made where there is none.
        design: the study. Raises StudyError where the file holds votes of another study, or is no such file.
    """

    def __init__(self, path: Path, design: StudyDesign) -> None:
        self.design = design
        self._lock = threading.Lock()
        self._pairs = {pair.id: pair for pair in design.pairs}
        with _reported(path):
            self._connection = sqlite3.connect(
                path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                    self._connection.execute(f"PRAGMA {setting}")
                self._connection.executescript(SCHEMA)
                with self._writing() as database:
                    _check_study(path, database, design, new=True)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def join(self) -> tuple[Participant, str]:
        """A new participant, with pairs to compare, and the token of the session.

        The pairs are those with the fewest votes, then with the fewest participants, in the order of the study.
        Raises VoteError where the study is closed.
        """
        parts = ("".join(secrets.choice(LETTERS) for _ in range(CODE_PART)) for _ in range(2))
        code = "-".join(parts)
        with self._writing() as database:
            if self._is_closed(database):
                raise VoteError("the study has all the participants it needs; thank you")
            number = database.execute("INSERT INTO participants (code) VALUES (?)", (code,)).lastrowid or 0
            pairs = draw_order(self.design, code, self._pairs_for_next(database))
            rows = [(number, position, pair) for position, pair in enumerate(pairs)]
            database.executemany("INSERT INTO assignments VALUES (?, ?, ?)", rows)
            return Participant(number, code), _new_session(database, number)

    def resume(self, code: str) -> str:
        """The token of a new session for a participant's code. Raises VoteError where there is no such code."""
        letters = "".join(letter for letter in code.upper() if letter in LETTERS)
        code = f"{letters[:CODE_PART]}-{letters[CODE_PART:]}"
        with self._writing() as database:
            found = database.execute("SELECT id FROM participants WHERE code = ?", (code,)).fetchone()
            if found is None:
                raise VoteError("no participant has this code; look whether it is typed as it was shown")
            return _new_session(database, found[0])

    def participant(self, token: str) -> Participant | None:
        """The participant of a session's token; None where there is no such session."""
        query = "SELECT p.id, p.code FROM sessions s JOIN participants p ON p.id = s.participant WHERE s.token = ?"
        with self._lock:
            found = self._connection.execute(query, (_hash(token),)).fetchone()
        return Participant(*found) if found else None

    def progress(self, participant: Participant) -> Progress:
        """A participant's steps and answers."""
        with self._lock:
            return self._progress(self._connection, participant.number)

    def vote(self, participant: Participant, step: Step, answer: Answer) -> bool:
        """Store a vote; when this returns, it is on the disk.

        Returns True, or False where the same vote was there already, as when an acknowledgement was lost on its way.
        Raises VoteError where another answer is there, or where this step was not shown to this participant.
        """
        with self._writing() as database:
            progress = self._progress(database, participant.number)
            if (first := progress.answers.get(step)) is not None:
                if first == answer:
                    return False
                raise VoteError("this question was answered before; the first answer stays")
            if step != progress.next:
                raise VoteError("this question was not shown to you; go on with the one that is")
            row = (participant.number, step.pair, step.question, answer)
            database.execute("INSERT INTO votes (participant, pair, question, answer) VALUES (?, ?, ?, ?)", row)
        return True

    @property
    def closed(self) -> bool:
        """Whether as many participants have finished as the study wants."""
        with self._lock:
            return self._is_closed(self._connection)

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        """A transaction that is committed at the end of the block, and undone where the block fails."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _progress(self, database: sqlite3.Connection, number: int) -> Progress:
        query = "SELECT pair FROM assignments WHERE participant = ? ORDER BY position"
        pairs = [self._pairs[pair] for (pair,) in database.execute(query, (number,))]
        steps = tuple(Step(pair.id, question) for pair in pairs for question in pair.questions)
        given = database.execute("SELECT pair, question, answer FROM votes WHERE participant = ?", (number,))
        return Progress(steps, {Step(pair, question): answer for pair, question, answer in given})

    def _is_closed(self, database: sqlite3.Connection) -> bool:
        assigned: dict[int, int] = {}
        for number, pair in database.execute("SELECT participant, pair FROM assignments"):
            assigned[number] = assigned.get(number, 0) + len(self._pairs[pair].questions)
        given = dict(database.execute("SELECT participant, count(*) FROM votes GROUP BY participant"))
        finished = sum(given.get(number, 0) == steps for number, steps in assigned.items())
        return finished >= self.design.rules.participants

    def _pairs_for_next(self, database: sqlite3.Connection) -> list[str]:
        votes = dict(database.execute("SELECT pair, count(*) FROM votes GROUP BY pair"))
        shown = dict(database.execute("SELECT pair, count(*) FROM assignments GROUP BY pair"))
        everyone = [pair.id for pair in self.design.pairs if pair.everyone]
        others = [pair.id for pair in self.design.pairs if not pair.everyone]
        others.sort(key=lambda pair: (votes.get(pair, 0), shown.get(pair, 0)))  # a stable sort
        return everyone + others[: self.design.rules.pairs_each]


def read_votes(path: Path, design: StudyDesign) -> list[Vote]:
    """All votes of a file in the order they came, also while a server writes to it. Raises StudyError."""
    if not path.is_file():
        raise StudyError(f"{path} is missing: nobody has voted; serve the study with promptplus study serve")
    with _reported(path), closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as database:
        _check_study(path, database, design, new=False)
        rows = database.execute("SELECT participant, pair, question, answer FROM votes ORDER BY id").fetchall()
    known = {(pair.id, question) for pair in design.pairs for question in pair.questions}
    if strange := [row for row in rows if row[1:3] not in known]:
        raise StudyError(f"{path} holds a vote for {short(strange[0][1:3])}, which the study does not ask")
    return [Vote(number, pair, question, cast(Answer, answer)) for number, pair, question, answer in rows]


def _check_study(path: Path, database: sqlite3.Connection, design: StudyDesign, new: bool) -> None:
    """Check that a file belongs to a study; with ``new``, an empty file becomes the study's."""
    found = database.execute("SELECT id FROM study").fetchone()
    if found is None and new:
        database.execute("INSERT INTO study VALUES (?)", (design.id,))
    elif found is None or found[0] != design.id:
        raise StudyError(f"{path} holds votes of another study; move it away, or give the study it belongs to")


def _new_session(database: sqlite3.Connection, number: int) -> str:
    """A new token for a participant. The file holds its hash alone, so that who reads the file cannot vote."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    database.execute("INSERT INTO sessions VALUES (?, ?)", (_hash(token), number))
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@contextmanager
def _reported(path: Path) -> Generator[None]:
    """Turn SQLite's errors about a file into a StudyError that names it."""
    try:
        yield
    except sqlite3.Error as error:
        raise StudyError(f"{path} cannot be used as a file of votes: {first_line(error)}; move it away") from error
