"""A model's folder says the same as the loaded model."""

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import UNet2DConditionModel

import promptplus as pp
from promptplus.denoisers import denoiser_of
from promptplus.model_folder import ModelFolder, _of_unet
from promptplus.pocket import PIPELINE
from tests import tiny_models


def test_the_pockets_folder_says_what_the_model_is(pplus: pp.PPlus) -> None:
    folder = ModelFolder.read("pocket")
    assert folder is not None
    assert folder.layers == pplus.layers
    assert folder.words == pplus.tokenizer.get_vocab().keys()
    assert folder.added == pplus.tokenizer.get_added_vocab().keys()
    assert folder.timesteps == pplus.pipe.scheduler.config.num_train_timesteps


@pytest.mark.parametrize(
    ("options", "usual"),
    [
        ({}, True),
        ({"layers_per_block": 3, "sample_size": 20}, True),
        ({"mid_block_type": "UNetMidBlock2D"}, False),
        ({"transformer_layers_per_block": 2}, True),
        ({"transformer_layers_per_block": [1, 3]}, True),
        ({"transformer_layers_per_block": [3, 1]}, True),
    ],
)
def test_layers_are_known_from_the_configuration(options: dict[str, Any], usual: bool) -> None:
    small = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8, "sample_size": 16}
    small |= {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 8}
    small |= {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 8}
    unet = UNet2DConditionModel(**{**small, **options})
    if usual:
        assert _of_unet(unet.config) == pp.LayerMap.of(unet)
    else:
        with pytest.raises(ValueError, match="unusual"):
            _of_unet(unet.config)


@pytest.mark.parametrize("name", list(tiny_models.MODELS))
def test_a_saved_folder_says_what_the_model_is(name: str, tmp_path: Path) -> None:
    pipe = tiny_models.MODELS[name]()
    pipe.save_pretrained(tmp_path)
    folder = ModelFolder.read(tmp_path)
    assert folder is not None
    assert folder.layers == pp.LayerMap.of(denoiser_of(pipe))
    assert folder.words == pipe.tokenizer.get_vocab().keys()


def test_the_words_of_an_older_tokenizer_are_read(tmp_path: Path) -> None:
    for part in ("unet", "scheduler"):
        (tmp_path / part).symlink_to(PIPELINE / part)
    (tmp_path / "tokenizer").mkdir()
    vocabulary = {"cat</w>": 0, "<|endoftext|>": 1}
    (tmp_path / "tokenizer/vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (tmp_path / "tokenizer/added_tokens.json").write_text('{"<x>": 2}', "utf-8")
    folder = ModelFolder.read(tmp_path)
    assert folder is not None
    assert folder.words == {*vocabulary, "<x>"}
    assert folder.added == {"<|endoftext|>", "<x>"}


def test_other_models_are_unknown(tmp_path: Path) -> None:
    assert ModelFolder.read("someone/model") is None
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet/config.json").write_text("[", "utf-8")
    assert ModelFolder.read(tmp_path) is None
