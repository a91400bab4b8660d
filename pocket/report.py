"""`make pocket-report`: every number about the bundled pocket model, from the weights in the package.

Each part's result is kept in the working folder as it is done, so that a report that was stopped goes on; the parts run
in as many one-thread processes as there are cores. At the end `docs/pocket.md`, `docs/pocket.json` and their pictures.
"""

import hashlib
import json
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import promptplus as pp
from promptplus import pocket as package
from promptplus.evaluation.metrics import recovered
from promptplus.pocket.world import ATTRIBUTES

from . import measures
from .common import Options

DOCS = Path(__file__).parent.parent / "docs"
BARS = {"object": 0.95, "colour": 0.94, "texture": 0.88, "background": 0.98, "style": 0.94}
"""What captions have to reach, or within `NEAR` of the same classifier on renders."""
NEAR = 0.03
MEAN_R, LEAST_R, NOVEL_R = 0.75, 0.55, 0.5


def weights_hash() -> str:
    """Names the bundled weights: results of other weights are not reused."""
    digest = hashlib.sha256()
    for file in sorted(Path(package.__file__).parent.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def work(queue: Any, folder: Path, sheets: Path, count: int) -> None:
    """Take parts from the queue until it is empty; write each result as soon as it is there."""
    torch.set_num_threads(1)
    jobs = measures.parts(count)
    with pp.PPlus(pp.load("pocket", device="cpu")) as pplus:
        while (name := queue.get()) is not None:
            began = time.monotonic()
            result = jobs[name](pplus, sheets)
            result["seconds"] = round(time.monotonic() - began, 1)
            path = folder / f"{name.replace('/', '--')}.json"
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(result, indent=1))
            os.replace(partial, path)
            print(f"{name}: {json.dumps(result)[:160]}", flush=True)


