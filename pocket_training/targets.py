"""The targets of the pocket model and the text of its report: pure functions of the measured results."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from promptplus.evaluation.metrics import mean_interval, recovered
from promptplus.pocket.held_out import REPORT
from promptplus.pocket.world import ATTRIBUTES
from promptplus.report.tables import from_rows, to_markdown

from .results import (
    MIX_LAYERS,
    CaptionScores,
    ConceptScores,
    Interval,
    JudgeScores,
    LayerCurves,
    Results,
    Speed,
    SplitScores,
    TextScores,
)

# The targets. All are our choice.
CAPTIONS = {
    "trained": {"object": 0.97, "colour": 0.94, "texture": 0.95, "background": 0.98, "style": 0.94},
    "held out": {"object": 0.95, "colour": 0.94, "texture": 0.94, "background": 0.98, "style": 0.94},
}
"""Least share of generated pictures with the attribute of the caption, by kind of combination."""
FRECHET = 0.003
"""Greatest Fréchet distance of generated pictures to renders, in the judge DINO's features."""
MEAN_R, LEAST_R = 0.85, 0.6
"""Recovery r of the `report` concepts: mean and least."""
SPLIT, MIX = 0.85, 0.6
"""Least share of the split test's pictures with the object of the coarse layers' prompt, and of mixes with one
concept's shape and the other's appearance."""
NOVEL_R = 0.5
"""Greatest recovery r of any text for a concept."""
PSNR, COLOUR_LOSS = 28.0, 0.02
"""Of reconstructions by the autoencoder: least PSNR in decibels, greatest loss of recognised colours."""
CLIP, DINO = 0.9, 0.9
"""Least accuracy of the judge CLIP (zero-shot, objects) and of the judge DINO (nearest neighbour)."""
MEGABYTES, USUAL_SECONDS, BATCH_SECONDS, ALONE_SECONDS, STEP_SECONDS = 32.0, 0.3, 0.6, 2.0, 0.3
KINDS = ("trained", "held out")
"""Combinations of object, colour and texture."""
SEEDS = (0, 1)
"""Seeds with which each concept is learned."""
CONCEPTS = """\
XTI by default settings. r = (similarity - floor) / (ceiling - floor). Similarity: mean pairwise cosine between sixteen
generated pictures and the five real pictures, in the judge DINO's features. Floor: pictures of the class word, the
named shape that looks most like the concept. Ceiling: fresh renders on the same backgrounds. r in words: the best
caption of the three nearest nouns, with the concept's colours and texture. r of a noun: the same with the three nearest
made-up nouns. The judge DINO is more sensitive to colours than to shapes, so another judge measures the shape: the
share of pictures that are nearest, in the attribute judge's features, to renders of this concept among all 24 held-out
objects in the same colours (in brackets: of fresh renders). Below: the five real pictures, then generated ones."""
INERT = 0.05
"""Below this share of prompt 2 the middle layer is called inert (our choice)."""


class Target(NamedTuple):
    """One target and what was measured."""

    name: str
    required: str
    measured: str
    met: bool


def all_targets(results: Results) -> list[Target]:
    """Every target, in order of priority."""
    speed: Speed = results["speed"]
    limits = [
        ("bundled", results["size"]["all"], MEGABYTES, "MB"),
        ("a picture in a batch of 16, 12 steps", speed["picture_in_batch"][1], USUAL_SECONDS, "s"),
        ("a picture in a batch of 16, 25 steps", speed["picture_in_batch"][0], BATCH_SECONDS, "s"),
        ("a picture alone, 25 steps", speed["picture_alone"][0], ALONE_SECONDS, "s"),
        ("an XTI step, batch 8", speed["xti_step"], STEP_SECONDS, "s"),
    ]
    return [
        *(_caption_target(results, kind, name) for kind in KINDS for name in ATTRIBUTES),
        *_concept_targets(results),
        *_model_targets(results),
        *(Target(name, f"≤ {most:g} {unit}", f"{x:g} {unit}", x <= most) for name, x, most, unit in limits),
    ]


