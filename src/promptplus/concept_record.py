"""The JSON record in a concept file: its fields and their types, and its checksums.

Two checksums are in the record: ``sha256`` of the rows' numbers, and ``record_sha256`` of the rows' shape and of all
other fields. Files of version 0.1 have the first one alone.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from promptplus.choices import Kind, Tying
from promptplus.errors import ConceptError, first_line, short
from promptplus.text_files import parse_json

FORMAT_VERSION = 1
_CHECKSUM = "record_sha256"
_NAME = r"^(block\.[0-9]{1,3}|(mid|(down|up)\.[0-9]{1,3})\.[0-9]{1,3}(\.[0-9]{1,3})?)$"
MAX_RESOLUTION = 4096  # of a layer's grid; pictures of 32768 pixels have it
LayerName = Annotated[str, Field(pattern=_NAME)]
Resolution = Annotated[int, Field(ge=1, le=MAX_RESOLUTION)]


class ConceptRecord(BaseModel):
    """The JSON record in a concept file: all fields of a concept except its rows."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    format_version: Annotated[int, Field(ge=FORMAT_VERSION, le=FORMAT_VERSION)]
    token: str
    initializer: str
    class_word: str
    kind: Kind
    tying: Tying
    layers: Annotated[list[tuple[LayerName, Resolution]], Field(min_length=1)]
    base_model: str
    token_table: str
    provenance: dict[str, Any]
    sha256: str
    record_sha256: str | None = None
    encoders: list[tuple[Literal["clip_l", "clip_g"], Annotated[int, Field(ge=1)]]] = []

    @field_validator("layers")
    @classmethod
    def _no_layer_twice(cls, layers: list[tuple[str, int]]) -> list[tuple[str, int]]:
        names = [name for name, _ in layers]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the layer {twice} is there twice")
        return layers


def record_text(token: str, fields: dict[str, Any], shape: list[int]) -> str:
    """The record as JSON, with ``record_sha256``.

    Args:
        token: what messages call the concept.
        fields: all fields but ``format_version`` and ``record_sha256``.
        shape: of the rows: ``[layers, vectors, width]``.

    Raises ConceptError where a field has a value that could not be read again.
    """
    try:
        record = ConceptRecord(format_version=FORMAT_VERSION, **fields)
        # of two text encoders only: a file of one stays as earlier versions wrote it
        text = record.model_dump_json(exclude={_CHECKSUM, *(() if record.encoders else ("encoders",))})
    except ValueError as error:  # pydantic's errors of checking and of writing
        raise ConceptError(f"{token} cannot be saved: {first_line(error)}") from error
    values = parse_json(text, dict[str, Any], ConceptError, f"{token} cannot be saved")
    return json.dumps({**values, _CHECKSUM: _hash(values, shape)})


def check_record(path: Path, record: ConceptRecord, values: dict[str, Any], shape: list[int]) -> None:
    """See that record and shape are those that were saved; in files without that checksum, as far as the record says.

    Args:
        path: of the concept file, for messages.
        values: the record as it stands in the file.
        shape: of the rows: ``[layers, vectors, width]``.

    Raises ConceptError where they are not.
    """
    if record.record_sha256 is None:
        vectors = record.provenance.get("vectors", shape[1])
        if vectors != shape[1]:
            raise ConceptError(f"{path} is damaged: each layer has {shape[1]} rows, its record says {short(vectors)}")
    elif record.record_sha256 != _hash(values, shape):
        raise ConceptError(f"{path} is damaged: its record does not match its checksum; save or download it again")


def _hash(values: dict[str, Any], shape: list[int]) -> str:
    """Hash of a record's fields without this hash, and of the rows' shape: 64 hex digits."""
    covered = {name: value for name, value in values.items() if name != _CHECKSUM}
    return sha256(json.dumps([covered, shape], sort_keys=True).encode()).hexdigest()
