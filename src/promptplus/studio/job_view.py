"""How a page shows its job: a line with progress, a button that cancels, and the results when it ends.

The page asks for the job again and again. A page that is loaded anew finds its job in the browser's storage.
"""

import html
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from promptplus.errors import PromptPlusError
from promptplus.studio.jobs import Job, Jobs
from promptplus.studio.training_runs import clock

POLL = 0.5  # seconds between a page's questions
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Options of events that answer at once: they need no queue, and the page need not show that they run."""
Work = Callable[[Job], Any]
Show = Callable[[Any], Sequence[Any]]
Begin = Callable[..., tuple[Any, ...]]
"""From a page's values to a job's title and work, and the values of further components.

Raises PromptPlusError where a value is wrong: before any work.
"""


class JobView:
    """The components that show one page's job. Made inside ``gr.Blocks``, where they shall stand.

    Args:
        jobs: the queue.
        name: of the page; the browser keeps the job's id under it.
        cancel: the words on the button that ends a job.
    """

    def __init__(self, jobs: Jobs, name: str, cancel: str = "Cancel") -> None:
        self._jobs = jobs
        self._outputs: list[Any] = []
        self._show: Show = lambda result: ()
        self.status = gr.HTML("", elem_id=f"{name}-status", padding=False)
        self.cancel = gr.Button(cancel, visible=False, elem_id=f"{name}-cancel", size="sm", variant="stop")
        self.job_id = gr.BrowserState("", storage_key=f"promptplus-{name}", render=False)
        self._timer = gr.Timer(POLL, active=False, render=False)
        self._own = [self.status, self.cancel, self._timer]
        self.cancel.click(self._cancel, [self.job_id], self._own, **QUIET)

    def shows(self, outputs: Sequence[Any], show: "Show") -> None:
        """Show results, and progress before: ``show`` makes the values of ``outputs`` from a job's result."""
        self._outputs, self._show = list(outputs), show
        self._timer.tick(self._look, [self.job_id], [*self._own, *self._outputs], **QUIET)

    def on_load(self, blocks: gr.Blocks) -> None:
        """When the page is loaded again, show the job that it had begun.

        Call this inside ``blocks`` and outside its tabs. gradio makes the contents of a tab when it is first opened,
        which is too late to read the browser's storage.
        """
        self.job_id.render()
        self._timer.render()
        blocks.load(self._look, [self.job_id], [*self._own, *self._outputs], **QUIET)

    def begins(self, events: Sequence[Any], begin: Begin, inputs: Sequence[Any], also: Sequence[Any] = ()) -> None:
        """Let events, such as ``button.click``, begin a job with the inputs' values.

        Args:
            events: each begins the job.
            begin: see ``Begin``.
            inputs: the components with its arguments.
            also: the further components that it gives values for.
        """

        def submit(*values: Any) -> list[Any]:
            try:
                title, work, *others = begin(*values)
            except PromptPlusError as error:
                return ["", alert(str(error)), gr.skip(), gr.skip(), *(gr.skip() for _ in also)]
            job = self._jobs.submit(title, work)
            return [job.id, *self._line(job), *others]

        gr.on(list(events), submit, list(inputs), [self.job_id, *self._own, *also], **QUIET)

    def _look(self, job_id: str) -> list[Any]:
        """The line, and what is new."""
        job = self._jobs.get(job_id)
        unchanged = [gr.skip() for _ in self._outputs]
        if job is None:
            return ["", gr.Button(visible=False), gr.Timer(active=False), *unchanged]
        if job.ended and job.result is not None:
            unchanged = list(self._show(job.result))
        return [*self._line(job), *unchanged]

    def _cancel(self, job_id: str) -> list[Any]:
        job = self._jobs.get(job_id)
        if job is None:
            return [gr.skip(), gr.skip(), gr.skip()]
        job.cancel()
        return self._line(job)

    def _line(self, job: Job) -> list[Any]:
        return [status_line(job, self._jobs), gr.Button(visible=not job.ended), gr.Timer(active=not job.ended)]


def status_line(job: Job, jobs: Jobs) -> str:
    """What a job is doing, as HTML."""
    notes = "".join(f'<div class="note">Note: {html.escape(note)}</div>' for note in job.notes)
    if job.state == "failed":
        return alert(job.error) + notes
    if job.state == "waiting":
        before = jobs.before(job)
        said = f"Waiting for {len(before)} other job{'s' if len(before) > 1 else ''}"
        titles = ", ".join(one.title for one in before)
        return _status(f"{said}: {titles}" if before else "Beginning")
    if job.state == "running":
        if job.asked_to_end:
            return _status(f"{job.title}: ending …")
        left = job.seconds_left
        said = f"{job.title}: " + (f"about {clock(left)} left" if left is not None else f"{clock(job.seconds)}")
        return _status(said, job.done / job.total if job.total else None)
    said = {"done": f"{job.title}: done in {job.seconds:.1f} s", "cancelled": f"{job.title}: cancelled"}[job.state]
    return _status(said) + notes


def _status(sentence: str, share: float | None = None) -> str:
    bar = "" if share is None else f'<progress value="{share:.3f}" max="1" aria-label="progress"></progress>'
    return f'<div class="job" role="status">{html.escape(sentence)} {bar}</div>'


def alert(sentence: str) -> str:
    """A sentence that says what is wrong, as HTML."""
    return f'<div class="job fault" role="alert">{html.escape(sentence)}</div>'