def collect(folder: Path) -> dict[str, Any]:
    return {path.stem.replace("--", "/"): json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def caption_table(results: dict[str, Any]) -> list[str]:
    lines = ["| | pictures | " + " | ".join(ATTRIBUTES) + " |", "|---" * (len(ATTRIBUTES) + 2) + "|"]
    for kind in ("trained", "held out"):
        part = results[f"captions/{kind}"]
        for source in ("renders", "reconstructions", "generated"):
            cells = [f"{v:.3f} [{low:.2f}, {high:.2f}]" for v, low, high in (part[source][a] for a in ATTRIBUTES)]
            lines.append(f"| {source}, {kind} combinations | {part['pictures']} | {' | '.join(cells)} |")
    bars = [f"≥ {BARS[a]}" for a in ATTRIBUTES]
    lines.append(f"| the bar (or within {NEAR} of renders) | | {' | '.join(bars)} |")
    met = {}
    for kind in ("trained", "held out"):
        part = results[f"captions/{kind}"]
        met[kind] = [
            part["generated"][a][0] >= BARS[a] or part["generated"][a][0] >= part["renders"][a][0] - NEAR
            for a in ATTRIBUTES
        ]
        lines.append(f"| met, {kind} | | " + " | ".join("yes" if ok else "no" for ok in met[kind]) + " |")
    return lines


def concept_table(results: dict[str, Any]) -> list[str]:
    lines = ["| concept | class word | floor | ceiling | r, seed 0 | r, seed 1 | r in words | r of the nearest noun |"]
    lines.append("|---" * 8 + "|")
    every = []
    for name in measures.REPORT:
        words = results[f"words/{name}"]
        floor, ceiling = words["floor"], words["ceiling"]
        runs = [recovered(results[f"concept/{name}/{seed}"]["similarity"], floor, ceiling) for seed in (0, 1)]
        every += runs
        lines.append(
            f"| {name} | {words['class_word']} | {floor:.3f} | {ceiling:.3f} "
            f"| {runs[0]:.2f} | {runs[1]:.2f} | {words['r_words']:.2f} | {words['r_noun']:.2f} |"
        )
    mean, spread = statistics.mean(every), statistics.stdev(every)
    lines.append(f"\nMean r {mean:.2f} ± {spread:.2f} over {len(every)} runs, least {min(every):.2f} "
                 f"(bars: mean ≥ {MEAN_R}, each ≥ {LEAST_R}; novel: the last two columns ≤ {NOVEL_R}).")  # fmt: skip
    return lines


def write(results: dict[str, Any]) -> None:
    """`docs/pocket.json` and `docs/pocket.md`."""
    (DOCS / "pocket.json").write_text(json.dumps(results, indent=1) + "\n")
    trained, curves, judges = results["captions/trained"], results["curves"], results["judges"]
    sizes = ", ".join(map(str, curves["sizes"]))
    text = ["# The pocket model, measured", "", f"`make pocket-report`, weights {results['weights']}.", ""]
    text += ["## Captions", "", *caption_table(results), ""]
    text += [f"Autoencoder {trained['psnr']} dB. Fréchet distance in the judge DINO's features {trained['frechet']} "
             f"(renders against renders {trained['frechet_floor']}).", ""]  # fmt: skip
    text += ["## Unseen concepts", "", *concept_table(results), "", "## Layers", ""]
    text += [f"Relative share of prompt 2, given to {sizes} layers, coarse to fine; {curves['pairs']} pairs.", ""]
    text += [
        "| | " + " | ".join(map(str, curves["sizes"])) + " | half at subset |",
        "|---" * (len(curves["sizes"]) + 2) + "|",
    ]
    for name, row in curves["relative"].items():
        value, low, high = curves["crossings"][name]
        text.append(f"| {name} | " + " | ".join(f"{v:.2f}" for v in row) + f" | {value:.2f} [{low:.2f}, {high:.2f}] |")
    value, low, high = curves["crossings"]["object < colour"]
    text += ["", f"Colour crosses one half {value:.2f} [{low:.2f}, {high:.2f}] subsets after the object.", ""]
    text += ["## Judges", "", f"CLIP, zero-shot on renders: {judges['clip_zero_shot']}. "
             f"DINO, nearest neighbour over unseen concepts: {judges['dino_nearest_neighbour']}."]  # fmt: skip
    speed = results["speed"]
    (batch, batch_usual), (alone, alone_usual) = speed["picture_in_batch"], speed["picture_alone"]
    text += ["", "## Size and speed", "", f"{results['size']['all']} MB in all. On {speed['threads']} threads, with "
             f"guidance: {batch} s per picture in batches of 16 and {alone} s alone with 25 steps, {batch_usual} s and "
             f"{alone_usual} s with the usual {speed['usual_steps']}; an XTI step of batch 8 "
             f"{speed['xti_step']} s."]  # fmt: skip
    (DOCS / "pocket.md").write_text("\n".join(text) + "\n")


def run(options: Options) -> None:
    """Measure what is not measured yet, then write the report."""
    weights = weights_hash()
    folder, sheets = options.work / f"report-{weights}", DOCS / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    sheets.mkdir(exist_ok=True)
    waiting = [name for name in measures.parts(options.count) if name not in collect(folder)]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for name in waiting:
        queue.put(name)
    workers = [
        context.Process(target=work, args=(queue, folder, sheets, options.count)) for _ in range(options.threads)
    ]
    for worker in workers:
        queue.put(None)
        worker.start()
    for worker in workers:
        worker.join()
    results = collect(folder)
    missing = [name for name in waiting if name not in results]
    if missing:
        raise RuntimeError(f"these parts failed: {', '.join(missing)}")
    if "speed" not in results:
        results["speed"] = measures.speed(options.threads)
        (folder / "speed.json").write_text(json.dumps(results["speed"]))
    write({"weights": weights, "size": measures.size(), **results})
    print((DOCS / "pocket.md").read_text())
