import copy
from typing import Any

import pytest
import torch
from accelerate import cpu_offload

from promptplus import PPlus
from promptplus.errors import PromptError
from promptplus.placeholders import Placeholder
from promptplus.text_encoding import EncodingPlan, encode_texts
from tests.conftest import make_concept


def test_an_encoder_that_wants_a_mask_gets_the_stock_one(pplus: PPlus, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pplus.pipe
    monkeypatch.setattr(pipe.text_encoder.config, "use_attention_mask", True, raising=False)
    stock = pipe.tokenizer("a red house", padding="max_length", return_tensors="pt").attention_mask
    masks: list[torch.Tensor] = []
    handle = pipe.text_encoder.register_forward_pre_hook(
        lambda _m, _a, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
    )
    pplus.text_states([["a red house"] * 16])
    handle.remove()
    assert torch.equal(masks[0], stock)


class Calls:
    """Counts the text encoder's calls and the rows of each."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        self.rows: list[int] = []
        self.handle = encoder.register_forward_pre_hook(lambda _m, args: self.rows.append(len(args[0])))


@pytest.mark.parametrize(
    ("tied", "rows"), [(False, 16), (True, 1)], ids=["a row per layer", "one row for all layers (TI)"]
)
def test_unique_rows_are_encoded_in_one_call(pplus: PPlus, tied: bool, rows: int) -> None:
    concept = make_concept(pplus, "<x>", 0)
    groups = (0,) * 16 if tied else tuple(range(16))
    calls = Calls(pplus.pipe.text_encoder)
    pplus.text_states([["a <x>"] * 16, ["a <x>"] * 16, ["plain"] * 16], {"<x>": Placeholder(concept.rows, groups)})
    calls.handle.remove()
    assert calls.rows == [rows + 1]


def test_each_layer_gets_the_states_of_its_own_row(pplus: PPlus) -> None:
    """Against the plain way: write each row into the table, encode, write it back."""
    concept = make_concept(pplus, "<x>", 0, vectors=2)
    states = pplus.text_states([["a <x> house"] * 16], {"<x>": concept.placeholder}).states
    table = pplus.pipe.text_encoder.get_input_embeddings().weight
    ids = pplus.pipe.tokenizer("a red blue house", padding="max_length", return_tensors="pt").input_ids
    before = table.detach().clone()
    red, blue = ids[0, 2], ids[0, 3]
    for layer in range(16):
        with torch.no_grad():
            table[red], table[blue] = concept.rows[layer]
            expected = pplus.pipe.text_encoder(ids)[0][0]
            table.copy_(before)
        torch.testing.assert_close(states[0, layer], expected, rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_row_and_not_the_table(pplus: PPlus) -> None:
    rows = make_concept(pplus, "<x>", 0, vectors=2).rows.requires_grad_()
    encoder = pplus.pipe.text_encoder
    encoder.requires_grad_(False)
    pplus.text_states([["a <x>"] * 16], {"<x>": Placeholder(rows, tuple(range(16)))}).states.square().sum().backward()
    encoder.requires_grad_(True)
    assert rows.grad is not None
    assert (rows.grad.norm(dim=-1) > 0).all()
    assert encoder.get_input_embeddings().weight.grad is None


def test_rows_are_gone_after_encoding_even_after_an_error(pplus: PPlus) -> None:
    concept = make_concept(pplus, "<x>", 0)
    embedding = pplus.pipe.text_encoder.get_input_embeddings()
    (encoder,) = pplus.encoders
    text = encoder.tokenize("a <x>", {"<x>": 1})
    plan = EncodingPlan.of([[text] * 16], {"<x>": concept.placeholder.groups})
    with pytest.raises(PromptError, match="clip_skip is 0 to"):
        encode_texts(encoder, plan, {"<x>": concept.placeholder}, clip_skip=99)
    ids = pplus.pipe.tokenizer("a red house", return_tensors="pt").input_ids
    assert torch.equal(embedding(ids)[0], embedding.weight[ids[0]])
    pplus.remove()
    assert not embedding._forward_hooks


def test_an_offloaded_encoder_says_the_same(pipe: Any) -> None:
    """Its weights are nowhere between calls; the pipeline knows where it runs."""
    with PPlus(pipe) as pplus:
        expected = pplus.encode("a red house", "blurry")
    offloaded = cpu_offload(copy.deepcopy(pipe.text_encoder), execution_device=torch.device("cpu"))
    assert offloaded.device.type == "meta"
    # only the text encoder may stand in for a whole offloaded pipeline, whose order of parts is the stock one
    moved = type(pipe)(**{**pipe.components, "text_encoder": offloaded, "vae": None})
    with PPlus(moved) as pplus:
        states = pplus.encode("a red house", "blurry")
    assert all(torch.equal(states[key], expected[key]) for key in expected)