def _caption_target(results: Results, kind: str, name: str) -> Target:
    scores: CaptionScores = results[f"captions/{kind}"]
    generated, least = scores["generated"][name], CAPTIONS[kind][name]
    return Target(f"captions, {kind}: {name}", f"≥ {least:.2f}", _interval(generated), generated[0] >= least)


def _concept_targets(results: Results) -> list[Target]:
    runs = [r for name in REPORT for r in recoveries(results, name)]
    texts = {name: max(results[f"words/{name}"][key] for key in ("r_words", "r_noun")) for name in REPORT}
    nearest = max(texts, key=texts.__getitem__)
    novelty = f"{texts[nearest]:.2f} ({nearest})"
    return [
        Target("held-out concepts, mean r", f"≥ {MEAN_R}", _mean_r(results), statistics.mean(runs) >= MEAN_R),
        Target("held-out concepts, least r", f"≥ {LEAST_R}", f"{min(runs):.2f}", min(runs) >= LEAST_R),
        Target("novelty, r of any words", f"≤ {NOVEL_R}", novelty, texts[nearest] <= NOVEL_R),
    ]


def _model_targets(results: Results) -> list[Target]:
    trained: CaptionScores = results["captions/trained"]
    curves: LayerCurves = results["curves"]
    judges: JudgeScores = results["judges"]
    split, mixed = results["split"]["object"], results["mixing"]["coarse"]
    lost = trained["renders"]["colour"][0] - trained["reconstructions"]["colour"][0]
    later = curves["crossings"]["object < colour"]
    zero_shot, nearest = judges["clip_zero_shot"]["object"], judges["dino_nearest_neighbour"]
    return [
        Target("Fréchet distance", f"≤ {FRECHET:g}", f"{trained['frechet']:.4f}", trained["frechet"] <= FRECHET),
        Target(
            "split test: object from the coarse layers' prompt", f"≥ {SPLIT:g}", _interval(split), split[0] >= SPLIT
        ),
        Target("a mix has one's shape and the other's appearance", f"≥ {MIX:g}", _interval(mixed), mixed[0] >= MIX),
        Target("autoencoder", f"≥ {PSNR:g} dB", f"{trained['psnr']} dB", trained["psnr"] >= PSNR),
        Target("colours lost by it", f"≤ {COLOUR_LOSS}", f"{lost:.3f}", lost <= COLOUR_LOSS),
        Target("colour crosses half after the object", "interval > 0", _interval(later), later[1] > 0),
        Target("judge CLIP, zero-shot objects", f"≥ {CLIP}", f"{zero_shot:.3f}", zero_shot >= CLIP),
        Target("judge DINO, nearest neighbour", f"≥ {DINO}", f"{nearest:.3f}", nearest >= DINO),
    ]


def recoveries(results: Results, name: str) -> list[float]:
    """Recovery r of a concept, for each seed."""
    texts: TextScores = results[f"words/{name}"]
    learned: list[ConceptScores] = [results[f"concept/{name}/{seed}"] for seed in SEEDS]
    return [recovered(scores["similarity"], texts["floor"], texts["ceiling"]) for scores in learned]


def _mean_r(results: Results) -> str:
    mean = mean_interval([statistics.mean(recoveries(results, name)) for name in REPORT])
    return f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]"


