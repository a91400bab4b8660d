"""`make pocket-report`: every number about the bundled pocket model, from the weights in the package.

Each part's result is kept in the working folder as it is done, so that a report that was stopped goes on; the parts run
in as many one-thread processes as there are cores. At the end `docs/pocket.md`, `docs/pocket.json` and their pictures.
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

from . import measures, recovery
from . import targets as bars
from .loop import Options

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = DOCS / "pictures" / "pocket"
Part = Callable[[pp.PPlus], dict[str, Any]]


def parts(count: int, folder: Path) -> dict[str, Part]:
    """What is measured by name, in the order it runs; the judges come first."""
    jobs: dict[str, Part] = {"judges": lambda _: measures.judges()}
    for kind, share in (("trained", count), ("held out", count // 2)):
        jobs[f"captions/{kind}"] = partial(measures.captions, folder=folder, kind=kind, count=share)
    jobs["curves"] = partial(measures.curves, folder=folder)
    for name in REPORT:
        jobs[f"words/{name}"] = partial(recovery.words, name=name)
        for seed in bars.SEEDS:
            jobs[f"concept/{name}/{seed}"] = partial(recovery.learned, folder=folder, name=name, seed=seed)
    return jobs


def asked(options: Options) -> str:
    """Names the bundled files, the defaults and how many pictures: results of others are not reused."""
    digest = hashlib.sha256()
    root = Path(package.__file__).parent
    for file in sorted([*root.rglob("*.safetensors"), *(root / "concepts").rglob("*.png"), *root.rglob("*.json")]):
        digest.update(file.read_bytes())
    with pp.PPlus(pp.load("pocket", device="cpu")) as pplus:
        told = [InversionSettings().model_dump_json(), default_sampling(pplus.pipe), options.count]
    digest.update(json.dumps(told).encode())
    return digest.hexdigest()[:12]


def work(queue: Any, folder: Path, count: int) -> None:
    """Take parts from the queue until it is empty; write each result as soon as it is there."""
    torch.set_num_threads(1)
    jobs = parts(count, folder)
    with pp.PPlus(pp.load("pocket", device="cpu")) as pplus:
        while (name := queue.get()) is not None:
            began = time.monotonic()
            result = {**jobs[name](pplus), "seconds": round(time.monotonic() - began, 1)}
            write_atomically(folder / f"{name.replace('/', '--')}.json", json.dumps(result, indent=1).encode())
            print(f"{name}: {json.dumps(result)[:160]}", flush=True)


def collect(folder: Path, names: list[str]) -> dict[str, Any]:
    """The results that are there."""
    paths = {name: folder / f"{name.replace('/', '--')}.json" for name in names}
    return {name: json.loads(path.read_text("utf-8")) for name, path in paths.items() if path.exists()}


def share_out(waiting: list[str], folder: Path, options: Options) -> None:
    """Do the parts in one-thread processes."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for name in [*waiting, *[None] * options.threads]:
        queue.put(name)
    workers = [context.Process(target=work, args=(queue, folder, options.count)) for _ in range(options.threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def write(results: dict[str, Any], folder: Path) -> None:
    """`docs/pocket.json`, `docs/pocket.md` and its pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    rows = [Image.open(folder / f"{name}-{bars.SEEDS[0]}.png").convert("RGB") for name in REPORT]
    tile(rows, 1).save(PICTURES / "concepts.png", optimize=True)
    for name in ("captions-trained", "captions-held-out", "subsets", "curves"):
        shutil.copyfile(folder / f"{name}.png", PICTURES / f"{name}.png")
    told = {"bars": [bar._asdict() for bar in bars.bars(results)], **results}
    write_atomically(DOCS / "pocket.json", (json.dumps(told, indent=1) + "\n").encode())
    write_atomically(DOCS / "pocket.md", bars.markdown(results).encode())


def run(options: Options) -> None:
    """Measure what is not measured yet, then write the report; speed is measured anew every time."""
    if changed := measures.changed_judges():
        raise RuntimeError(f"{', '.join(changed)}: other weights than those frozen in card.json; assemble anew")
    key = asked(options)
    folder = options.work / f"report-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    names = list(parts(options.count, folder))
    if waiting := [name for name in names if name not in collect(folder, names)]:
        share_out(waiting, folder, options)
    results = collect(folder, names)
    if missing := [name for name in names if name not in results]:
        raise RuntimeError(f"these parts failed: {', '.join(missing)}")
    results |= {"weights": key, "size": measures.size(), "speed": measures.speed(options.threads)}
    write(results, folder)
    print((DOCS / "pocket.md").read_text("utf-8"))
