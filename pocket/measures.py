"""What `report` measures: each part is a function of the package's weights that gives plain values.

Judges never saw a picture that a model made; scenes and seeds are the report's own. `dev` concepts are not touched.
"""

import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import promptplus as pp
from promptplus import pocket as package
from promptplus.analysis.attributes import Pair, by_classifier, measure, pictures, subset_takeovers
from promptplus.analysis.curves import intervals, relative
from promptplus.analysis.mixing import in_words
from promptplus.evaluation.judges import AttributeJudge, ClipJudge, DinoJudge
from promptplus.evaluation.metrics import frechet_distance, recovered, share, subject_similarity
from promptplus.generation import STEPS, generate
from promptplus.inversion.images import load_pictures, read_note
from promptplus.inversion.trainer import run_inversion
from promptplus.pocket import CONCEPTS
from promptplus.pocket.concepts import DEV, REPORT
from promptplus.pocket.painting import paint
from promptplus.pocket.scenes import figures
from promptplus.pocket.world import (
    ATTRIBUTES,
    BACKGROUNDS,
    CLASSES,
    MADE_UP,
    NO_STYLE,
    OBJECTS,
    UNSEEN_OBJECTS,
    Scene,
    full_caption,
    labels,
    random_test_scene,
    render,
    render_object_concept,
)

from .clip import FORMS
from .vae import decode, encode

SEEDS = {"trained": 400_000_000, "held out": 500_000_000}
FRESH = 900_000_000
"""First seed of the ceilings' renders; no training or bundled picture has it."""
PICTURES = 16
"""Of a concept, of its ceiling and of its floor."""
PAIRS = 64
CAPTION = "{caption}"
TRIED = 3
"""Named shapes whose captions are tried for each concept: those the judge finds nearest."""
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


def captions(pplus: pp.PPlus, sheets: Path, kind: str, count: int) -> dict[str, Any]:
    """Generated pictures of full captions, beside renders of the same scenes and their reconstructions."""
    judge, dino = AttributeJudge.load(), DinoJudge.load()
    scenes = scenes_of(kind, count)
    renders = [render(scene, SEEDS[kind] + i) for i, scene in enumerate(scenes)]
    others = [render(scene, SEEDS[kind] + count + i) for i, scene in enumerate(scenes)]
    vae = pplus.pipe.vae
    restored = decode(vae, encode(vae, to_tensor(renders), CPU), CPU)
    generated = generate(pplus, [full_caption(s) for s in scenes], range(count), progress=f"captions, {kind}")
    strips = [torch.cat(list(part[:16]), 1) for part in (to_tensor(renders), restored, to_tensor(generated))]
    Image.fromarray(torch.cat(strips).numpy()).save(sheets / f"captions-{kind.replace(' ', '-')}.png")
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


def curves(pplus: pp.PPlus, sheets: Path) -> dict[str, Any]:
    """Subset curves over pairs of captions that differ in everything, and where each attribute crosses one half."""
    rng, pairs = random.Random(7), []
    while len(pairs) < PAIRS:
        one, two = (random_test_scene(rng) for _ in range(2))
        if all(a != b for a, b in zip(labels(one), labels(two), strict=True)):
            pairs.append(Pair(said_of(one), said_of(two)))
    takeovers = subset_takeovers(pplus.layers)
    shown = [picture for pair in pairs[:8] for t in takeovers for picture in pictures(pplus, [pair], t, [0], CAPTION)]
    rows = [torch.cat(list(to_tensor(shown[i : i + len(takeovers)])), 1) for i in range(0, len(shown), len(takeovers))]
    Image.fromarray(torch.cat(rows).numpy()).save(sheets / "subsets.png")
    scores = measure(pplus, pairs, takeovers, [0], by_classifier(AttributeJudge.load()), form=CAPTION, progress=True)
    found = intervals(scores, [("object", "colour")])
    return {
        "pairs": PAIRS,
        "sizes": [len(subset) for subset in pplus.layers.subsets()],
        "share": {name: [round(float(v), 3) for v in table.mean(0)] for name, table in scores.items()},
        "relative": {name: [round(float(v), 3) for v in relative(table)] for name, table in scores.items()},
        "crossings": {name: [round(v, 3) for v in (i.value, i.low, i.high)] for name, i in found.items()},
    }


def said_of(scene: Scene) -> dict[str, str]:
    """A scene's word for each attribute, and its caption."""
    words = {name: CLASSES[name][label] for name, label in zip(ATTRIBUTES, labels(scene), strict=True)}
    return {**words, "caption": full_caption(scene)}


