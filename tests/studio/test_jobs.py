"""The queue of jobs: turns, progress, cancelling, errors as sentences."""

import threading
import time
import warnings
from collections.abc import Iterator

import pytest
import torch

from promptplus.errors import SettingsError, warn
from promptplus.studio.jobs import ENDED, Cancelled, Job, Jobs, denoiser_calls


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.close(10)


def ended(job: Job) -> Job:
    """The job, after it has ended."""
    limit = time.monotonic() + 20
    while not job.ended:
        assert time.monotonic() < limit, job
        time.sleep(0.005)
    return job


def test_a_job_gives_its_result(jobs: Jobs) -> None:
    job = jobs.submit("one", lambda job: 3)
    assert ended(job).state == "done"
    assert job.result == 3
    assert job.error == ""
    assert jobs.get(job.id) is job
    assert jobs.get("unknown") is None
    assert jobs.get(None) is None


def test_a_second_job_waits_for_the_first(jobs: Jobs) -> None:
    go = threading.Event()
    first = jobs.submit("first", lambda job: go.wait(20))
    second = jobs.submit("second", lambda job: 2)
    third = jobs.submit("third", lambda job: 3)
    while first.state == "waiting":
        time.sleep(0.005)
    assert (first.state, second.state, third.state) == ("running", "waiting", "waiting")
    assert [one.title for one in jobs.before(third)] == ["first", "second"]
    second.cancel()
    assert second.state == "cancelled"
    assert [one.title for one in jobs.before(third)] == ["first"]
    go.set()
    assert ended(third).result == 3
    assert second.result is None


def test_a_running_job_ends_at_its_next_sign_of_life(jobs: Jobs) -> None:
    reached = threading.Event()

    def work(job: Job) -> None:
        for number in range(100_000):
            job.tell(number, 100_000)
            reached.set()
            time.sleep(0.001)

    job = jobs.submit("long", work)
    assert reached.wait(10)
    job.cancel()
    assert ended(job).state == "cancelled"
    assert job.done < 100_000


def test_what_a_cancelled_job_leaves_is_its_result(jobs: Jobs) -> None:
    def work(job: Job) -> str:
        while not job.asked_to_end:
            time.sleep(0.005)
        return "so far"

    job = jobs.submit("training", work)
    while job.state == "waiting":
        time.sleep(0.005)
    job.cancel()
    assert (ended(job).state, job.result) == ("cancelled", "so far")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(SettingsError("steps are 1 to 1000, not 0"), "steps are 1 to 1000, not 0"), (KeyError("x"), "KeyError: 'x'")],
)
def test_an_error_is_a_sentence_and_the_queue_goes_on(jobs: Jobs, error: Exception, sentence: str) -> None:
    def work(job: Job) -> None:
        raise error

    assert ended(jobs.submit("bad", work)).error == sentence
    assert ended(jobs.submit("good", lambda job: 1)).result == 1


def test_warnings_become_notes_each_once(jobs: Jobs) -> None:
    def work(job: Job) -> None:
        for _ in range(2):
            warn("the rows hardly moved")
        warnings.warn("a library's own", DeprecationWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert ended(jobs.submit("warned", work)).notes == ["the rows hardly moved"]


def test_the_remaining_time_is_in_proportion() -> None:
    job = Job("one", lambda job: None)
    assert job.seconds_left is None
    job.state, job._began = "running", time.monotonic() - 10
    assert job.seconds_left is None
    job.tell(20, 100)
    assert job.seconds_left == pytest.approx(40, rel=0.05)


def test_calls_of_the_denoiser_are_progress_and_the_hook_goes() -> None:
    model, job = torch.nn.Linear(2, 2), Job("one", lambda job: None)
    with denoiser_calls(job, model, 4):
        assert (job.done, job.total) == (0, 4)
        for _ in range(3):
            model(torch.zeros(1, 2))
        assert job.done == 3
        job.cancel()
        with pytest.raises(Cancelled):
            model(torch.zeros(1, 2))
    assert not model._forward_hooks


def test_closing_cancels_everything() -> None:
    jobs = Jobs()
    first = jobs.submit("first", lambda job: job.tell(0, 1) or time.sleep(0.05) or job.tell(1, 1) or job.tell(1, 1))
    second = jobs.submit("second", lambda job: 2)
    jobs.close(10)
    assert first.state in ENDED
    assert second.state == "cancelled"
