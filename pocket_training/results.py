"""What the report measures, as it is kept in JSON files: one TypedDict for each kind of measurement.

A report's results are one mapping. Its keys are ``captions/KIND`` (`CaptionScores`), ``words/CONCEPT``
(`TextScores`), ``concept/CONCEPT/SEED`` (`ConceptScores`), ``curves`` (`LayerCurves`), ``split`` (`SplitScores`),
``mixing`` (share of successful mixes by the layers of the shape), ``judges`` (`JudgeScores`), ``speed`` (`Speed`),
``size`` (megabytes by folder, and "all") and ``weights`` (a hash of the bundled files).
"""

from collections.abc import Mapping
from typing import Any, TypedDict

from promptplus.evaluation import metrics

Results = Mapping[str, Any]
Interval = list[float]
"""A value and the lower and upper end of its 95 % interval."""
MIX_LAYERS = ("coarse", "coarse,medium")
"""The choices of layers for the shape with which mixes are measured."""


def rounded(interval: metrics.Interval, digits: int = 4) -> Interval:
    """An interval as the JSON files hold it."""
    return [round(number, digits) for number in (interval.value, interval.low, interval.high)]


class CaptionScores(TypedDict):
    """How well generated pictures follow full captions."""

    pictures: int
    renders: dict[str, Interval]
    """Share of renders that the attribute judge classifies correctly, by attribute."""
    reconstructions: dict[str, Interval]
    """The same of the renders' reconstructions by the autoencoder."""
    generated: dict[str, Interval]
    """The same of generated pictures."""
    psnr: float
    """Of the reconstructions, in decibels."""
    frechet: float
    """Fréchet distance between renders and generated pictures, in the judge DINO's features."""
    frechet_floor: float
    """Fréchet distance between renders and other renders of the same scenes."""


class TextScores(TypedDict):
    """How near texts come to a concept without learning."""

    class_word: str
    floor: float
    """Similarity of pictures of the class word."""
    ceiling: float
    """Similarity of fresh renders."""
    caption: str
    """The best caption of a named object."""
    noun: str
    """The best caption of a made-up noun."""
    recognised: float
    """Share of fresh renders whose shape is recognised."""
    r_words: float
    """Recovery r of `caption`."""
    r_noun: float
    """Recovery r of `noun`."""


class ConceptScores(TypedDict):
    """How well XTI learns a concept."""

    similarity: float
    recognised: float
    """Share of the pictures whose shape is recognised."""


class LayerCurves(TypedDict):
    """Takeover by growing subsets of the layers, from coarse to fine."""

    pairs: int
    sizes: list[int]
    share: dict[str, list[float]]
    """Share of pictures with prompt 2's attribute, by attribute, for each size."""
    relative: dict[str, list[float]]
    """`share`, rescaled to 0 for no layer and 1 for all layers."""
    crossings: dict[str, Interval]
    """Where `relative` crosses one half, and differences of two crossings ("object < colour")."""


class SplitScores(TypedDict):
    """The split test: shares of pictures."""

    pictures: int
    object: Interval
    """With the object of the coarse layers' prompt."""
    colour: Interval
    """With the colour of the other layers' prompt."""
    one_prompt: Interval
    """With the object where one prompt for all layers names both."""


class JudgeScores(TypedDict):
    """How well the judges classify renders."""

    pictures: int
    clip_zero_shot: dict[str, float]
    dino_nearest_neighbour: float


class Speed(TypedDict):
    """Seconds on a CPU."""

    threads: int
    usual_steps: int
    picture_in_batch: list[float]
    """With 25 steps and with the usual number of steps."""
    picture_alone: list[float]
    xti_step: float
