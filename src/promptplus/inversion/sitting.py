"""One sitting: concepts that learn side by side begin or go on, step after step, save, and stop in good order."""

from collections.abc import Sequence
from typing import NoReturn

from torch import Tensor
from tqdm import tqdm

from promptplus.conditioning import PPlus
from promptplus.errors import Interrupted, TrainingError
from promptplus.inversion.checkpoint import StopSignal, stop_signals
from promptplus.inversion.journal import open_trackers, preview
from promptplus.inversion.processes import Processes
from promptplus.inversion.rows import frozen, training_scheduler
from promptplus.inversion.run import InversionRun, InversionSettings
from promptplus.inversion.seat import Seat
from promptplus.inversion.steps import RowTrainer

CHECKPOINT_EVERY = 50  # steps; a kill loses at most these (our choice)


def train(
    pplus: PPlus,
    seats: Sequence[Seat],
    settings: InversionSettings,
    preview_every: int,
    progress: bool,
    log_with: Sequence[str],
) -> list[InversionRun]:
    """Take the steps that are left at each seat; returns what each has learned, in the seats' order."""
    processes = Processes()
    for seat in seats:
        seat.before = processes.from_first(seat.before)
    runs = processes.from_first([seat.finished() for seat in seats])
    waiting = [seat for seat, run in zip(seats, runs, strict=True) if run is None]
    if not processes.first:
        preview_every, progress, log_with = 0, False, ()
    learned = Sitting(pplus, waiting, settings, preview_every).run(progress, log_with) if waiting else {}
    return [run or learned[seat] for seat, run in zip(seats, runs, strict=True)]


class Sitting:
    """Trains the concepts that are not finished, in shared batches."""

    def __init__(self, pplus: PPlus, seats: Sequence[Seat], settings: InversionSettings, preview_every: int) -> None:
        self.pplus, self.seats, self.settings, self.preview_every = pplus, tuple(seats), settings, preview_every
        self.at = {seat.blank.token: seat for seat in seats}

    def run(self, progress: bool, log_with: Sequence[str]) -> dict[Seat, InversionRun]:
        """Train to the end."""
        pipe, first = self.pplus.pipe, self.seats[0]
        trackers = open_trackers(log_with, first.folder, first.record)
        try:
            with frozen(pipe.unet, pipe.text_encoder, pipe.vae), stop_signals() as asked:
                scheduler = training_scheduler(pipe)
                for seat in self.seats:
                    seat.sit_down(scheduler.config.num_train_timesteps, self.preview_every, trackers)
                trainer = RowTrainer(self.pplus, [seat.trainee for seat in self.seats], scheduler, self.settings)
                self._go_on_as_small(trainer)
                self._train(trainer, asked, progress)
                without = [preview(self.pplus, s.blank, None) if self.preview_every else [] for s in self.seats]
        finally:
            if trackers:
                trackers.end_training()
        return {seat: seat.finish(pictures) for seat, pictures in zip(self.seats, without, strict=True)}

    def _go_on_as_small(self, trainer: RowTrainer) -> None:
        """Take no more pictures at once than memory had room for before."""
        if self.settings.micro_batch is None:
            before = [seat.before.settings["micro_batch"] for seat in self.seats if seat.before]
            trainer.micro_batch = min([trainer.micro_batch, *filter(None, before)])

    def _train(self, trainer: RowTrainer, asked: StopSignal, progress: bool) -> None:
        steps = self.settings.steps
        total, done = steps * len(self.seats), sum(seat.done for seat in self.seats)
        names = ", ".join(seat.blank.token for seat in self.seats)
        with tqdm(total=total, initial=done, desc=f"{self.settings.method} {names}", disable=not progress) as bar:
            while any(seat.trainee.step < steps for seat in self.seats):
                moved = [(self.at[trainee.concept.token], loss) for trainee, loss in trainer.advance()]
                if trainer.processes.any(bool(asked.name), moved[0][1].device):  # all stop after the same step
                    asked.name = asked.name or "another process"
                self._record(moved, trainer, asked)
                bar.update(len(moved))
                bar.set_postfix(moved[0][0].journal.summary, refresh=False)
                if asked.name:
                    self._stop(asked.name, min(seat.trainee.step for seat in self.seats))

    def _record(self, moved: Sequence[tuple[Seat, Tensor]], trainer: RowTrainer, asked: StopSignal) -> None:
        """Note the losses of the concepts that moved, and save when it is time."""
        step = moved[0][0].trainee.step
        due = bool(asked.name) or step % CHECKPOINT_EVERY == 0 or step == self.settings.steps
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
        if self.seats[0].folder is None and Processes().count == 1:
            raise KeyboardInterrupt
        raise Interrupted(f"stopped by {name} after step {step}, which is saved; the same command goes on from there")
