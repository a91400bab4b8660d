"""What the pocket model has to reach, and the report's words: pure functions of what was measured."""

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

from promptplus.evaluation.metrics import mean_interval, recovered
from promptplus.pocket.held_out import REPORT
from promptplus.pocket.world import ATTRIBUTES
from promptplus.report.tables import from_rows, to_markdown

CAPTIONS = {"object": 0.95, "colour": 0.94, "texture": 0.88, "background": 0.98, "style": 0.94}
"""What captions have to reach, or within `NEAR` of the same classifier on renders."""
NEAR = 0.03
MEAN_R, LEAST_R, NOVEL_R = 0.75, 0.55, 0.5
PSNR, COLOUR_LOSS = 28.0, 0.02
CLIP, DINO = 0.9, 0.9
MEGABYTES, BATCH_SECONDS, ALONE_SECONDS, STEP_SECONDS = 30.0, 0.6, 2.0, 0.3
KINDS = ("trained", "held out")
SEEDS = (0, 1)
CONCEPTS = """\
XTI by default settings. r = (similarity - floor) / (ceiling - floor): similarity of sixteen photos to the five
pictures, mean pairwise cosine of the judge DINO; floor: photos of the class word, the named shape that looks most like
it; ceiling: fresh renders in the same places. In words: the best caption of the three nearest nouns, in the concept's
own colours and texture; of a noun: of the three nearest made-up ones. That judge sees colours before shapes, so a
second one is asked for the shape alone: the share of the photos that are nearest, in the attribute judge's features, to
renders of this concept among all 24 unseen ones in the same colours (in brackets: of fresh renders). Below: the five
pictures, then what was learned."""
INERT = 0.05
"""A share of prompt 2 that is too small to see (our choice)."""


class Bar(NamedTuple):
    """One thing that must hold."""

    what: str
    asked: str
    measured: str
    met: bool


def bars(results: Mapping[str, Any]) -> list[Bar]:
    """Every bar, in order of priority."""
    trained, speed, judges = results["captions/trained"], results["speed"], results["judges"]
    found = [_caption(results, kind, name) for kind in KINDS for name in ATTRIBUTES]
    runs = [r for name in REPORT for r in recoveries(results, name)]
    found += [
        Bar("unseen concepts, mean r", f"≥ {MEAN_R}", f"{_r_interval(results)}", statistics.mean(runs) >= MEAN_R),
        Bar("unseen concepts, least r", f"≥ {LEAST_R}", f"{min(runs):.2f}", min(runs) >= LEAST_R),
    ]
    said = {name: max(results[f"words/{name}"][key] for key in ("r_words", "r_noun")) for name in REPORT}
    likest = max(said, key=said.__getitem__)
    found.append(
        Bar("novelty, r of any words", f"≤ {NOVEL_R}", f"{said[likest]:.2f} ({likest})", said[likest] <= NOVEL_R)
    )
    lost = trained["renders"]["colour"][0] - trained["reconstructions"]["colour"][0]
    found.append(Bar("autoencoder", f"≥ {PSNR:g} dB", f"{trained['psnr']} dB", trained["psnr"] >= PSNR))
    found.append(Bar("colours lost by it", f"≤ {COLOUR_LOSS}", f"{lost:.3f}", lost <= COLOUR_LOSS))
    later = results["curves"]["crossings"]["object < colour"]
    found.append(Bar("colour crosses half after the object", "interval > 0", _interval(later), later[1] > 0))
    zero_shot, nearest = judges["clip_zero_shot"]["object"], judges["dino_nearest_neighbour"]
    found.append(Bar("judge CLIP, zero-shot objects", f"≥ {CLIP}", f"{zero_shot:.3f}", zero_shot >= CLIP))
    found.append(Bar("judge DINO, nearest neighbour", f"≥ {DINO}", f"{nearest:.3f}", nearest >= DINO))
    limits = [
        ("bundled", results["size"]["all"], MEGABYTES, "MB"),
        ("a picture in a batch of 16, 25 steps", speed["picture_in_batch"][0], BATCH_SECONDS, "s"),
        ("a picture alone, 25 steps", speed["picture_alone"][0], ALONE_SECONDS, "s"),
        ("an XTI step, batch 8", speed["xti_step"], STEP_SECONDS, "s"),
    ]
    return found + [Bar(what, f"≤ {most:g} {unit}", f"{x:g} {unit}", x <= most) for what, x, most, unit in limits]


def _caption(results: Mapping[str, Any], kind: str, name: str) -> Bar:
    part = results[f"captions/{kind}"]
    value, render = part["generated"][name], part["renders"][name][0]
    least = min(CAPTIONS[name], render - NEAR)
    return Bar(f"captions, {kind}: {name}", f"≥ {least:.3f}", _interval(value), value[0] >= least)


