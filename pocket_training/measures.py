"""Measurements for the report: captions, layers, judges, speed and size of the bundled model.

The judges were trained on renders only. No training picture and no bundled picture has the scenes and seeds used here.
"""

import hashlib
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

import promptplus as pp
from promptplus import pocket as package
from promptplus.datasets import load_pictures
from promptplus.evaluation.judges import ClipJudge, DinoJudge
from promptplus.evaluation.metrics import frechet_distance, share
from promptplus.experiments.attributes import picture_grid
from promptplus.experiments.split import measure_split
from promptplus.experiments.takeover import PromptPair, measure, score_by_classifier, subset_takeovers
from promptplus.experiments.takeover_curves import PAPER, intervals, relative, takeover_figure
from promptplus.generation import generate
from promptplus.pocket import CONCEPTS
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.held_out import DEV, REPORT, render_object_concept
from promptplus.pocket.world import (
    ATTRIBUTES,
    BACKGROUNDS,
    CLASSES,
    COLOURS,
    OBJECTS,
    Scene,
    full_caption,
    labels,
    random_test_scene,
    render,
    words_of,
)
from promptplus.profiles import STEPS
from promptplus.report.picture_grid import labelled_grid
from promptplus.training.invert import run_inversion

from .export import JUDGES
from .results import CaptionScores, Interval, JudgeScores, LayerCurves, Speed, SplitScores, rounded
from .text_encoder import FORMS
from .vae import decode, encode

FIRST_SEEDS = {"trained": 400_000_000, "held out": 500_000_000}
FRESH = 950_000_000
"""First seed of the renders for the judges; no training picture and no bundled picture has it."""
JUDGED = 1000
"""Number of renders for the judge CLIP."""
PAIRS = 64
"""Number of pairs of captions for the layer curves."""
SPLIT_SEEDS = 4
"""Number of pictures of each object in the split test."""
CAPTION, LABEL = "{caption}", "{colour} {object}"
SHOWN, SHOWN_PAIRS = 14, 8
"""Number of columns in the picture of the captions, and of pairs in the picture of the layer curves."""
CPU = torch.device("cpu")


def to_tensor(images: list[Image.Image]) -> UInt8[Tensor, "pictures 64 64 3"]:
    """The pictures as one tensor."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]))


def to_images(pictures: UInt8[Tensor, "pictures 64 64 3"]) -> list[Image.Image]:
    """The tensor's pictures."""
    return [Image.fromarray(picture.numpy()) for picture in pictures]


def scenes_of(kind: str, count: int) -> list[Scene]:
    """Random test scenes; `kind` is "trained" or "held out" and refers to combinations of attributes."""
    return [random_test_scene(random.Random(FIRST_SEEDS[kind] + i), held_out=kind == "held out") for i in range(count)]


def accuracies(judge: AttributeJudge, images: list[Image.Image], scenes: list[Scene]) -> dict[str, Interval]:
    """Share of pictures that the attribute judge classifies correctly, with 95 % intervals, by attribute."""
    answers, truth = judge.classify(images), [labels(scene) for scene in scenes]
    table: dict[str, Interval] = {}
    for column, name in enumerate(ATTRIBUTES):
        hits = [CLASSES[name][row[column]] == word for row, word in zip(truth, answers[name], strict=True)]
        table[name] = [round(number, 4) for number in share(hits)]
    return table


def measure_captions(pplus: pp.PPlus, folder: Path, kind: str, count: int) -> CaptionScores:
    """Compare generated pictures of full captions, renders of the same scenes and their reconstructions.

    Writes `captions-KIND.png` to `folder`.
    """
    judge, dino = AttributeJudge.load(), DinoJudge.load()
    scenes = scenes_of(kind, count)
    renders = [render(scene, FIRST_SEEDS[kind] + i) for i, scene in enumerate(scenes)]
    others = [render(scene, FIRST_SEEDS[kind] + count + i) for i, scene in enumerate(scenes)]
    vae = pplus.pipe.vae
    restored = decode(vae, encode(vae, to_tensor(renders), CPU), CPU)
    generated = generate(pplus, [full_caption(s) for s in scenes], range(count), progress=f"captions, {kind}")
    shown = [part[:SHOWN] for part in (renders, to_images(restored), generated)]
    sheet = labelled_grid(shown, row_labels=["renders", "reconstructed", "generated"], cell=64)
    sheet.save(folder / f"captions-{kind.replace(' ', '-')}.png")
    error = (restored.float() - to_tensor(renders).float()).square().mean().item()
    features = {name: dino.embed(pictures) for name, pictures in
                (("renders", renders), ("others", others), ("generated", generated))}  # fmt: skip
    return {
        "pictures": count,
        "renders": accuracies(judge, renders, scenes),
        "reconstructions": accuracies(judge, to_images(restored), scenes),
        "generated": accuracies(judge, generated, scenes),
        "psnr": round(10 * math.log10(255**2 / error), 2),
        "frechet": round(frechet_distance(features["renders"], features["generated"]), 4),
        "frechet_floor": round(frechet_distance(features["renders"], features["others"]), 4),
    }


