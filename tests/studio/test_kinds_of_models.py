"""The studio with models of other kinds."""

import json
import re
from pathlib import Path

import pytest
import torch

import promptplus as pp
from promptplus.denoisers import denoiser_of
from promptplus.profiles import SAMPLING
from promptplus.studio.jobs import Job, Jobs
from promptplus.studio.layer_picker import drawing
from promptplus.studio.mix_page import begin_mix, usual_split
from promptplus.studio.recipe import ModelSource
from promptplus.studio.try_page import begin_try
from promptplus.studio.workplace import Workplace
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


@pytest.mark.parametrize("name", ["SDXL", pytest.param("Sana", marks=pytest.mark.slow)])
def test_trying_and_mixing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_models.MODELS[name]().save_pretrained("model")
    Path("model", SAMPLING).write_text(json.dumps({"steps": 2, "guidance": 4.5}))
    pipe = pp.load("model", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    with pp.PPlus(pipe) as pplus:
        place = Workplace(pplus, ModelSource("model", device="cpu"), Path("runs"), Jobs())
        place.make_folders()
        encoders = tuple(pplus.widths.items()) if len(pplus.widths) > 1 else ()
        for number, token in enumerate(("<one>", "<two>")):
            rows = torch.full((len(pplus.layers), 1, pplus.width), float(number))
            concept = pp.Concept(token, rows, pplus.layers, class_word="house", encoders=encoders)
            (place.runs / f"c{number}").mkdir()
            concept.save(place.runs / f"c{number}" / "concept.safetensors")
        split = usual_split(place)
        assert 0 < len(pplus.layers.subsets()[split]) < len(pplus.layers)
        texts = {pplus.layers.bands[0]: "a red cube"}
        for title, work in (
            begin_try(place, "a <one>", texts, [], 0, 1, 2, 4.5, ""),
            begin_mix(place, "<one>", "<two>", split, "<mix>", 0),
        ):
            assert work(job), title
        assert job.done == job.total
        place.jobs.close(10)
