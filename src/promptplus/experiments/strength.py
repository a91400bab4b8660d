"""The study of strength: how far the text states of some layers can be moved towards a part's text, and beyond it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, Unpack

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from promptplus.denoisers import denoiser_of
from promptplus.evaluation.judges import DinoJudge
from promptplus.experiments.strength_curves import breaks, curve_of, halfway, useful
from promptplus.experiments.study import Study
from promptplus.experiments.takeover import FORM, ClassifyFunction, PromptPair, draw_pairs, fill_form, judges_for
from promptplus.generation import generate
from promptplus.layers import LayerMap
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pplus import PPlus
from promptplus.profiles import SamplingOptions, Words, profile_of
from promptplus.prompt_parts import Part
from promptplus.prompts import PPlusPrompt
from promptplus.report import figures
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

SCENE_FORM = "a {colour} {object} on a {background} background, {style}"
"""Where a classifier knows backgrounds: what the pocket's captions look like."""
STRENGTHS = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # our choice
WHOLE = "one text"  # the part's text as the text of all layers
MEASURES = {
    "part": "the part's word",
    "default": "the default's word",
    "neither": "neither",
    "kept": "the rest as asked",
    "both": "the part's word and the rest",
    "likeness": "likeness to other pictures",
    "clipped": "pixels at a limit",
}
DRAWN = ("part", "default", "kept", "both")
LIMITS = (0, 255)  # of a pixel with 8 bits
LEAD = (
    "A part gives some layers a text that differs from the default text in one word. Its strength s makes their text "
    "states default + s · (part − default): 0 is the default text, 1 the part's, other values extrapolate. The shares "
    "of pictures: with the part's word; with the default's; with neither; with all else as asked (“the rest”); with "
    "the part's word and the rest. Intervals: 95 %, bootstrap over prompt pairs."
)
READING = (
    "Likeness: the largest cosine of DINO features between the picture and an ordinary one of another pair (strength "
    "0, or one text for all layers). Pixels at a limit: the share of pixels with a colour channel at 0 or 255. Last "
    "row: the part's text as the only text."
)
SUMMARY = (
    "Half: the strength from which on half the pictures have the part's word. Best: the strength with most pictures "
    "that have the part's word and the rest. Useful: the strengths around it that are not clearly worse (95 % interval "
    "of the paired difference). Breaks: the first strength at which the rest is clearly less often as asked than at 0."
)


@dataclass(frozen=True)
class StrengthCase:
    """Which attribute the part changes, and in which layers."""

    attribute: str
    layers: str

    def __str__(self) -> str:
        return f"{self.attribute}, {self.layers} layers"

    def prompt(self, pair: PromptPair, form: str, strength: float | None) -> PPlusPrompt:
        """The first prompt of a pair, with a part that has the second one's word; None: that text for all layers."""
        text = fill_form(form, {**pair.first, self.attribute: pair.second[self.attribute]})
        if strength is None:
            return PPlusPrompt(text)
        return PPlusPrompt(pair.prompt("first", form), (Part(self.layers, text, strength),))


def cases_for(layers: LayerMap) -> list[StrengthCase]:
    """The colour in the last band of layers; the object in all bands but that one, and in the first one alone.

    In U-Nets these are the fine layers, the coarse and medium ones, and the coarse ones, as ``analyze attributes``
    finds on the pocket model.
    """
    bands = [name for name in layers.bands if layers.group(name)]
    inner = ",".join(bands[:-1]) or bands[0]
    cases = [StrengthCase("colour", bands[-1]), StrengthCase("object", inner), StrengthCase("object", bands[0])]
    return list(dict.fromkeys(cases))


