"""Hashes: equal for what is equal, different for what differs, and the same as ever."""

import copy
import hashlib
import json
from typing import Any

import pytest
import torch
from torch import nn

from promptplus.fingerprints import SAMPLED, settings_hash, tensor_hash, token_table_hash, weights_hash


def test_a_tensors_hash_is_that_of_its_bytes() -> None:
    tensor = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert tensor_hash(tensor) == hashlib.sha256(bytes.fromhex("0000803f000000400000404000008040")).hexdigest()


def test_the_layout_in_memory_does_not_count() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    transposed = tensor.T.contiguous().T
    assert not transposed.is_contiguous()
    assert tensor_hash(transposed) == tensor_hash(tensor) != tensor_hash(tensor.T)


@pytest.mark.parametrize("tensor", ["weight", "bias"])
def test_a_change_in_any_tensor_changes_the_weights_hash(tensor: str) -> None:
    module = nn.Linear(40, 40)
    other = copy.deepcopy(module)
    assert weights_hash(other) == weights_hash(module)
    with torch.no_grad():
        getattr(other, tensor).view(-1)[SAMPLED - 1] += 1
    assert weights_hash(other) != weights_hash(module)


def test_the_names_of_weights_count() -> None:
    module = nn.Linear(2, 2, bias=False)
    assert weights_hash(nn.Sequential(module)) != weights_hash(nn.ModuleDict({"a": module}))


def test_a_token_table_has_one_hash_in_every_precision(pipe: Any) -> None:
    table = pipe.text_encoder.get_input_embeddings().weight
    dtypes = torch.float32, torch.float16, torch.bfloat16
    full, half, brain = (token_table_hash(table.to(dtype), pipe.tokenizer) for dtype in dtypes)
    assert full == half != ""
    assert len(full) == 16
    assert brain == ""


def test_added_tokens_do_not_change_a_token_tables_hash(pipe: Any) -> None:
    larger = copy.deepcopy(pipe.text_encoder)
    larger.resize_token_embeddings(len(pipe.tokenizer) + 2, mean_resizing=False)
    table, before = (one.get_input_embeddings().weight for one in (larger, pipe.text_encoder))
    assert token_table_hash(table, pipe.tokenizer) == token_table_hash(before, pipe.tokenizer)
    with torch.no_grad():
        table[5] += 1
    assert token_table_hash(table, pipe.tokenizer) != token_table_hash(before, pipe.tokenizer)


def test_the_order_of_settings_does_not_count() -> None:
    settings = {"steps": 3, "rate": 0.5, "words": ["a", "b"]}
    assert settings_hash(settings) == settings_hash(dict(reversed(settings.items())))
    assert settings_hash(settings) == hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
    assert settings_hash(settings) != settings_hash({**settings, "words": ["b", "a"]})
