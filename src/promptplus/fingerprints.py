"""SHA-256 hashes that identify tensors, weights, token tables and settings.

They name cached results and tell whether a saved file belongs to a model. Changing one makes all saved results stale.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

SAMPLED = 16  # numbers per tensor in a hash of weights: enough to tell training runs apart, and fast to read


def tensor_hash(tensor: Shaped[Tensor, "..."]) -> str:
    """Hash of a CPU tensor's numbers, bit for bit: 64 hex digits. Shape and dtype do not count."""
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def weights_hash(module: nn.Module) -> str:
    """Hash of a model's parameters: their names and the first 16 numbers of each, as 64 hex digits.

    It is the same on every device.
    """
    sha256 = hashlib.sha256()
    for name, weight in module.named_parameters():
        sha256.update(name.encode())
        sha256.update(weight.detach().flatten()[:SAMPLED].float().cpu().numpy().tobytes())
    return sha256.hexdigest()


def token_table_hash(table: Float[Tensor, "vocabulary width"], tokenizer: Any) -> str:
    """Hash of a text encoder's token embeddings: 16 hex digits, the same in float32 and float16.

    Tokens that were added to the vocabulary do not count. Returns "", which matches every table, where the weights are
    bfloat16 (which rounds differently) or offloaded.
    """
    words = set(tokenizer.get_vocab().values()) - set(tokenizer.get_added_vocab().values())
    table = table[: max(max(words, default=0), tokenizer.eos_token_id) + 1]
    if table.dtype is torch.bfloat16 or table.is_meta:
        return ""
    return tensor_hash(table.detach().cpu().half())[:16]


def settings_hash(values: Mapping[str, Any]) -> str:
    """Hash of values that JSON can hold: 24 hex digits. The order of the keys does not count."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]
