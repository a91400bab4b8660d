"""Long work of the studio, one job at a time. A job waits for its turn, tells its progress, and can be cancelled.

Jobs live in the server, not in a page: a page that is loaded again finds its job by the job's id.
"""

import threading
import time
import uuid
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Literal

from promptplus.errors import PromptPlusError, first_line

State = Literal["waiting", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")


class Cancelled(Exception):
    """Somebody asked a running job to end."""


class Job:
    """One piece of long work.

    Args:
        title: what it does, for people: ``4 pictures``.
        work: does it; it is called with the job in the worker's thread, and its value is the job's result.

    Attributes:
        id: names the job in pages.
        state: see ``State``.
        done, total: how much of the work is done, in any unit; ``total`` 0: not known.
        result: of a job that is done, or that was cancelled and left something.
        error: one sentence, of a job that failed.
        notes: the warnings of its work.
        seconds: how long the work took, or takes so far.
    """

    def __init__(self, title: str, work: "Callable[[Job], Any]") -> None:
        self.id, self.title, self.work = uuid.uuid4().hex, title, work
        self.state: State = "waiting"
        self.done, self.total = 0.0, 0.0
        self.result: Any = None
        self.error = ""
        self.notes: list[str] = []
        self._began = self._ended = 0.0
        self._asked = threading.Event()

    def __repr__(self) -> str:
        return f"Job({self.title!r}, {self.state}, {self.done:g} of {self.total:g})"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED

    @property
    def asked_to_end(self) -> bool:
        """Whether somebody cancelled it."""
        return self._asked.is_set()

    @property
    def seconds(self) -> float:
        if not self._began:
            return 0.0
        return (self._ended or time.monotonic()) - self._began

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the progress so far; None where there is none yet."""
        if not (self.state == "running" and 0 < self.done <= self.total):
            return None
        return self.seconds * (self.total - self.done) / self.done

    def cancel(self) -> None:
        """Ask the job to end. A waiting job ends at once, a running one at its next sign of life."""
        self._asked.set()
        if self.state == "waiting":
            self.state = "cancelled"

    def tell(self, done: float, total: float | None = None) -> None:
        """Called by the work: how much is done. Raises Cancelled where somebody asked for the end."""
        self.done, self.total = done, self.total if total is None else total
        if self.asked_to_end:
            raise Cancelled

    def run(self) -> None:
        """Do the work, in the calling thread. Errors end up in ``error``."""
        if self.state != "waiting":
            return
        self.state, self._began = "running", time.monotonic()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            try:
                self.result = self.work(self)
                state: State = "cancelled" if self.asked_to_end else "done"
            except Cancelled:
                state = "cancelled"
            except PromptPlusError as error:
                state, self.error = "failed", str(error)
            except Exception as error:
                state, self.error = "failed", f"{type(error).__name__}: {first_line(error)}"
        self.notes = list(dict.fromkeys(str(one.message) for one in said if one.category is UserWarning))
        self._ended = time.monotonic()
        self.state = state  # last: whoever sees it may read all the rest


class Jobs:
    """A queue of jobs with one worker: two models in memory at once would be one too many."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="studio jobs", daemon=True)
        self._worker.start()

    def submit(self, title: str, work: Callable[[Job], Any]) -> Job:
        """Put work at the end of the queue."""
        job = Job(title, work)
        self._jobs[job.id] = job
        self._queue.put(job)
        return job

    def get(self, job_id: str | None) -> Job | None:
        """The job of an id; None where this server has none."""
        return self._jobs.get(job_id or "")

    def before(self, job: Job) -> list[Job]:
        """The jobs that a waiting job waits for."""
        listed = list(self._jobs.values())
        return [one for one in listed[: listed.index(job)] if not one.ended]

    def close(self, timeout: float = 60.0) -> None:
        """Cancel everything, and wait until the worker has ended.

        Args:
            timeout: seconds; a training saves what it learned meanwhile.
        """
        for job in list(self._jobs.values()):
            job.cancel()
        self._queue.put(None)
        self._worker.join(timeout)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()


@contextmanager
def denoiser_calls(job: Job, denoiser: Any, calls: int) -> Generator[None]:
    """While inside, every call of the denoiser is progress of a job, and a moment to end it.

    Args:
        calls: about how many calls there will be.
    """
    made = 0

    def after_call(*_: object) -> None:
        nonlocal made
        made += 1
        job.tell(min(made, calls), calls)

    handle = denoiser.register_forward_hook(after_call)
    try:
        job.tell(0, calls)
        yield
    finally:
        handle.remove()
