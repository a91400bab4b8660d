"""The oracle itself: it draws the stock picture from the stock texts, and sees each layer's text."""

from typing import Any

import pytest
from torch import Tensor

from tests.compatibility import oracle
from tests.compatibility.cases import ALL, STOCK, TOLERANCE, distance, draw, own_texts


def drawn(pipe: Any, texts: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    def call(pipe: Any, prompt: str, negative: str) -> Tensor:
        return draw(pipe, prompt=prompt, negative_prompt=negative)

    return oracle.draw(pipe, STOCK, texts, call)


@pytest.mark.parametrize("model", ALL)
def test_stock_texts_draw_the_stock_picture(pipe: Any) -> None:
    picture, again = drawn(pipe, [STOCK] * len(oracle.layers(oracle.denoisers(pipe)[0])))
    assert distance(again, picture) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("model", ALL)
def test_it_sees_which_layer_has_which_texts(pipe: Any) -> None:
    """Two neighbours whose texts are exchanged: the picture is another one."""
    texts = own_texts(len(oracle.layers(oracle.denoisers(pipe)[0])))
    _, right = drawn(pipe, texts)
    for i in range(len(texts) - 1):
        _, wrong = drawn(pipe, [*texts[:i], texts[i + 1], texts[i], *texts[i + 2 :]])
        assert distance(wrong, right) > 100 * TOLERANCE


def test_all_layers_have_different_texts() -> None:
    assert len(set(own_texts(20))) == 20
