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

START_SECONDS = 900  # for a worker to start, with the download of a model (our choice)
MAX_DEATHS = 3  # of workers on one task, before it counts as the fault of the task (our choice)


def run_on_ray(
    make: Callable[[], ExperimentGrid],
    tasks: Sequence[Task],
    *,
    address: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Do all tasks that have no results yet.

    A worker that dies is replaced, and its task continues from its last checkpoint. A training whose loss is not finite
    is left undone.

    Args:
        make: loads the model and opens the folder of results in each worker; the folder must be the same for all.
        address: of a cluster, such as ``auto`` or ``ray://host:10001``; default: this machine.
        workers: their number. Default and maximum: one per GPU; without GPUs the default is one per machine.

    Raises:
        TrainingError: a task killed its workers three times.
        ModelError: Ray is not installed, or a worker could not start.

    Any other error of a task is raised unchanged.
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
            _distribute(ray, lambda: _started(ray, actor.remote(make, cores)), tasks, count, bar)
    finally:
        ray.shutdown()


class Worker:
    """A Ray actor: holds the model and does one task after the other."""

    def __init__(self, make: Callable[[], ExperimentGrid], threads: int) -> None:
        torch.set_num_threads(threads)
        self.grid = make()

    def ready(self) -> bool:
        """Returns when the model is loaded."""
        return True

    def do(self, task: Task) -> None:
        """Do a task, unless it is done or another process holds it. A training whose loss is not finite is left."""
        if None in self.grid.find(task):
            with suppress(LossError):
                self.grid.do(task)


def _distribute(ray: Any, start: Callable[[], Any], tasks: Sequence[Task], count: int, bar: Any) -> None:
    idle, waiting = [start() for _ in range(count)], deque(range(len(tasks)))
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
            if deaths[number] == MAX_DEATHS:
                raise TrainingError(f"{tasks[number]}: {MAX_DEATHS} workers died of it; {first_line(error)}") from error
            waiting.append(number)
            worker = start()
        else:
            bar.update()
        idle.append(worker)


def _started(ray: Any, worker: Any) -> Any:
    try:
        ray.get(worker.ready.remote(), timeout=START_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        reason = f"no worker began in {START_SECONDS} s ({first_line(error)})"
        raise ModelError(f"{reason}: has the cluster room for it?") from error
    except ray.exceptions.RayActorError as error:
        raise ModelError(f"a worker could not begin: {(str(error).splitlines() or ['no reason'])[-1]}") from error
    return worker


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ModelError(f"several workers need Ray ({first_line(error)}): pip install 'promptplus[ray]'") from error
    return ray
