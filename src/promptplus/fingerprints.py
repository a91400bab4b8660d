"""Hashes that name weights, pictures, token tables and settings."""

import hashlib
import json
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

SAMPLED = 16  # numbers per tensor in a hash of weights: enough to tell trainings apart, read in no time


def pixels_hash(pixels: Tensor) -> str:
    """Names pictures, bit for bit."""
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()


def weights_hash(module: nn.Module) -> str:
    """Tells one model's weights from another's by the first numbers of every tensor; the same on any device."""
    digest = hashlib.sha256()
    for name, weight in module.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().flatten()[:SAMPLED].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def token_table_hash(text_encoder: Any, tokenizer: Any) -> str:
    """Sixteen hex digits that name a token table, alike in float32 and float16; added tokens do not count.

    "", which fits any table, for bfloat16 (rounded otherwise) and for weights that are offloaded.
    """
    table = text_encoder.get_input_embeddings().weight[: tokenizer.eos_token_id + 1]
    if table.dtype is torch.bfloat16 or table.is_meta:
        return ""
    return tensor_hash(table.detach().cpu().half())[:16]


def digest(told: dict[str, Any]) -> str:
    """24 hex digits that name plain values."""
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]


def tensor_hash(tensor: Tensor) -> str:
    """The sha256 of a tensor's bytes, as hex digits."""
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
