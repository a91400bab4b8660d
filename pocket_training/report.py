"""`make pocket-report`: measure the bundled pocket model and write `docs/pocket.md`, `docs/pocket.json` and pictures.

The report consists of measurements that run in parallel, in one-thread processes. Each result is written to the working
folder when it is finished, so a report that was stopped continues with the next one.
"""

import hashlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import promptplus as pp
from promptplus import pocket as package
from promptplus.files import write_atomically
from promptplus.pocket.held_out import REPORT
from promptplus.profiles import default_sampling
from promptplus.report.picture_grid import tile
from promptplus.training.settings import InversionSettings

from . import measures, recovery, targets
from .loop import TrainingConfig

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = DOCS / "pictures" / "pocket"
Measurement = Callable[[pp.PPlus], Any]  # → one of the TypedDicts of `results`


def measurements(count: int, folder: Path) -> dict[str, Measurement]:
    """All measurements by name, in the order they run.

    Args:
        count: pictures generated for trained combinations; half as many for held-out ones.
        folder: for pictures and learned concepts.
    """
    jobs: dict[str, Measurement] = {"judges": lambda _: measures.measure_judges()}
    for kind, share in (("trained", count), ("held out", count // 2)):
        jobs[f"captions/{kind}"] = partial(measures.measure_captions, folder=folder, kind=kind, count=share)
    jobs["split"] = measures.measure_split_test
    jobs["curves"] = partial(measures.measure_layers, folder=folder)
    for name in REPORT:
        jobs[f"words/{name}"] = partial(recovery.measure_texts, name=name)
        for seed in targets.SEEDS:
            jobs[f"concept/{name}/{seed}"] = partial(recovery.measure_learning, folder=folder, name=name, seed=seed)
    jobs["mixing"] = partial(recovery.measure_mixing, folder=folder)
    return jobs


def fingerprint(config: TrainingConfig) -> str:
    """A hash of the bundled files, the default settings and the number of pictures; it names the results' folder.

    The demo's learned concept is left out: nothing that is measured depends on it.
    """
    digest = hashlib.sha256()
    root = Path(package.__file__).parent
    files = [*root.rglob("*.safetensors"), *(root / "concepts").rglob("*.png"), *root.rglob("*.json")]
    for file in sorted(file for file in files if package.LEARNED not in file.parents):
        digest.update(file.read_bytes())
    with pp.PPlus(pp.load("pocket", device="cpu")) as pplus:
        settings = [InversionSettings().model_dump_json(), default_sampling(pplus.pipe), config.count]
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()[:12]


def work(queue: Any, folder: Path, count: int) -> None:
    """Run measurements from a queue of names until it returns None; write each result to `folder`."""
    torch.set_num_threads(1)
    jobs = measurements(count, folder)
    with pp.PPlus(pp.load("pocket", device="cpu")) as pplus:
        while (name := queue.get()) is not None:
            began = time.monotonic()
            result = {**jobs[name](pplus), "seconds": round(time.monotonic() - began, 1)}
            write_atomically(folder / f"{name.replace('/', '--')}.json", json.dumps(result, indent=1).encode())
            print(f"{name}: {json.dumps(result)[:160]}", flush=True)


def collect(folder: Path, names: list[str]) -> dict[str, Any]:
    """The results that are in `folder`, by name."""
    paths = {name: folder / f"{name.replace('/', '--')}.json" for name in names}
    return {name: json.loads(path.read_text("utf-8")) for name, path in paths.items() if path.exists()}


def run_in_parallel(names: list[str], folder: Path, config: TrainingConfig) -> None:
    """Run the measurements in `config.threads` processes of one thread each."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for name in [*names, *[None] * config.threads]:
        queue.put(name)
    workers = [context.Process(target=work, args=(queue, folder, config.count)) for _ in range(config.threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def write(results: dict[str, Any], folder: Path) -> None:
    """Write `docs/pocket.json`, `docs/pocket.md` and its pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    rows = [Image.open(folder / f"{name}-{targets.SEEDS[0]}.png").convert("RGB") for name in REPORT]
    tile(rows, 1).save(PICTURES / "concepts.png", optimize=True)
    for name in ("captions-trained", "captions-held-out", "subsets", "curves"):
        shutil.copyfile(folder / f"{name}.png", PICTURES / f"{name}.png")
    record = {"targets": [target._asdict() for target in targets.all_targets(results)], **results}
    write_atomically(DOCS / "pocket.json", (json.dumps(record, indent=1) + "\n").encode())
    write_atomically(DOCS / "pocket.md", targets.markdown(results).encode())


def run(config: TrainingConfig) -> None:
    """Run the measurements that have no result yet, then write the report. Speed is measured every time."""
    if changed := measures.changed_judges():
        raise RuntimeError(
            f"{', '.join(changed)}: weights differ from those in card.json; run `python -m pocket_training export`"
        )
    key = fingerprint(config)
    folder = config.work / f"report-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    names = list(measurements(config.count, folder))
    for group in (names[:-1], names[-1:]):  # the last one, mixing, needs the concepts that others learn
        if waiting := [name for name in group if name not in collect(folder, group)]:
            run_in_parallel(waiting, folder, config)
    results = collect(folder, names)
    if missing := [name for name in names if name not in results]:
        raise RuntimeError(f"these measurements failed: {', '.join(missing)}")
    results |= {"weights": key, "size": measures.measure_size(), "speed": measures.measure_speed(config.threads)}
    write(results, folder)
    print((DOCS / "pocket.md").read_text("utf-8"))