def _interval(numbers: Interval) -> str:
    value, low, high = numbers
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def markdown(results: Results) -> str:
    """The text of `docs/pocket.md`."""
    targets = all_targets(results)
    head = (
        f"`make pocket-report` of the bundled files {results['weights']}. Intervals are 95 %: Wilson's for shares, "
        "else bootstrap."
    )
    rows = [(*target[:3], "yes" if target.met else "**no**") for target in targets]
    parts = ["# The pocket model, measured", head]
    parts += [f"## Targets: {sum(target.met for target in targets)} of {len(targets)} met"]
    parts += [_table(("", "required", "measured", "met"), rows)]
    parts += ["## Captions", _captions(results), *_pictures("captions-trained", "captions-held-out")]
    parts += ["## Held-out concepts", _concepts(results), *_pictures("concepts")]
    parts += ["## Layers", _layers(results["curves"]), *_pictures("curves", "subsets")]
    parts += ["## Split test and mixing", _split(results)]
    parts += ["## Size and speed", _speed(results)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return to_markdown(from_rows(head, rows))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _pictures(*names: str) -> list[str]:
    return [f"![{name.replace('-', ' ')}](pictures/pocket/{name}.png)" for name in names]


def _captions(results: Results) -> str:
    rows = []
    for kind in KINDS:
        scores: CaptionScores = results[f"captions/{kind}"]
        sources = {key: scores[key] for key in ("renders", "reconstructions", "generated")}
        for source, shares in sources.items():
            cells = [f"{v:.3f} [{low:.2f}, {high:.2f}]" for v, low, high in (shares[a] for a in ATTRIBUTES)]
            rows.append((f"{source}, {kind} combinations", scores["pictures"], *cells))
    trained: CaptionScores = results["captions/trained"]
    text = (
        "Share of pictures in which the attribute judge finds the attribute of the caption. The attribute judge was "
        f"trained on renders only. Fréchet distance in the judge DINO's features: {trained['frechet']} (renders "
        f"against other renders: {trained['frechet_floor']})."
    )
    return f"{text}\n\n{_table(('', 'pictures', *ATTRIBUTES), rows)}"


def _concepts(results: Results) -> str:
    rows = []
    for name in REPORT:
        texts: TextScores = results[f"words/{name}"]
        recovery = [f"{r:.2f}" for r in recoveries(results, name)]
        limits = f"{texts['floor']:.3f}", f"{texts['ceiling']:.3f}"
        captions = f"{texts['r_words']:.2f} ({texts['caption']})", f"{texts['r_noun']:.2f} ({texts['noun']})"
        recognised = statistics.mean(results[f"concept/{name}/{seed}"]["recognised"] for seed in SEEDS)
        shape = f"{recognised:.2f} ({texts['recognised']:.2f})"
        rows.append((name, texts["class_word"], *limits, *recovery, shape, *captions))
    head = ("concept", "class word", "floor", "ceiling", "r, seed 0", "r, seed 1", "shape", "r in words", "r of a noun")
    return f"{CONCEPTS}\n\n{_table(head, rows)}"


def _layers(curves: LayerCurves) -> str:
    rows = [
        (name, *(f"{v:.2f}" for v in row), _interval(curves["crossings"][name]))
        for name, row in curves["relative"].items()
    ]
    middle = max(abs(row[1]) for row in curves["relative"].values())
    effect = "next to nothing: it is inert" if middle < INERT else "something"
    text = (
        "Share of pictures with the attribute of prompt 2, when a growing subset of the layers, coarse to fine, takes "
        f"prompt 2. {curves['pairs']} pairs of prompts that differ in every attribute; measured by the attribute "
        f"judge. The 2 × 2 middle layer alone changes {effect} (at most {middle:.2f} of any attribute)."
    )
    return f"{text}\n\n{_table(('layers', *map(str, curves['sizes']), 'half at subset'), rows)}"


def _split(results: Results) -> str:
    split: SplitScores = results["split"]
    mixing: dict[str, Interval] = results["mixing"]
    mixes = "; ".join(f"{layers}: {_interval(mixing[layers])}" for layers in MIX_LAYERS)
    return (
        f"Split test, {split['pictures']} pictures: the coarse layers' prompt names an object, the others' a colour. "
        f"Pictures with this object: {_interval(split['object'])}; with one prompt for all layers "
        f"{_interval(split['one_prompt'])}; with this colour: {_interval(split['colour'])}. Mixes, by the layers that "
        f"have the first concept; pictures with its shape and the second one's appearance: {mixes}."
    )


def _speed(results: Results) -> str:
    speed: Speed = results["speed"]
    (batch, batch_usual), (alone, alone_usual) = speed["picture_in_batch"], speed["picture_alone"]
    threads, usual = _counted(speed["threads"], "thread"), speed["usual_steps"]
    return (
        f"{results['size']['all']} MB in all. On {threads}, with guidance and 25 steps, a picture takes {batch} s in "
        f"batches of 16 and {alone} s alone; with the usual {usual} steps {batch_usual} s and {alone_usual} s. An XTI "
        f"step of batch 8 takes {speed['xti_step']} s."
    )
