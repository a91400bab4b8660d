"""How far the judges of pairs can be trusted, on drawings whose truth is known: ``python -m benchmarks.pairs``.

Mixes: fresh drawings of every shape in every looks, each taken for one of them all. Two in one prompt: how often
drawings of both, of one alone and of two others are above either concept's bar.
"""

import random

from PIL import Image

from promptplus.datasets import load_pictures
from promptplus.evaluation.judges import DinoJudge
from promptplus.experiments.mix_judge import SEED, MixJudge, disjoint_pairs
from promptplus.experiments.two_concepts import similarity_to_concepts, thresholds
from promptplus.pocket import CONCEPTS
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.held_out import HELD_OUT_OBJECTS, REPORT, render_mixture
from promptplus.pocket.world import BACKGROUNDS, NO_STYLE
from promptplus.pocket.world.painting import paint

DRAWN = 16  # of each kind and pair
FRESH = SEED + 1_000_000


def mixes(judge: AttributeJudge | DinoJudge) -> dict[str, float]:
    """Shares of fresh mixes whose shape, looks and both are told."""
    knows = MixJudge(judge, REPORT)
    asked = knows.combinations
    seen = knows.classify([render_mixture(*pair, BACKGROUNDS[i % 8], FRESH + i) for i, pair in enumerate(asked)])
    hits = {
        "shape": [a[0] == b[0] for a, b in zip(seen, asked, strict=True)],
        "looks": [a[1] == b[1] for a, b in zip(seen, asked, strict=True)],
        "both": [a == b for a, b in zip(seen, asked, strict=True)],
    }
    return {name: sum(found) / len(found) for name, found in hits.items()}


def together(dino: DinoJudge) -> dict[str, float]:
    """Shares of drawings that are above both bars, by what they show; means over pairs of report concepts."""
    pairs = disjoint_pairs(REPORT)
    found: dict[str, list[float]] = {"both": [], "the first alone": [], "the first twice": [], "two others": []}
    for pair, others in zip(pairs, [*pairs[1:], pairs[0]], strict=True):
        real = [dino.embed(load_pictures(CONCEPTS / name)) for name in pair]
        for shares, names in zip(found.values(), (pair, pair[:1], pair[:1] * 2, others), strict=True):
            (similarity,) = similarity_to_concepts([dino.embed(drawings(names))], real)
            shares.append(float((similarity > thresholds(real)).all(1).float().mean()))
    return {name: sum(shares) / len(shares) for name, shares in found.items()}


def drawings(names: tuple[str, ...]) -> list[Image.Image]:
    """Of one or two objects in their own looks."""
    looks = [HELD_OUT_OBJECTS[name] for name in names]
    return [paint(looks, BACKGROUNDS[i % 8], NO_STYLE, random.Random(FRESH + i)) for i in range(DRAWN)]


def main() -> None:
    """Measure and print."""
    for name, judge in (("attribute judge", AttributeJudge.load()), ("DINO", DinoJudge.load())):
        print(f"mixes, {name}: " + ", ".join(f"{part} {share:.3f}" for part, share in mixes(judge).items()))
    print("above both bars: " + ", ".join(f"{what} {share:.3f}" for what, share in together(DinoJudge.load()).items()))


if __name__ == "__main__":
    main()
