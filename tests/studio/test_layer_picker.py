"""The drawing of the U-Net, and the prompt of what was written into it."""

import re

import pytest

import promptplus as pp
from promptplus.errors import PromptError
from promptplus.studio.layer_picker import BANDS, drawing, with_texts


def test_every_layer_has_one_button_in_its_band(pplus: pp.PPlus) -> None:
    html = drawing(pplus.layers)
    assert sorted(re.findall(r'class="layer" data-key="([^"]+)"', html)) == sorted(pplus.layers.names)
    for band in BANDS:
        part = html.split(f'<div class="band {band}">')[1].split('<div class="band ')[0]
        inside = re.findall(r'class="layer" data-key="([^"]+)"', part)
        assert {pplus.layers.names.index(name) for name in inside} == set(pplus.layers.group(band))


def test_models_without_a_mid_block_or_with_many_layers_can_be_drawn() -> None:
    deep = [(f"down.1.{a}.{t}", 64) for a in range(2) for t in range(2)]
    deep += [(f"down.2.{a}.{t}", 32) for a in range(2) for t in range(10)] + [("mid.0.0", 32)]
    layers = pp.LayerMap.from_names(deep)
    assert drawing(layers).count('class="layer"') == len(layers.transformers) == 5


def test_bands_come_first_so_that_single_layers_win(pplus: pp.PPlus) -> None:
    prompt = with_texts(" a house ", {"down.0.1": "a cat", "fine": "a red car ", "mid.0": "  "})
    assert str(prompt) == "a house || fine: a red car || down.0.1: a cat"
    assert prompt.texts(pplus.layers)[1] == "a cat"


def test_texts_are_taken_as_they_are_written() -> None:
    assert with_texts("a || coarse: b", {"fine": "x || y"}).parts == (pp.Part("coarse", "b"), pp.Part("fine", "x || y"))
    assert with_texts("a", None) == pp.PPlusPrompt("a")


@pytest.mark.parametrize("default", ["", "  \n"])
def test_an_empty_prompt_is_refused(default: str) -> None:
    with pytest.raises(PromptError, match="the prompt is empty; write what the picture shows"):
        with_texts(default, {"fine": "a"})
