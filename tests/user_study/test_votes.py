"""The votes' file: one vote per participant, pair and question; what is refused stays out."""

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from promptplus.errors import StudyError, VoteError
from promptplus.user_study.design import StudyDesign
from promptplus.user_study.votes import Step, VoteStore, read_votes
from tests.user_study.studies import make_study


@pytest.fixture
def design(tmp_path: Path) -> StudyDesign:
    return make_study(tmp_path / "study", participants=2)[0]


@pytest.fixture
def store(tmp_path: Path, design: StudyDesign) -> VoteStore:
    return VoteStore(tmp_path / "votes.sqlite", design)


def finish(store: VoteStore) -> int:
    participant, _ = store.join()
    while step := store.progress(participant).next:
        store.vote(participant, step, "A")
    return participant.number


def test_a_vote_is_there_once_and_the_first_stays(tmp_path: Path, store: VoteStore, design: StudyDesign) -> None:
    participant, _ = store.join()
    step = store.progress(participant).next
    assert step
    assert store.vote(participant, step, "A")
    assert not store.vote(participant, step, "A")  # its acknowledgement was lost
    with pytest.raises(VoteError, match="first answer stays"):
        store.vote(participant, step, "B")
    assert [(v.pair, v.question, v.answer) for v in read_votes(tmp_path / "votes.sqlite", design)] == [
        (step.pair, step.question, "A")
    ]


def test_steps_that_were_not_shown_are_refused(tmp_path: Path, store: VoteStore, design: StudyDesign) -> None:
    participant, _ = store.join()
    first, second, *_ = store.progress(participant).steps
    strange = [second, Step("0" * 16, "subject"), Step(first.pair, "nothing")]
    for step in strange:
        with pytest.raises(VoteError, match="was not shown to you"):
            store.vote(participant, step, "A")
    assert read_votes(tmp_path / "votes.sqlite", design) == []


def test_the_file_itself_refuses_a_second_vote_and_an_unknown_answer(store: VoteStore, tmp_path: Path) -> None:
    participant, _ = store.join()
    step = store.progress(participant).next
    assert step
    store.vote(participant, step, "tie")
    store.close()
    with sqlite3.connect(tmp_path / "votes.sqlite") as database:
        database.execute("PRAGMA foreign_keys=ON")
        insert = "INSERT INTO votes (participant, pair, question, answer) VALUES (?, ?, ?, ?)"
        for row in (
            (participant.number, step.pair, step.question, "A"),
            (participant.number, step.pair, "other", "C"),
            (participant.number + 1, step.pair, step.question, "A"),
        ):
            with pytest.raises(sqlite3.IntegrityError):
                database.execute(insert, row)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_every_commit_waits_for_the_disk(store: VoteStore) -> None:
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_vote_that_fails_is_none(store: VoteStore, tmp_path: Path, design: StudyDesign) -> None:
    participant, _ = store.join()
    step = store.progress(participant).next
    assert step
    store._connection.execute("CREATE TEMP TRIGGER stop BEFORE INSERT ON votes BEGIN SELECT RAISE(FAIL, 'full'); END")
    with pytest.raises(sqlite3.Error, match="full"):
        store.vote(participant, step, "A")
    store._connection.execute("DROP TRIGGER stop")
    assert read_votes(tmp_path / "votes.sqlite", design) == []
    assert store.vote(participant, step, "A")


def test_who_goes_on_with_the_code_is_the_same_participant(store: VoteStore) -> None:
    participant, token = store.join()
    assert store.participant(token) == participant
    again = store.resume(participant.code.lower().replace("-", " "))
    assert again != token
    assert store.participant(again) == participant
    assert store.participant("forged") is None
    with pytest.raises(VoteError, match="no participant has this code"):
        store.resume("AAAAA-AAAAA")


def test_the_study_closes_and_who_has_begun_may_finish(store: VoteStore) -> None:
    late, _ = store.join()
    finish(store)
    assert not store.closed
    finish(store)
    assert store.closed
    with pytest.raises(VoteError, match="all the participants it needs"):
        store.join()
    step = store.progress(late).next
    assert step
    assert store.vote(late, step, "A")


def test_pairs_with_the_fewest_votes_are_given_out(tmp_path: Path) -> None:
    design, key = make_study(tmp_path / "study", concepts=3, count=4, pairs_each=4, participants=9)
    store = VoteStore(tmp_path / "votes.sqlite", design)
    for _ in range(9):
        finish(store)
    votes = read_votes(tmp_path / "votes.sqlite", design)
    by_pair = Counter(vote.pair for vote in votes if not key.pairs[vote.pair].right)
    assert set(by_pair.values()) == {9 * 4 // 12 * 2}  # every pair three times, with two questions
    by_concept = Counter(key.pairs[vote.pair].concept for vote in votes if not key.pairs[vote.pair].right)
    assert len(set(by_concept.values())) == 1


def test_whoever_does_not_vote_leaves_the_pairs_to_others(tmp_path: Path) -> None:
    design, _ = make_study(tmp_path / "study", concepts=2, count=4, pairs_each=4)
    store = VoteStore(tmp_path / "votes.sqlite", design)
    assigned = []
    for number in range(3):
        participant, _ = store.join()
        everyone = {pair.id for pair in design.pairs if pair.everyone}
        assigned.append({step.pair for step in store.progress(participant).steps} - everyone)
        while number and (step := store.progress(participant).next):
            store.vote(participant, step, "A")
    assert not assigned[0] & assigned[1]
    assert assigned[2] == assigned[0]


def test_a_restart_goes_on_where_it_was(tmp_path: Path, store: VoteStore, design: StudyDesign) -> None:
    participant, token = store.join()
    step = store.progress(participant).next
    assert step
    store.vote(participant, step, "B")
    before = store.progress(participant)
    store.close()
    again = VoteStore(tmp_path / "votes.sqlite", design)
    assert again.participant(token) == participant
    assert again.progress(participant) == before


def test_votes_of_another_study_and_other_files_are_refused(tmp_path: Path, store: VoteStore) -> None:
    other, _ = make_study(tmp_path / "other", seed=1)
    for read in (VoteStore, read_votes):
        with pytest.raises(StudyError, match="votes of another study"):
            read(tmp_path / "votes.sqlite", other)
        (tmp_path / "text").write_text("no database, but a text that is long enough to be looked at")
        with pytest.raises(StudyError, match="cannot be used as a file of votes"):
            read(tmp_path / "text", other)
    with pytest.raises(StudyError, match="nobody has voted"):
        read_votes(tmp_path / "nothing", other)


def test_many_threads_and_two_connections_lose_nothing(tmp_path: Path, store: VoteStore, design: StudyDesign) -> None:
    stores = [store, VoteStore(tmp_path / "votes.sqlite", design)]
    participant, _ = store.join()
    step = store.progress(participant).next
    assert step
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda n: stores[n % 2].vote(participant, step, "A"), range(32)))
    assert sum(stored) == 1
    assert len(read_votes(tmp_path / "votes.sqlite", design)) == 1