def recoveries(results: Mapping[str, Any], name: str) -> list[float]:
    """A concept's r for each seed."""
    words = results[f"words/{name}"]
    found = [results[f"concept/{name}/{seed}"]["similarity"] for seed in SEEDS]
    return [recovered(similarity, words["floor"], words["ceiling"]) for similarity in found]


def _r_interval(results: Mapping[str, Any]) -> str:
    found = mean_interval([statistics.mean(recoveries(results, name)) for name in REPORT])
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _interval(numbers: Any) -> str:
    value, low, high = numbers
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def markdown(results: Mapping[str, Any]) -> str:
    """`docs/pocket.md`."""
    found = bars(results)
    head = (
        f"`make pocket-report` of the bundled files {results['weights']}. Intervals are 95 %: Wilson's for shares, "
        "else bootstrap."
    )
    parts = ["# The pocket model, measured", head, f"## Bars: {sum(bar.met for bar in found)} of {len(found)} met"]
    parts.append(
        _table(("", "asked", "measured", "met"), [(*bar[:3], "yes" if bar.met else "**no**") for bar in found])
    )
    parts += ["## Captions", _captions(results), *_pictures("captions-trained", "captions-held-out")]
    parts += ["## Unseen concepts", _concepts(results), *_pictures("concepts")]
    parts += ["## Layers", _layers(results["curves"]), *_pictures("curves", "subsets")]
    parts += ["## Size and speed", _speed(results)]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    return to_markdown(from_rows(head, rows))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def _pictures(*names: str) -> list[str]:
    return [f"![{name.replace('-', ' ')}](pictures/pocket/{name}.png)" for name in names]


def _captions(results: Mapping[str, Any]) -> str:
    rows = []
    for kind in KINDS:
        part = results[f"captions/{kind}"]
        for source in ("renders", "reconstructions", "generated"):
            cells = [f"{v:.3f} [{low:.2f}, {high:.2f}]" for v, low, high in (part[source][a] for a in ATTRIBUTES)]
            rows.append((f"{source}, {kind} combinations", part["pictures"], *cells))
    trained = results["captions/trained"]
    text = (
        "Share of pictures in which the attribute judge, which was trained on renders alone, sees what the caption "
        f"says. Fréchet distance in the judge DINO's features: {trained['frechet']} (renders against other renders: "
        f"{trained['frechet_floor']})."
    )
    return f"{text}\n\n{_table(('', 'pictures', *ATTRIBUTES), rows)}"


def _concepts(results: Mapping[str, Any]) -> str:
    rows = []
    for name in REPORT:
        words = results[f"words/{name}"]
        found = [f"{r:.2f}" for r in recoveries(results, name)]
        numbers = [f"{words[key]:.3f}" for key in ("floor", "ceiling")]
        said = f"{words['r_words']:.2f} ({words['caption']})", f"{words['r_noun']:.2f} ({words['noun']})"
        seen = [results[f"concept/{name}/{seed}"]["recognised"] for seed in SEEDS]
        shape = f"{statistics.mean(seen):.2f} ({words['recognised']:.2f})"
        rows.append((name, words["class_word"], *numbers, *found, shape, *said))
    head = ("concept", "class word", "floor", "ceiling", "r, seed 0", "r, seed 1", "shape", "r in words", "r of a noun")
    return f"{CONCEPTS}\n\n{_table(head, rows)}"


def _layers(curves: Mapping[str, Any]) -> str:
    names = list(curves["relative"])
    rows = [
        (name, *(f"{v:.2f}" for v in row), _interval(curves["crossings"][name]))
        for name, row in curves["relative"].items()
    ]
    middle = max(abs(curves["relative"][name][1]) for name in names)
    said = "next to nothing: it is inert" if middle < INERT else "something"
    text = (
        f"Share of prompt 2 when it takes a growing subset of the layers, coarse to fine; {curves['pairs']} pairs that "
        f"differ in every attribute, seen by the attribute judge. The 2 × 2 middle layer alone decides {said} (at most "
        f"{middle:.2f} of any attribute)."
    )
    return f"{text}\n\n{_table(('layers', *map(str, curves['sizes']), 'half at subset'), rows)}"


def _speed(results: Mapping[str, Any]) -> str:
    speed, usual = results["speed"], results["speed"]["usual_steps"]
    (batch, batch_usual), (alone, alone_usual) = speed["picture_in_batch"], speed["picture_alone"]
    threads = _counted(speed["threads"], "thread")
    return (
        f"{results['size']['all']} MB in all. On {threads}, with guidance: {batch} s for a picture in "
        f"batches of 16 and {alone} s alone with 25 steps, {batch_usual} s and {alone_usual} s with the usual {usual}; "
        f"an XTI step of batch 8 takes {speed['xti_step']} s."
    )