def measure_layers(pplus: pp.PPlus, folder: Path) -> LayerCurves:
    """Takeover curves over pairs of captions that differ in every attribute, and where each curve crosses one half.

    Writes `subsets.png` and `curves.png` to `folder`.
    """
    rng, pairs = random.Random(7), []
    while len(pairs) < PAIRS:
        one, two = (random_test_scene(rng) for _ in range(2))
        if all(a != b for a, b in zip(labels(one), labels(two), strict=True)):
            pairs.append(PromptPair(prompt_of(one), prompt_of(two)))
    takeovers, sizes = subset_takeovers(pplus.layers), [len(subset) for subset in pplus.layers.subsets()]
    picture_grid(pplus, pairs[:SHOWN_PAIRS], CAPTION, LABEL).save(folder / "subsets.png")
    scores = measure(
        pplus, pairs, takeovers, [0], score_by_classifier(AttributeJudge.load()), form=CAPTION, progress=True
    )
    crossings = intervals(scores, [("object", "style"), ("style", "colour"), ("object", "colour")])
    takeover_figure(scores, list(map(str, sizes)), "layers that take prompt 2, coarse to fine", PAPER).save(
        folder / "curves.png"
    )
    return {
        "pairs": PAIRS,
        "sizes": sizes,
        "share": {name: [round(float(v), 3) for v in table.mean(0)] for name, table in scores.items()},
        "relative": {name: [round(float(v), 3) for v in relative(table)] for name, table in scores.items()},
        "crossings": {name: rounded(interval, 3) for name, interval in crossings.items()},
    }


def measure_split_test(pplus: pp.PPlus) -> SplitScores:
    """The split test with every named object (`promptplus.experiments.split`)."""
    judges = {"classifier": AttributeJudge.load().classify}
    found = measure_split(pplus, judges, OBJECTS, tuple(COLOURS), SPLIT_SEEDS, progress=True)["classifier"]

    shares = {"object": found.object, "colour": found.colour, "one_prompt": found.one_object}
    return SplitScores(pictures=found.pictures, **{name: rounded(share) for name, share in shares.items()})


def prompt_of(scene: Scene) -> dict[str, str]:
    """The word of each attribute of a scene, and its full caption."""
    return {**words_of(scene), "caption": full_caption(scene)}


def measure_judges() -> JudgeScores:
    """Zero-shot accuracy of the judge CLIP on renders; nearest-neighbour accuracy of the judge DINO on concepts."""
    clip, dino = ClipJudge.load(), DinoJudge.load()
    scenes = scenes_of("trained", JUDGED)
    embedded = clip.embed([render(scene, FRESH + i) for i, scene in enumerate(scenes)])
    zero_shot = {}
    for column, name in enumerate(ATTRIBUTES):
        texts = clip.embed_texts([FORMS[name].format(word) for word in CLASSES[name]])
        answers = (embedded @ texts.T).argmax(1)
        zero_shot[name] = round((answers == torch.tensor([labels(s)[column] for s in scenes])).float().mean().item(), 4)
    names = (*DEV, *REPORT)
    real = torch.cat([dino.embed(load_pictures(CONCEPTS / name)) for name in names])
    concept_of = [i for i, name in enumerate(names) for _ in load_pictures(CONCEPTS / name)]
    hits: list[bool] = []
    for i, name in enumerate(names):
        fresh = dino.embed([render_object_concept(name, place, FRESH + 50 + j) for j, place in enumerate(BACKGROUNDS)])
        hits += [concept_of[int(row.argmax())] == i for row in fresh @ real.T]
    return {"pictures": JUDGED, "clip_zero_shot": zero_shot, "dino_nearest_neighbour": round(sum(hits) / len(hits), 4)}


def changed_judges() -> list[str]:
    """Names of the judges whose weights differ from `card.json`, which was written before the first measurement."""
    root = Path(package.__file__).parent
    frozen = json.loads((root / "card.json").read_text("utf-8"))["sha256"]
    files = {name: next((root / name).glob("*.safetensors")) for name in JUDGES}
    return [name for name, file in files.items() if hashlib.sha256(file.read_bytes()).hexdigest() != frozen[name]]


def measure_speed(threads: int) -> Speed:
    """Seconds per picture, in batches of 16 and alone, with 25 steps and the usual number; per XTI step of batch 8."""
    torch.set_num_threads(threads)
    with pp.PPlus(pp.load("pocket", device="cpu")) as pplus:

        def per_picture(batch: int, steps: int) -> float:
            generate(pplus, ["a red house"] * batch, range(batch), steps=2)
            began = time.perf_counter()
            generate(pplus, ["a red house"] * batch, range(batch), steps=steps)
            return round((time.perf_counter() - began) / batch, 3)

        run = run_inversion(pplus, CONCEPTS / DEV[0], steps=20, progress=False)
        return {
            "threads": threads,
            "usual_steps": STEPS,
            "picture_in_batch": [per_picture(16, steps) for steps in (25, STEPS)],
            "picture_alone": [per_picture(1, steps) for steps in (25, STEPS)],
            "xti_step": round(run.seconds / 20, 3),
        }


def measure_size() -> dict[str, float]:
    """Megabytes of each folder that ships with the pocket, and of "all"."""
    root = Path(package.__file__).parent
    shipped = {folder.name: [f.stat().st_size for f in folder.rglob("*") if f.is_file()] for folder in root.iterdir()}
    parts = {name: round(sum(sizes) / 1e6, 2) for name, sizes in shipped.items() if sizes and name != "__pycache__"}
    return {**parts, "all": round(sum(parts.values()), 2)}
