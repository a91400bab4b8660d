"""What `report` measures of captions, layers, judges, speed and size: the package's weights → plain values.

Judges never saw a picture that a model made; scenes and seeds are the report's own.
"""

import hashlib
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import promptplus as pp
from promptplus import pocket as package
from promptplus.evaluation.judges import ClipJudge, DinoJudge
from promptplus.evaluation.metrics import frechet_distance, share
from promptplus.experiments.attributes import picture_grid
from promptplus.experiments.takeover import PromptPair, measure, score_by_classifier, subset_takeovers
from promptplus.experiments.takeover_curves import PAPER, intervals, relative, takeover_figure
from promptplus.generation import generate
from promptplus.pictures import load_pictures
from promptplus.pocket import CONCEPTS
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.held_out import DEV, REPORT
from promptplus.pocket.world import (
    ATTRIBUTES,
    BACKGROUNDS,
    CLASSES,
    Scene,
    full_caption,
    labels,
    random_test_scene,
    render,
    render_object_concept,
)
from promptplus.profiles import STEPS
from promptplus.report.picture_grid import labelled_grid
from promptplus.training.invert import run_inversion

from .export import JUDGES
from .text_encoder import FORMS
from .vae import decode, encode

SEEDS = {"trained": 400_000_000, "held out": 500_000_000}
FRESH = 950_000_000
"""First seed of the judges' renders; no training, bundled or other test's picture has it."""
JUDGED = 1000
PAIRS = 64
CAPTION, LABEL = "{caption}", "{colour} {object}"
SHOWN, SHOWN_PAIRS = 14, 8
CPU = torch.device("cpu")


def to_tensor(images: list[Image.Image]) -> Tensor:
    """uint8 [N, 64, 64, 3]."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]))


def to_images(pictures: Tensor) -> list[Image.Image]:
    return [Image.fromarray(picture.numpy()) for picture in pictures]


def scenes_of(kind: str, count: int) -> list[Scene]:
    """Test scenes of trained combinations or of held-out ones."""
    return [random_test_scene(random.Random(SEEDS[kind] + i), held_out=kind == "held out") for i in range(count)]


def accuracies(judge: AttributeJudge, images: list[Image.Image], scenes: list[Scene]) -> dict[str, Any]:
    """Share of right answers for each attribute, with its 95 % interval."""
    answers, truth = judge.classify(images), [labels(scene) for scene in scenes]
    table = {}
    for column, name in enumerate(ATTRIBUTES):
        hits = [CLASSES[name][row[column]] == word for row, word in zip(truth, answers[name], strict=True)]
        table[name] = [round(number, 4) for number in share(hits)]
    return table


def captions(pplus: pp.PPlus, folder: Path, kind: str, count: int) -> dict[str, Any]:
    """Generated pictures of full captions, beside renders of the same scenes and their reconstructions."""
    judge, dino = AttributeJudge.load(), DinoJudge.load()
    scenes = scenes_of(kind, count)
    renders = [render(scene, SEEDS[kind] + i) for i, scene in enumerate(scenes)]
    others = [render(scene, SEEDS[kind] + count + i) for i, scene in enumerate(scenes)]
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


def curves(pplus: pp.PPlus, folder: Path) -> dict[str, Any]:
    """Subset curves over pairs of captions that differ in everything, and where each attribute crosses one half."""
    rng, pairs = random.Random(7), []
    while len(pairs) < PAIRS:
        one, two = (random_test_scene(rng) for _ in range(2))
        if all(a != b for a, b in zip(labels(one), labels(two), strict=True)):
            pairs.append(PromptPair(said_of(one), said_of(two)))
    takeovers, sizes = subset_takeovers(pplus.layers), [len(subset) for subset in pplus.layers.subsets()]
    picture_grid(pplus, pairs[:SHOWN_PAIRS], CAPTION, LABEL).save(folder / "subsets.png")
    scores = measure(
        pplus, pairs, takeovers, [0], score_by_classifier(AttributeJudge.load()), form=CAPTION, progress=True
    )
    found = intervals(scores, [("object", "style"), ("style", "colour"), ("object", "colour")])
    takeover_figure(scores, list(map(str, sizes)), "layers that take prompt 2, coarse to fine", PAPER).save(
        folder / "curves.png"
    )
    return {
        "pairs": PAIRS,
        "sizes": sizes,
        "share": {name: [round(float(v), 3) for v in table.mean(0)] for name, table in scores.items()},
        "relative": {name: [round(float(v), 3) for v in relative(table)] for name, table in scores.items()},
        "crossings": {name: [round(v, 3) for v in (i.value, i.low, i.high)] for name, i in found.items()},
    }


def said_of(scene: Scene) -> dict[str, str]:
    """A scene's word for each attribute, and its caption."""
    words = {name: CLASSES[name][label] for name, label in zip(ATTRIBUTES, labels(scene), strict=True)}
    return {**words, "caption": full_caption(scene)}


def judges() -> dict[str, Any]:
    """Zero-shot accuracy of the judge CLIP on renders, nearest-neighbour accuracy of the judge DINO over concepts."""
    clip, dino = ClipJudge.load(), DinoJudge.load()
    scenes = scenes_of("trained", JUDGED)
    embedded = clip.embed([render(scene, FRESH + i) for i, scene in enumerate(scenes)])
    zero_shot = {}
    for column, name in enumerate(ATTRIBUTES):
        texts = clip.embed_texts([FORMS[name].format(word) for word in CLASSES[name]])
        answers = (embedded @ texts.T).argmax(1)
        zero_shot[name] = round((answers == torch.tensor([labels(s)[column] for s in scenes])).float().mean().item(), 4)
    names = (*DEV, *REPORT)
    known = torch.cat([dino.embed(load_pictures(CONCEPTS / name)) for name in names])
    owner = [i for i, name in enumerate(names) for _ in load_pictures(CONCEPTS / name)]
    hits = []
    for i, name in enumerate(names):
        fresh = dino.embed([render_object_concept(name, place, FRESH + 50 + j) for j, place in enumerate(BACKGROUNDS)])
        hits += [owner[int(row.argmax())] == i for row in fresh @ known.T]
    return {"pictures": JUDGED, "clip_zero_shot": zero_shot, "dino_nearest_neighbour": round(sum(hits) / len(hits), 4)}


def changed_judges() -> list[str]:
    """Judges whose weights are not those that were frozen before the first score (`card.json`)."""
    root = Path(package.__file__).parent
    frozen = json.loads((root / "card.json").read_text("utf-8"))["sha256"]
    files = {name: next((root / name).glob("*.safetensors")) for name in JUDGES}
    return [name for name, file in files.items() if hashlib.sha256(file.read_bytes()).hexdigest() != frozen[name]]


def speed(threads: int) -> dict[str, Any]:
    """Seconds per picture, in batches of sixteen and alone, with 25 and the usual steps; per XTI step of batch 8."""
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


def size() -> dict[str, Any]:
    """Megabytes of what ships with the pocket: weights, judges, concepts."""
    root = Path(package.__file__).parent
    shipped = {folder.name: [f.stat().st_size for f in folder.rglob("*") if f.is_file()] for folder in root.iterdir()}
    parts = {name: round(sum(sizes) / 1e6, 2) for name, sizes in shipped.items() if sizes and name != "__pycache__"}
    return {**parts, "all": round(sum(parts.values()), 2)}