@dataclass(frozen=True)
class StrengthStudySettings:
    """What the study measures.

    Attributes:
        words: the words of each attribute. Pairs of prompts are drawn from them.
        classify: sees which words a picture shows.
        dino: gives the features of the likeness.
        pairs: the number of prompt pairs.
        seeds: the number of pictures of each pair and strength.
        strengths: in rising order, with 0.
        form: the prompts' form, with all attributes.
    """

    words: Words
    classify: ClassifyFunction
    dino: DinoJudge
    pairs: int = 32
    seeds: int = 1
    strengths: tuple[float, ...] = STRENGTHS
    form: str = FORM

    @classmethod
    def of(cls, pipe: Any, words: Words, judge: str | None = None) -> Self:
        """The settings for a model. A classifier also judges backgrounds.

        Args:
            words: of colour, object and style.
            judge: ``classifier`` or ``clip``; default: the classifier where the model has one.

        Raises SettingsError where the model has no such judge, or it does not know a word.
        """
        profile = profile_of(pipe)
        judge = judge or ("classifier" if profile.attribute_judge else "clip")
        [function] = judges_for(pipe, judge, words).values()
        dino = DinoJudge.load(profile.dino, "cpu" if profile.judges_on_cpu else str(denoiser_of(pipe).device))
        if judge == "clip" or not profile.attribute_judge:
            return cls(words, function.classify, dino)
        backgrounds = AttributeJudge.load(profile.attribute_judge).classes["background"]
        return cls({**words, "background": backgrounds}, function.classify, dino, form=SCENE_FORM)

    def with_strengths(self, given: Sequence[float]) -> Self:
        """The same with other strengths; 0 and 1 are always among them."""
        return replace(self, strengths=tuple(sorted({0.0, 1.0, *given})))


@dataclass(frozen=True)
class StrengthScores:
    """What is seen in the pictures of one case.

    Attributes:
        measures: by the names of ``MEASURES``; a column for each strength, and a last one for ``WHOLE``.
        shown: the first pair's first picture at each strength.
    """

    measures: Mapping[str, Float[np.ndarray, "pairs columns"]]
    shown: Sequence[Image.Image]

    def at_strengths(self, name: str) -> Float[np.ndarray, "pairs strengths"]:
        """A measure without the last column."""
        return self.measures[name][:, :-1]


def measure(
    pplus: PPlus,
    case: StrengthCase,
    pairs: Sequence[PromptPair],
    settings: StrengthStudySettings,
    *,
    progress: bool = False,
    **sampling: Unpack[SamplingOptions],
) -> StrengthScores:
    """Generate and judge the pictures of a case. All strengths have the same noise."""
    drawn = [(pair, seed) for pair in pairs for seed in range(settings.seeds)]
    shape = (len(pairs), settings.seeds)
    columns: dict[str, list[Float[np.ndarray, " pairs"]]] = {name: [] for name in MEASURES if name != "likeness"}
    features: list[Tensor] = []
    shown: list[Image.Image] = []
    for strength in (*settings.strengths, None):
        prompts = [case.prompt(pair, settings.form, strength) for pair, _ in drawn]
        title = f"{case}, {WHOLE if strength is None else strength}"
        images = generate(pplus, prompts, [seed for _, seed in drawn], progress=progress and title, **sampling)
        shown.append(images[0])
        features.append(settings.dino.embed(images))
        for name, values in judged(images, [pair for pair, _ in drawn], case.attribute, settings).items():
            columns[name].append(values.reshape(shape).mean(1))
    measures = {name: np.stack(values, 1) for name, values in columns.items()}
    zero = settings.strengths.index(0)
    measures["likeness"] = likeness(features, (features[zero], features[-1]), shape)
    return StrengthScores(measures, shown[:-1])


def judged(
    images: Sequence[Image.Image], pairs: Sequence[PromptPair], attribute: str, settings: StrengthStudySettings
) -> dict[str, Float[np.ndarray, " pictures"]]:
    """For each picture: what is seen of the attribute, whether the rest is as asked, and pixels at a limit."""
    seen = settings.classify(images)
    part = np.array([a == pair.second[attribute] for a, pair in zip(seen[attribute], pairs, strict=True)], float)
    default = np.array([a == pair.first[attribute] for a, pair in zip(seen[attribute], pairs, strict=True)], float)
    others = [name for name in settings.words if name != attribute]
    kept = np.array([all(seen[n][i] == pair.first[n] for n in others) for i, pair in enumerate(pairs)], float)
    clipped = np.array([np.isin(np.asarray(one.convert("RGB")), LIMITS).any(-1).mean() for one in images])
    found = {"part": part, "default": default, "neither": 1 - part - default}
    return {**found, "kept": kept, "both": part * kept, "clipped": clipped}


def likeness(
    features: Sequence[Float[Tensor, "pictures width"]],
    ordinary: Sequence[Float[Tensor, "pictures width"]],
    shape: tuple[int, int],
) -> Float[np.ndarray, "pairs columns"]:
    """The largest cosine of each picture and an ordinary one of another pair; means over the seeds of a pair.

    Args:
        features: of unit length, for each column.
        ordinary: the same of ordinary pictures, in the order of a column.
        shape: (pairs, seeds) of a column.
    """
    pair = torch.arange(shape[0]).repeat_interleave(shape[1])
    own = pair[:, None] == pair.repeat(len(ordinary))
    known = torch.cat(list(ordinary))
    nearest = [(column @ known.T).masked_fill(own, -1).amax(1) for column in features]
    return torch.stack(nearest, 1).double().unflatten(0, shape).mean(1).numpy()