class ConceptScorer:
    """Similarity to one concept's pictures in the judge DINO's eyes, between floor and ceiling."""

    def __init__(self, pplus: pp.PPlus, name: str) -> None:
        self.pplus, self.name, self.dino = pplus, name, DinoJudge.load()
        self.real = self.dino.embed(load_pictures(CONCEPTS / name))
        places = [BACKGROUNDS[i % len(BACKGROUNDS)] for i in range(PICTURES)]
        self.ceiling = self.of([render_object_concept(name, place, FRESH + i) for i, place in enumerate(places)])

    def of(self, images: list[Image.Image]) -> float:
        return subject_similarity(self.real, self.dino.embed(images))

    def prompt(self, text: str, seed: int = 0) -> tuple[float, list[Image.Image]]:
        """Similarity of sixteen pictures of a prompt, and the pictures."""
        images = generate(self.pplus, [text] * PICTURES, range(seed, seed + PICTURES))
        return self.of(images), images


def concept(pplus: pp.PPlus, sheets: Path, name: str, seed: int) -> dict[str, Any]:
    """One inversion with default settings, and the similarity of its pictures."""
    scorer = ConceptScorer(pplus, name)
    learned = pp.invert(pplus, CONCEPTS / name, seed=seed)
    pplus.add(learned)
    similarity, images = scorer.prompt(f"a photo of a {learned.token}", 1000 * seed)
    pplus.forget(learned.token)
    shown = to_tensor([*load_pictures(CONCEPTS / name), *images[:11]])
    Image.fromarray(torch.cat(list(shown), 1).numpy()).save(sheets / f"concept-{name}-{seed}.png")
    return {"similarity": round(similarity, 4)}


def words(pplus: pp.PPlus, _sheets: Path, name: str) -> dict[str, Any]:
    """What words do for a concept: floor and ceiling; r of the best caption and of the nearest made-up noun."""
    scorer = ConceptScorer(pplus, name)
    class_word = read_note(CONCEPTS / name).class_word
    floor, _ = scorer.prompt(f"a photo of a {class_word}")
    tried = {noun: in_words(UNSEEN_OBJECTS[name], noun) for noun in nearest(scorer, OBJECTS)[:TRIED]}
    scores = {noun: scorer.prompt(text)[0] for noun, text in tried.items()}
    best, noun = max(scores, key=scores.__getitem__), nearest(scorer, MADE_UP)[0]
    return {
        "class_word": class_word,
        "floor": round(floor, 4),
        "ceiling": round(scorer.ceiling, 4),
        "caption": tried[best],
        "noun": noun,
        "r_words": round(recovered(scores[best], floor, scorer.ceiling), 3),
        "r_noun": round(recovered(scorer.prompt(in_words(UNSEEN_OBJECTS[name], noun))[0], floor, scorer.ceiling), 3),
    }


def nearest(scorer: ConceptScorer, nouns: tuple[str, ...]) -> list[str]:
    """Nouns by how much their figures, painted in the concept's own colours, look like it; the likest first."""
    look = UNSEEN_OBJECTS[scorer.name]
    drawn = [paint([replace(look, figure=figures()[noun])], "white", NO_STYLE, random.Random(0)) for noun in nouns]
    likeness = (scorer.dino.embed(drawn) @ scorer.real.T).mean(1)
    return [nouns[i] for i in likeness.argsort(descending=True).tolist()]


def judges(_pplus: pp.PPlus, _sheets: Path, count: int = 1000) -> dict[str, Any]:
    """Zero-shot accuracy of the judge CLIP on renders, nearest-neighbour accuracy of the judge DINO over concepts."""
    clip, dino = ClipJudge.load(), DinoJudge.load()
    scenes = scenes_of("trained", count)
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
    return {"clip_zero_shot": zero_shot, "dino_nearest_neighbour": round(sum(hits) / len(hits), 4)}


def parts(count: int) -> dict[str, Callable[[pp.PPlus, Path], dict[str, Any]]]:
    """Every part of the report by name, in the order they run."""
    jobs: dict[str, Callable[[pp.PPlus, Path], dict[str, Any]]] = {"judges": judges}
    jobs["captions/trained"] = lambda pplus, sheets: captions(pplus, sheets, "trained", count)
    jobs["captions/held out"] = lambda pplus, sheets: captions(pplus, sheets, "held out", count // 2)
    jobs["curves"] = curves
    for name in REPORT:
        jobs[f"words/{name}"] = lambda pplus, sheets, name=name: words(pplus, sheets, name)
        for seed in (0, 1):
            jobs[f"concept/{name}/{seed}"] = lambda pplus, sheets, name=name, seed=seed: concept(
                pplus, sheets, name, seed
            )
    return jobs


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
