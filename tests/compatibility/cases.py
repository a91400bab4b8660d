"""What the tests of compatibility share: the texts, the stock picture and the oracle's, and the comparison with P+."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import diffusers
import pytest
from PIL import Image
from torch import Tensor, equal

import promptplus as pp
from tests import tiny_models
from tests.compatibility import oracle
from tests.conftest import latents

STABLE_DIFFUSION = ("Stable Diffusion 1", "Stable Diffusion 2")
UNETS = (*STABLE_DIFFUSION, "SDXL")
TRANSFORMERS = ("PixArt-Sigma", "Sana")
ALL = (*UNETS, *TRANSFORMERS)

IMAGE_TO_IMAGE = {
    "Stable Diffusion 1": "StableDiffusionImg2ImgPipeline",
    "Stable Diffusion 2": "StableDiffusionImg2ImgPipeline",
    "SDXL": "StableDiffusionXLImg2ImgPipeline",
}
PICTURE = Image.linear_gradient("L").resize((128, 128)).convert("RGB")

STOCK = ("a red house", "blurry")
"""The prompt and the negative prompt that all layers share in a stock call."""
COLOURS, THINGS = ("red", "blue", "green", "white", "yellow"), ("house", "car", "cube", "lizard", "cat")
TOLERANCE = 1e-5
"""How far a picture may be from the oracle's, as a share of its norm. The oracle encodes each text alone, P+ all texts
of a prompt in one batch, where the last bit of a product may differ. Exchanged layers differ by 4e-3 or more."""


def compatible(feature: str, *models: str, refused: str = "") -> Callable[[Any], Any]:
    """Mark a test as what shows that P+ works with a feature of some models, or refuses it with this message.

    Stable Diffusion 2 is slow here because it says little: its classes are those of Stable Diffusion 1.
    """
    slow = {"Stable Diffusion 2": pytest.mark.slow}
    each = [pytest.param(model, marks=slow.get(model, ())) for model in models]

    def mark(test: Any) -> Any:
        return pytest.mark.compatibility(feature, refused=refused)(pytest.mark.parametrize("model", each)(test))

    return mark


def own_texts(count: int) -> list[tuple[str, str]]:
    """A prompt and a negative prompt for each layer; no two layers have the same ones."""
    numbers = [(i % 5, (2 * i + i // 5) % 5) for i in range(count)]
    return [(f"a {COLOURS[i]} {THINGS[j]}", f"{THINGS[i]}, {COLOURS[(i + j) % 5]}") for i, j in numbers]


def draw(pipe: Any, **call: Any) -> Tensor:
    """The latents of a small picture, always from the same noise."""
    known = inspect.signature(pipe.__call__).parameters
    small = {name: value for name, value in tiny_models.small(pipe).items() if name in known}
    return latents(pipe, **{**small, **call})


def another(pipe: Any, name: str, **modules: Any) -> Any:
    """A pipeline of another class around the same models."""
    made = getattr(diffusers, name).from_pipe(pipe, **modules)
    made.set_progress_bar_config(disable=True)
    return made


@dataclass(frozen=True)
class Expected:
    """What a pipeline draws without P+.

    Attributes:
        stock: with the same text in all layers: a stock call.
        own: with a text of its own for each layer: the oracle's.
    """

    stock: Tensor
    own: Tensor

    @classmethod
    def of(cls, pipe: Any, **call: Any) -> Self:
        """Draw both. ``call`` holds further arguments of the pipeline's call."""

        def draws(pipe: Any, prompt: str, negative: str) -> Tensor:
            return draw(pipe, prompt=prompt, negative_prompt=negative, **call)

        texts = own_texts(len(oracle.layers(oracle.denoisers(pipe)[0])))
        return cls(*oracle.draw(pipe, STOCK, texts, draws))


def same(pplus: pp.PPlus) -> Any:
    """The stock call's texts, encoded by P+."""
    return pplus.encode(*STOCK)


def own(pplus: pp.PPlus) -> Any:
    """A text of its own for each layer, encoded by P+."""
    prompt, negative = ({"default": text} for text in STOCK)
    for layer, texts in enumerate(own_texts(len(pplus.layers))):
        prompt[str(layer)], negative[str(layer)] = texts
    return pplus.encode(prompt, negative)


def check(
    pplus: pp.PPlus,
    expected: Expected,
    pipe: Any = None,
    tolerance: float = TOLERANCE,
    exact: bool = True,
    **call: Any,
) -> None:
    """P+ draws what is expected: the stock picture to the bit, and the oracle's within a tolerance.

    Args:
        pplus: encodes the texts.
        expected: what is expected.
        pipe: draws. Default: the pipeline of ``pplus``.
        tolerance: how far from the oracle's picture, as a share of its norm.
        exact: False: the tolerance holds for the stock picture too.
        call: further arguments of the pipeline's call.
    """
    pipe = pipe or pplus.pipe
    drawn = draw(pipe, **same(pplus), **call)
    assert equal(drawn, expected.stock) if exact else distance(drawn, expected.stock) < tolerance
    assert distance(draw(pipe, **own(pplus), **call), expected.own) < tolerance
    assert distance(expected.stock, expected.own) > 5 * tolerance


def check_both_orders(
    pipe: Any,
    prepare: Callable[[Any], None],
    expected: Expected | None = None,
    tolerance: float = TOLERANCE,
    exact: bool = True,
    **call: Any,
) -> Expected:
    """P+ draws what is expected where a pipeline is changed after P+ was installed, and where it was before.

    Args:
        pipe: the pipeline.
        prepare: changes it.
        expected: what is expected. Default: what the changed pipeline draws without P+.
        tolerance, exact, call: as for ``check``.

    Returns:
        What is expected.
    """
    with pp.PPlus(pipe) as pplus:
        prepare(pipe)
        drawn = draw(pipe, **own(pplus), **call)
    expected = expected or Expected.of(pipe, **call)
    assert distance(drawn, expected.own) < tolerance
    with pp.PPlus(pipe) as pplus:
        check(pplus, expected, tolerance=tolerance, exact=exact, **call)
    return expected


def distance(picture: Tensor, other: Tensor) -> float:
    """The norm of the difference, as a share of the other picture's."""
    return float((picture - other).norm() / other.norm())
