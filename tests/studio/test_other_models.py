"""The studio's drawing of the layers of models of other kinds."""

import re

import pytest

import promptplus as pp
from promptplus.denoisers import denoiser_of
from promptplus.studio.layer_picker import drawing
from tests import tiny_models


@pytest.mark.parametrize("name", list(tiny_models.MODELS))
def test_every_button_names_layers_of_the_model(name: str) -> None:
    layers = pp.LayerMap.of(denoiser_of(tiny_models.MODELS[name]()))
    keys = re.findall(r'data-key="([^"]+)"', drawing(layers))
    assert len(keys) == len(set(keys))
    bands = [key for key in keys if key in layers.groups]
    assert sorted(i for key in bands for i in layers.select(key)) == list(range(len(layers)))
    parts = [key for key in keys if key not in layers.groups]
    assert sorted(i for key in parts for i in layers.select(key)) == list(range(len(layers)))
