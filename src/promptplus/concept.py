"""A learned concept: its embedding rows for each layer, where they come from, and the concept file.

The file is in safetensors format. It holds one tensor for each layer, under kohya's name where the model has exactly
their sixteen layers, else under ours; with two text encoders one for each of them, with ``clip_l.`` or ``clip_g.`` in
front. Everything else is one JSON record in the metadata, beside ``modelspec.*`` for model browsers.
"""

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast, get_args

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from promptplus.choices import Kind, Tying
from promptplus.concept_record import ConceptRecord, check_record, record_text
from promptplus.errors import ConceptError, LayerError, check_type, first_line, one_of, short
from promptplus.files import as_path, write_atomically
from promptplus.fingerprints import tensor_hash
from promptplus.layers import LayerMap
from promptplus.placeholders import Placeholder, check_form
from promptplus.text_files import parse_json

MAX_BYTES = 64 * 2**20  # the largest plausible file, SDXL's 70 layers with 64 vectors each, has 37 MB
_RECORD = "promptplus"
_safe_open: Any = safe_open  # it has no types


@dataclass(frozen=True)
class Concept:
    """A placeholder token and the token embeddings it stands for, on each layer.

    ``PPlus.add`` makes the token usable in prompts.

    Attributes:
        token: the placeholder token, such as ``<cat>``.
        rows: ``[layers, vectors, width]``, float32, on the CPU. With two text encoders a row holds both embeddings, one
            after the other.
        layers: the layers of the model it was learned on, in forward order.
        tying: which layers share their rows: ``layer`` (none do: XTI), ``transformer``, ``block``, ``resolution`` or
            ``all`` (TI).
        initializer: the text whose token embedding training started from.
        class_word: the plain word for the concept's class. Evaluation uses it in place of the token.
        kind: ``object`` or ``style``. It selects the caption templates.
        base_model: name of the model it was learned on.
        token_table: hash of that model's token embeddings; "" where it is unknown.
        provenance: how it was made: training settings, or the concepts it was mixed from.
        encoders: name and width of each text encoder where there are two; empty where there is one.

    The texts, ``kind`` and ``provenance`` are checked by ``save``.

    Raises:
        ConceptError: the token's form, the rows' shape, values or tying are wrong.
    """

    token: str
    rows: Float[Tensor, "layers vectors width"] = field(repr=False)
    layers: LayerMap = field(repr=False)
    tying: Tying = "layer"
    initializer: str = ""
    class_word: str = ""
    kind: Kind = "object"
    base_model: str = ""
    token_table: str = field(default="", repr=False)
    provenance: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    encoders: tuple[tuple[str, int], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_form(self.token)
        check_type(self.rows, Tensor, f"{self.token}: rows", ConceptError)
        check_type(self.layers, LayerMap, f"{self.token}: layers", ConceptError)
        if not one_of(self.tying, get_args(Tying)):
            raise ConceptError(f"{self.token}: tying is {', '.join(get_args(Tying))}, not {short(self.tying)}")
        if self.rows.is_complex():
            raise ConceptError(f"{self.token} holds {self.rows.dtype}; rows are real numbers")
        object.__setattr__(self, "rows", self.rows.detach().float().cpu())
        if self.rows.ndim != 3 or self.rows.shape[0] != len(self.layers) or 0 in self.rows.shape:
            want = f"[{len(self.layers)} layers, vectors, width]"
            raise ConceptError(f"{self.token}: rows are {want}, not {list(self.rows.shape)}")
        if self.encoders and sum(width for _, width in self.encoders) != self.width:
            raise ConceptError(f"{self.token}: rows of width {self.width} are not those of {dict(self.encoders)}")
        if not torch.isfinite(self.rows).all():
            raise ConceptError(f"{self.token} holds numbers that are not finite")
        groups = tie(self.tying, self.layers)
        if not torch.equal(self.rows, self.rows[[groups.index(group) for group in groups]]):
            raise ConceptError(f"{self.token} says that its layers share rows ({self.tying}), but those rows differ")

    @property
    def width(self) -> int:
        """The width of a token embedding (D); with two text encoders, of both together."""
        return self.rows.shape[2]

    @property
    def widths(self) -> dict[str, int]:
        """The width of each text encoder's token embedding, by name; of the only one under ""."""
        return dict(self.encoders) or {"": self.width}

    def by_encoder(self, rows: Float[Tensor, "*any width"]) -> dict[str, Float[Tensor, "*any part"]]:
        """The parts of rows by text encoder."""
        parts = torch.split(rows, list(self.widths.values()), dim=-1)
        return dict(zip(self.widths, parts, strict=True))

    @property
    def sha256(self) -> str:
        """Hash of the rows, bit for bit: 64 hex digits."""
        return tensor_hash(self.rows)

    @property
    def learned_layers(self) -> tuple[int, ...]:
        """The layers whose rows were trained, as ``provenance`` says; all where it does not say.

        In the others the token stands for the class word.
        """
        learned = self.provenance.get("learn")
        try:
            return self.layers.select(learned) if isinstance(learned, str) else tuple(range(len(self.layers)))
        except LayerError:  # of a file that was made by other means
            return tuple(range(len(self.layers)))

    @property
    def placeholder(self) -> Placeholder:
        """The rows in the form that text encoding takes."""
        return Placeholder(self.rows, tie(self.tying, self.layers))

    def describe(self) -> dict[str, Any]:
        """The concept in plain values, as ``promptplus info`` prints it."""
        learned = [self.layers.names[i] for i in self.learned_layers]
        norms: list[float] = cast(Any, self.rows).norm(dim=-1).mean(dim=1).tolist()  # torch has no type for norm
        return {
            "token": self.token,
            "kind": self.kind,
            "layers": len(self.layers),
            "vectors": self.rows.shape[1],
            "width": self.width,
            **({"encoders": dict(self.encoders)} if self.encoders else {}),
            "tying": self.tying,
            **({"learned_layers": learned} if len(learned) < len(self.layers) else {}),
            "initializer": self.initializer,
            "class_word": self.class_word,
            "base_model": self.base_model,
            "row_norms": {name: round(norm, 4) for name, norm in zip(self.layers.names, norms, strict=True)},
            "provenance": self.provenance,
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the concept file, completely or not at all. ``Concept.load`` reads it again, bit for bit.

        Returns the path. Raises OutputError or WriteError where the file cannot be written, and ConceptError where it
        could not be read again.
        """
        tensors = {
            key: rows.clone(memory_format=torch.contiguous_format)  # layers may share memory
            for name, part in self.by_encoder(self.rows).items()
            for key, rows in zip(_keys(self.layers, name), part, strict=True)
        }
        fields: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        fields |= {"layers": [(layer.name, layer.resolution) for layer in self.layers], "sha256": self.sha256}
        fields |= {"encoders": list(self.encoders)} if self.encoders else {}
        metadata = {
            "format": "pt",
            _RECORD: record_text(self.token, fields, list(self.rows.shape)),
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.title": self.token,
            "modelspec.architecture": f"{self.base_model or 'unknown'}/textual-inversion",
            "modelspec.implementation": "promptplus",
        }
        return write_atomically(path, save(tensors, metadata))

    def save_approximation(self, path: str | os.PathLike[str]) -> Path:
        """Write the mean over all layers as a plain textual inversion file, for tools that have no per-layer prompts.

        With two text encoders its keys are ``clip_l`` and ``clip_g``, as in kohya's files.
        Returns the path. Raises OutputError where the file cannot be written.
        """
        means = self.by_encoder(self.rows.mean(dim=0))
        return write_atomically(
            path, save({name or self.token: rows.contiguous() for name, rows in means.items()}, {"format": "pt"})
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a concept file. Raises ConceptError where it is missing, damaged, too large or of another format."""
        path = as_path(path, ConceptError)
        record, values, tensors = _read(path)
        layers = LayerMap.from_names(record.layers)
        keys = [_keys(layers, name) for name, _ in record.encoders or [("", 0)]]
        parts = [[tensors.get(key, torch.empty(0)) for key in each] for each in keys]
        shapes = [{part.shape for part in each} for each in parts]
        vectors = {shape[0] for each in shapes for shape in each}
        if {key for each in keys for key in each} != set(tensors) or {len(s) for s in (*shapes, vectors)} != {1}:
            raise ConceptError(f"{path} is damaged: its rows are not those of the {len(layers)} layers it names")
        rows = torch.cat([torch.stack(each) for each in parts], dim=-1)
        check_record(path, record, values, list(rows.shape))
        fields = {name: getattr(record, name) for name in _PLAIN_FIELDS}
        concept = cls(rows=rows, layers=layers, encoders=tuple(record.encoders), **fields)
        if concept.sha256 != record.sha256:
            raise ConceptError(f"{path} is damaged: its rows do not match their checksum; save or download it again")
        return concept


_PLAIN_FIELDS = ("token", "tying", "initializer", "class_word", "kind", "base_model", "token_table", "provenance")


def _keys(layers: LayerMap, encoder: str) -> list[str]:
    """The names of one text encoder's tensors in the file."""
    return [".".join(filter(None, [encoder, layer.kohya or layer.name])) for layer in layers]


def tie(tying: Tying, layers: LayerMap) -> tuple[int, ...]:
    """The group of each layer under a tying: layers with equal numbers share their rows.

    Groups are numbered from 0 in the order of their first layers.
    """
    keys = {
        "layer": [layer.name for layer in layers],
        "transformer": [layer.transformer for layer in layers],
        "block": [layer.block for layer in layers],
        "resolution": [layer.resolution for layer in layers],
        "all": [0] * len(layers),
    }[tying]
    return tuple(list(dict.fromkeys(keys)).index(key) for key in keys)


def _read(path: Path) -> tuple[ConceptRecord, dict[str, Any], dict[str, Tensor]]:
    """The record, the same as plain values, and the tensors."""
    try:
        if not path.is_file():
            raise ConceptError(f"no concept file {path}")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ConceptError(f"{path} has {size} bytes; a concept file has at most {MAX_BYTES}")
        with _safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if _RECORD not in metadata:
                raise ConceptError(f"{path} is a safetensors file but holds no promptplus concept")
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, struct.error) as error:
        raise ConceptError(f"{path} is not a safetensors file: {first_line(error)}") from error
    except OSError as error:
        raise ConceptError(f"cannot read {path}: {error.strerror or first_line(error)}") from error
    if any(t.dtype != torch.float32 or t.ndim != 2 for t in tensors.values()):
        raise ConceptError(f"{path} is damaged: its rows are not [vectors, width] float32")
    fault = f"{path} has a record this version cannot read"
    record = parse_json(metadata[_RECORD], ConceptRecord, ConceptError, fault)
    return record, parse_json(metadata[_RECORD], dict[str, Any], ConceptError, fault), tensors