def study(
    pplus: PPlus, settings: StrengthStudySettings, *, progress: bool = True, **sampling: Unpack[SamplingOptions]
) -> Study:
    """Measure all cases."""
    pairs = draw_pairs(settings.words, settings.pairs)
    cases = {str(case): case for case in cases_for(pplus.layers)}
    scores = {
        name: measure(pplus, case, pairs, settings, progress=progress, **sampling) for name, case in cases.items()
    }
    spelled = [f"{strength:g}" for strength in settings.strengths]
    tables = {name: _table(own, [*spelled, WHOLE]) for name, own in scores.items()}
    found = {name: _findings(own, settings.strengths) for name, own in scores.items()}
    curves = {name: {MEASURES[one]: curve_of(own.at_strengths(one)) for one in DRAWN} for name, own in scores.items()}
    drawn = figures.panels(curves, settings.strengths, xlabel="strength", ylabel="share of pictures")
    labels = [
        f"{case.layers.replace(',', ', ')}\n{pairs[0].first[case.attribute]} to\n{pairs[0].second[case.attribute]}"
        for case in cases.values()
    ]
    grid = labelled_grid([own.shown for own in scores.values()], row_labels=labels, column_labels=spelled, cell=64)
    sections = [
        Section("By strength", SUMMARY, [Figure(drawn, name="curves")], table=_summary(found)),
        Section("Pictures", pairs[0].prompt("first", settings.form), [Figure(grid, name="grid")]),
        *[
            Section(f"The {name}", READING if i == 0 else "", table=table)
            for i, (name, table) in enumerate(tables.items())
        ],
    ]
    counts = {"pairs": settings.pairs, "seeds": settings.seeds, "form": settings.form}
    values = {**counts, "columns": [*spelled, WHOLE], "found": found}
    numbers = [_numbers(name, own, [*spelled, WHOLE]) for name, own in scores.items()]
    shares: Table = {column: [v for table in numbers for v in table[column]] for column in numbers[0]}
    return Study("strength", "How far a part's strength can go", LEAD, sections, values, {"shares": shares})


def _table(scores: StrengthScores, columns: Sequence[str]) -> Table:
    """A row for each strength, and one for ``WHOLE``: means with intervals."""
    table = {"strength": list(columns)}
    for name, title in MEASURES.items():
        curve = curve_of(scores.measures[name])
        ends = zip(curve.values, curve.low or (), curve.high or (), strict=True)
        table[title] = ["{:.2f} [{:.2f}, {:.2f}]".format(*each) for each in ends]
    return table


def _numbers(case: str, scores: StrengthScores, columns: Sequence[str]) -> Table:
    """The same as numbers; the ends of intervals for what is drawn."""
    table: dict[str, list[Any]] = {"part": [case] * len(columns), "strength": list(columns)}
    for name, title in MEASURES.items():
        curve = curve_of(scores.measures[name])
        lines = {"": curve.values} | ({", low": curve.low, ", high": curve.high} if name in DRAWN else {})
        table |= {f"{title}{end}": [round(v, 3) for v in line or ()] for end, line in lines.items()}
    return table


def _findings(scores: StrengthScores, strengths: Sequence[float]) -> dict[str, Any]:
    half = halfway(scores.at_strengths("part"), strengths)
    best, low, high = useful(scores.at_strengths("both"), strengths)
    return {
        "half": None if half is None else [round(v, 3) for v in (half.value, half.low, half.high)],
        "best": best,
        "useful": [low, high],
        "breaks": dict(breaks(scores.at_strengths("kept"), strengths)),
    }


def _summary(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each case."""
    halves = [own["half"] for own in found.values()]
    return {
        "part": list(found),
        "half [95 %]": ["never" if h is None else "{:.2f} [{:.2f}, {:.2f}]".format(*h) for h in halves],
        "best": [f"{own['best']:g}" for own in found.values()],
        "useful": ["{:g} to {:g}".format(*own["useful"]) for own in found.values()],
        **{
            f"breaks {side}": ["never" if (at := own["breaks"][side]) is None else f"{at:g}" for own in found.values()]
            for side in ("below 0", "above 0")
        },
    }
