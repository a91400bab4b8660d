"""Where rows lie among words."""

from dataclasses import replace

import pytest
import torch

import promptplus as pp
from promptplus.density import TokenDensity
from promptplus.experiments.token_density import CONTROLS, log_densities, nearest_words
from tests.conftest import make_concept


def word(pplus: pp.PPlus, text: str) -> torch.Tensor:
    (number,) = pplus.pipe.tokenizer(text, add_special_tokens=False).input_ids
    return pplus.pipe.text_encoder.get_input_embeddings().weight[number].detach().float()


@pytest.mark.slow
def test_densities_of_words_controls_and_rows(pplus: pp.PPlus) -> None:
    house = replace(make_concept(pplus, "<house>", 1), rows=word(pplus, "house").expand(16, 1, -1), tying="all")
    far = replace(make_concept(pplus, "<far>", 2), rows=10 * make_concept(pplus, "<far>", 2).rows)
    found = log_densities(pplus, {"TI": [house], "XTI": [far, make_concept(pplus, "<x>", 3)]})
    density = TokenDensity.over_words(pplus.encoders)
    assert list(found)[:3] == ["words", "midpoints of two words", "random directions"]
    assert len(found["words"]) == len(density.points)
    assert len(found["random directions"]) == len(found["midpoints of two words"]) == CONTROLS
    assert found["TI"].tolist() == pytest.approx([float(density.log_density(word(pplus, "house")[None])[0])])
    assert len(found["XTI"]) == 32
    assert found["XTI"][:16].mean() < found["XTI, at word norm"][:16].mean()
    assert found["TI"].item() > found["random directions"].max()
    norm = density.points.norm(dim=-1).mean()
    rescaled = far.rows[:, 0].double() * (norm / far.rows[:, 0].double().norm(dim=-1, keepdim=True))
    expected = density.log_density(rescaled).sort().values
    assert torch.isin(expected.round(decimals=6), found["XTI, at word norm"].round(decimals=6)).all()


def test_the_nearest_word_of_a_word_is_itself(pplus: pp.PPlus) -> None:
    rows = torch.stack([word(pplus, name) for name in ("house", "red")] * 8)[:, None]
    found = nearest_words(pplus, replace(make_concept(pplus, "<x>", 1), rows=rows), count=2)
    assert [layer.layer for layer in found] == list(pplus.layers.names)
    assert [layer.words[0][0] for layer in found[:3]] == ["house", "red", "house"]
    assert found[0].words[0][1] == pytest.approx(0, abs=1e-5)
    assert found[0].words[1][1] > 0.01
    assert found[0].norm == pytest.approx(float(word(pplus, "house").norm()))
