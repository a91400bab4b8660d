"""The training loop: runs that train side by side begin or continue, step by step, save, and stop in good order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NoReturn

from torch import Tensor
from tqdm import tqdm

from promptplus.denoisers import models_of
from promptplus.errors import Interrupted, TrainingError, first_line
from promptplus.memory import is_out_of_memory
from promptplus.training.checkpoint import StopSignal, stop_signals
from promptplus.training.distributed import Distributed
from promptplus.training.log import open_trackers
from promptplus.training.noise_schedule import training_scheduler
from promptplus.training.run import TrainingRun
from promptplus.training.settings import TrainingSettings
from promptplus.training.step import TrainingStep
from promptplus.training.trainable import R, Trainable, frozen


class TrainingLoop(Generic[R]):
    """Takes the steps that are left of each run, in shared batches. All runs have the same settings."""

    def __init__(self, pipe: Any, runs: Sequence[TrainingRun[R]], settings: TrainingSettings) -> None:
        self.pipe, self.settings = pipe, settings
        self.runs = {run.name: run for run in runs}
        self.distributed = Distributed()
        for run in runs:
            run.receive_checkpoint(self.distributed)

    def run(self, preview_every: int, progress: bool, log_with: Sequence[str]) -> list[R]:
        """Train to the end; returns each run's result, in their order.

        Args:
            preview_every: steps between previews; 0: none.
            progress: show a bar with ETA.
            log_with: names of accelerate's trackers.
        """
        results = self.distributed.from_first({name: run.saved_result() for name, run in self.runs.items()})
        runs = [self.runs[name] for name, result in results.items() if result is None]
        if not self.distributed.first:
            preview_every, progress, log_with = 0, False, ()
        if runs:
            with self._session(runs, log_with) as (trackers, stop):
                step = self._begin(runs, preview_every, trackers)
                with self._bar(runs, progress) as bar:
                    while any(run.trainable.step < self.settings.steps for run in runs):
                        moved = step.advance()
                        self._record([(self.runs[one.name], loss) for one, loss in moved], step.micro_batch, stop)
                        bar.update(len(moved))
                        bar.set_postfix(self.runs[moved[0][0].name].log.summary, refresh=False)
                        if stop.name:
                            self._stop(runs, stop.name)
                class_words = [run.trainable.class_word_preview() if preview_every else [] for run in runs]
                for run, pictures in zip(runs, class_words, strict=True):
                    results[run.name] = run.finish(pictures)
            self.distributed.wait()  # what is learned lies in the folder before any process continues
        return [result for result in results.values() if result is not None]

    @contextmanager
    def _session(self, runs: Sequence[TrainingRun[R]], log_with: Sequence[str]) -> Iterator[tuple[Any, StopSignal]]:
        """While inside, the model is frozen, signals are noted instead of obeyed, and trackers are open."""
        trackers = open_trackers(log_with, runs[0].folder, runs[0].record)
        try:
            with frozen(*models_of(self.pipe).values()), stop_signals() as stop:
                yield trackers, stop
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(f"out of memory: {first_line(error)}; use half precision, or less") from error
        finally:
            if trackers:
                trackers.end_training()

    def _begin(self, runs: Sequence[TrainingRun[R]], preview_every: int, trackers: Any) -> TrainingStep[Trainable[R]]:
        """Prepare every run; the step takes no more pictures at once than memory had room for before."""
        scheduler = training_scheduler(self.pipe)
        for run in runs:
            run.begin(scheduler.config.num_train_timesteps, preview_every, trackers)
        step = TrainingStep([run.trainable for run in runs], scheduler, self.settings)
        if self.settings.micro_batch is None:
            before = [run.checkpoint.settings["micro_batch"] for run in runs if run.checkpoint]
            step.micro_batch = min([step.micro_batch, *filter(None, before)])
        return step

    def _bar(self, runs: Sequence[TrainingRun[R]], progress: bool) -> Any:
        total, done = self.settings.steps * len(runs), sum(run.resumed for run in runs)
        names = ", ".join(run.name for run in runs)
        return tqdm(total=total, initial=done, desc=f"learn {names}", disable=not progress)

    def _record(self, moved: Sequence[tuple[TrainingRun[R], Tensor]], micro_batch: int, stop: StopSignal) -> None:
        """Note the losses of the runs that moved, and save when it is time."""
        if self.distributed.any(bool(stop.name), moved[0][1].device):  # all processes stop after the same step
            stop.name = stop.name or "another process"
        trainable = moved[0][0].trainable
        at_end = trainable.step == self.settings.steps
        due = bool(stop.name) or trainable.step % trainable.checkpoint_every == 0 or at_end
        failed: list[TrainingError] = []
        for run, loss in moved:
            try:
                run.log.record(loss)
                if due:
                    run.save(micro_batch)
            except TrainingError as error:  # the others are saved first
                failed.append(error)
        if failed:
            raise failed[0]

    def _stop(self, runs: Sequence[TrainingRun[R]], signal_name: str) -> NoReturn:
        if runs[0].folder is None and self.distributed.count == 1:
            raise KeyboardInterrupt
        step = min(run.trainable.step for run in runs)
        message = f"stopped by {signal_name} after step {step}, which is saved; the same command goes on from there"
        kept = [run.trainable.save_stopped(run.folder.path) for run in runs if run.folder]
        if files := ", ".join(str(path) for path in kept if path):
            message += f"; the concept as it is now: {files}"
        raise Interrupted(message, signal_name)
