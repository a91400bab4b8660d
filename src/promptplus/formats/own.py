"""Our own concept file.

The file is in safetensors format. It holds one tensor for each layer, under kohya's name where the model has exactly
their sixteen layers, else under ours; with two text encoders one for each of them, with ``clip_l.`` or ``clip_g.`` in
front. Everything else is one JSON record in the metadata, beside ``modelspec.*`` for model browsers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from promptplus.concept_record import ConceptRecord, check_record, record_text
from promptplus.errors import ConceptError
from promptplus.fingerprints import tensor_hash
from promptplus.formats.found import OURS, FoundConcept
from promptplus.layers import LayerMap
from promptplus.text_files import parse_json

RECORD = "promptplus"
"""The key of the record in the file's metadata."""
_PLAIN_FIELDS = ("token", "tying", "initializer", "class_word", "kind", "base_model", "token_table", "provenance")


def own_bytes(concept: FoundConcept) -> bytes:
    """The bytes of a concept file. Raises ConceptError where it could not be read again."""
    tensors = {
        key: rows.clone(memory_format=torch.contiguous_format)  # layers may share memory
        for name, part in concept.parts.items()
        for key, rows in zip(own_keys(concept.layers, name), part, strict=True)
    }
    fields: dict[str, Any] = {name: getattr(concept, name) for name in _PLAIN_FIELDS}
    fields["layers"] = [(layer.name, layer.resolution) for layer in concept.layers]
    fields["sha256"] = tensor_hash(concept.rows)
    fields |= {"encoders": list(concept.encoders)} if concept.encoders else {}
    metadata = {
        "format": "pt",
        RECORD: record_text(concept.token, fields, list(concept.rows.shape)),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": concept.token,
        "modelspec.architecture": f"{concept.base_model or 'unknown'}/textual-inversion",
        "modelspec.implementation": "promptplus",
    }
    return save(tensors, metadata)


def read_own(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> FoundConcept:
    """The concept in a file of ours. Raises ConceptError where the file is damaged."""
    if any(t.dtype != torch.float32 or t.ndim != 2 for t in tensors.values()):
        raise ConceptError(f"{path} is damaged: its rows are not [vectors, width] float32")
    fault = f"{path} has a record this version cannot read"
    record = parse_json(metadata[RECORD], ConceptRecord, ConceptError, fault)
    values = parse_json(metadata[RECORD], dict[str, Any], ConceptError, fault)
    layers = LayerMap.from_names(record.layers)
    rows = _rows(path, tensors, layers, [name for name, _ in record.encoders] or [""])
    check_record(path, record, values, list(rows.shape))
    if not torch.isfinite(rows).all():
        raise ConceptError(f"{path} is damaged: it holds numbers that are not finite; save or download it again")
    if tensor_hash(rows) != record.sha256:
        raise ConceptError(f"{path} is damaged: its rows do not match their checksum; save or download it again")
    fields = {name: getattr(record, name) for name in _PLAIN_FIELDS}
    return FoundConcept(OURS, rows=rows, layers=layers, encoders=tuple(record.encoders), **fields)


def own_keys(layers: LayerMap, encoder: str) -> list[str]:
    """The names of one text encoder's tensors in the file; ``encoder``: "" where there is one."""
    return [".".join(filter(None, [encoder, layer.kohya or layer.name])) for layer in layers]


def _rows(
    path: Path, tensors: Mapping[str, Tensor], layers: LayerMap, encoders: Sequence[str]
) -> Float[Tensor, "layers vectors width"]:
    """The rows of all layers, ``[layers, vectors, width]``, those of two text encoders side by side."""
    keys = [own_keys(layers, name) for name in encoders]
    parts = [[tensors.get(key, torch.empty(0)) for key in each] for each in keys]
    shapes = [{part.shape for part in each} for each in parts]
    vectors = {shape[0] for each in shapes for shape in each}
    if {key for each in keys for key in each} != set(tensors) or {len(s) for s in (*shapes, vectors)} != {1}:
        raise ConceptError(f"{path} is damaged: its rows are not those of the {len(layers)} layers it names")
    return torch.cat([torch.stack(each) for each in parts], dim=-1)
