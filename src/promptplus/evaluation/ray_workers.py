"""Run the tasks of an experiment grid on Ray: one actor per device holds the model."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from tqdm import tqdm

from promptplus.errors import LossError, ModelError, TrainingError, first_line
from promptplus.evaluation.grid import ExperimentGrid
from promptplus.evaluation.training_cache import Task

PATIENCE = 900  # seconds for a worker to begin, a model's download among them (our choice)
DEATHS = 3  # of a task's workers, before it is the task's own fault (our choice)


def run_on_ray(
    make: Callable[[], ExperimentGrid],
    tasks: Sequence[Task],
    *,
    address: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Do what is left of the tasks.

    Args:
        make: opens the model and the folder of results, in each worker; the folder must be the same for all.
        address: a cluster's, as ``auto`` or ``ray://host:10001``; default: this machine.
        workers: default, and at most: one for each GPU; without GPUs by default one for each machine.

    A worker that dies is replaced and its task done again, from where it was saved. Raises TrainingError where a task
    kills its workers again and again, ModelError where Ray is not installed; a task's own error is raised as it is,
    but a training whose loss is no number is left undone.
    """
    ray = _ray()
    ray.init(address=address or "local", log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    try:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
        count = min(workers or gpus or len(machines), gpus or len(tasks), len(tasks))
        on_each = -(-count // len(machines))
        cores = max(1, min(int(machine.get("CPU", 1)) for machine in machines) // max(on_each, 1))
        actor = ray.remote(num_gpus=1 if gpus else 0, num_cpus=cores)(Worker)
        with tqdm(total=len(tasks), desc="tasks", disable=not progress) as bar:
            _share_out(ray, lambda: _hired(ray, actor.remote(make, cores)), tasks, count, bar)
    finally:
        ray.shutdown()


class Worker:
    """Holds the model and does one task after the other."""

    def __init__(self, make: Callable[[], ExperimentGrid], threads: int) -> None:
        torch.set_num_threads(threads)
        self.matrix = make()

    def ready(self) -> bool:
        """Once the model is there."""
        return True

    def do(self, task: Task) -> None:
        """See that the task is done; another process that holds it does it, too. A failed training is left undone."""
        if None in self.matrix.find(task):
            with suppress(LossError):
                self.matrix.do(task)


def _share_out(ray: Any, hire: Callable[[], Any], tasks: Sequence[Task], count: int, bar: Any) -> None:
    idle, waiting = [hire() for _ in range(count)], deque(range(len(tasks)))
    running: dict[Any, tuple[Any, int]] = {}
    deaths = [0] * len(tasks)
    while waiting or running:
        while idle and waiting:
            worker, number = idle.pop(), waiting.popleft()
            running[worker.do.remote(tasks[number])] = (worker, number)
        (done,), _ = ray.wait(list(running), num_returns=1)
        worker, number = running.pop(done)
        try:
            ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayActorError as error:
            deaths[number] += 1
            if deaths[number] == DEATHS:
                raise TrainingError(f"{tasks[number]}: {DEATHS} workers died of it; {first_line(error)}") from error
            waiting.append(number)
            worker = hire()
        else:
            bar.update()
        idle.append(worker)


def _hired(ray: Any, worker: Any) -> Any:
    try:
        ray.get(worker.ready.remote(), timeout=PATIENCE)
    except ray.exceptions.GetTimeoutError as error:
        raise ModelError(f"no worker began in {PATIENCE} s: has the cluster room for it?") from error
    except ray.exceptions.RayActorError as error:
        raise ModelError(f"a worker could not begin: {str(error).splitlines()[-1]}") from error
    return worker


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ModelError("several workers need Ray: pip install 'promptplus[ray]'") from error
    return ray
