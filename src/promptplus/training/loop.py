"""One sitting: what learns side by side begins or goes on, step after step, saves, and stops in good order."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn

from torch import Tensor
from tqdm import tqdm

from promptplus.errors import Interrupted, TrainingError, first_line
from promptplus.memory import is_out_of_memory
from promptplus.training.checkpoint import StopSignal, stop_signals
from promptplus.training.distributed import Distributed
from promptplus.training.log import open_trackers
from promptplus.training.run import R, Seat, T
from promptplus.training.settings import TrainingSettings
from promptplus.training.step import Trainer
from promptplus.training.trainable import frozen, training_scheduler


class TrainingLoop(Generic[T, R]):
    """Takes the steps that are left at each seat, in shared batches.

    Args:
        trainer: makes, from what is in training and the noise schedule, what moves it.
    """

    def __init__(
        self,
        pipe: Any,
        seats: Sequence[Seat[T, R]],
        settings: TrainingSettings,
        trainer: Callable[[Sequence[T], Any], Trainer[T]],
    ) -> None:
        self.pipe, self.seats, self.settings, self.trainer = pipe, tuple(seats), settings, trainer
        self.at = {seat.name: seat for seat in seats}
        self.processes = Distributed()
        for seat in seats:
            seat.take_from_first(self.processes)

    def run(self, preview_every: int, progress: bool, log_with: Sequence[str]) -> list[R]:
        """Train to the end; returns what each seat has learned, in their order."""
        runs = self.processes.from_first([seat.finished() for seat in self.seats])
        self.seats = tuple(seat for seat, run in zip(self.seats, runs, strict=True) if run is None)
        if not self.processes.first:
            preview_every, progress, log_with = 0, False, ()
        learned = iter(self._learn(preview_every, progress, log_with) if self.seats else [])
        return [run or next(learned) for run in runs]

    def _learn(self, preview_every: int, progress: bool, log_with: Sequence[str]) -> list[R]:
        trackers = open_trackers(log_with, self.seats[0].folder, self.seats[0].record)
        try:
            with frozen(self.pipe.unet, self.pipe.text_encoder, self.pipe.vae), stop_signals() as asked:
                scheduler = training_scheduler(self.pipe)
                for seat in self.seats:
                    seat.sit_down(scheduler.config.num_train_timesteps, preview_every, trackers)
                trainer = self.trainer([seat.trainee for seat in self.seats], scheduler)
                self._go_on_as_small(trainer)
                self._train(trainer, asked, progress)
                without = [seat.look_without() if preview_every else [] for seat in self.seats]
                done = [seat.finish(pictures) for seat, pictures in zip(self.seats, without, strict=True)]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(f"out of memory: {first_line(error)}; use half precision, or less") from error
        finally:
            if trackers:
                trackers.end_training()
        self.processes.wait()  # what is learned lies in the folder when any process goes on
        return done

    def _go_on_as_small(self, trainer: Trainer[T]) -> None:
        """Take no more pictures at once than memory had room for before."""
        if self.settings.micro_batch is None:
            before = [seat.before.settings["micro_batch"] for seat in self.seats if seat.before]
            trainer.micro_batch = min([trainer.micro_batch, *filter(None, before)])

    def _train(self, trainer: Trainer[T], asked: StopSignal, progress: bool) -> None:
        steps = self.settings.steps
        total, done = steps * len(self.seats), sum(seat.done for seat in self.seats)
        names = ", ".join(seat.name for seat in self.seats)
        with tqdm(total=total, initial=done, desc=f"learn {names}", disable=not progress) as bar:
            while any(seat.trainee.step < steps for seat in self.seats):
                moved = [(self.at[trainee.name], loss) for trainee, loss in trainer.advance()]
                if self.processes.any(bool(asked.name), moved[0][1].device):  # all stop after the same step
                    asked.name = asked.name or "another process"
                self._record(moved, trainer, asked)
                bar.update(len(moved))
                bar.set_postfix(moved[0][0].journal.summary, refresh=False)
                if asked.name:
                    self._stop(asked.name, min(seat.trainee.step for seat in self.seats))

    def _record(self, moved: Sequence[tuple[Seat[T, R], Tensor]], trainer: Trainer[T], asked: StopSignal) -> None:
        """Note the losses of those that moved, and save when it is time."""
        trainee = moved[0][0].trainee
        due = bool(asked.name) or trainee.step % trainee.checkpoint_every == 0 or trainee.step == self.settings.steps
        failed: list[TrainingError] = []
        for seat, loss in moved:
            try:
                seat.journal.record(loss)
                if due:
                    seat.save(trainer.micro_batch)
            except TrainingError as error:  # the others are saved first
                failed.append(error)
        if failed:
            raise failed[0]

    def _stop(self, name: str, step: int) -> NoReturn:
        if self.seats[0].folder is None and self.processes.count == 1:
            raise KeyboardInterrupt
        raise Interrupted(f"stopped by {name} after step {step}, which is saved; the same command goes on from there")
