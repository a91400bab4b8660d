"""The content of a concept's file, of any tool: its tensors and plain values. Its first bytes decide how it is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from promptplus.errors import ConceptError, first_line
from promptplus.formats.found import DIFFUSERS
from promptplus.formats.pickles import PICKLE, ZIP, read_torch
from promptplus.text_files import read_bytes

MAX_BYTES = 64 * 2**20  # the largest plausible file, SDXL's 70 layers with 64 vectors each, has 37 MB
MAX_HEADER = 8 * 2**20  # bytes of a safetensors header; that of a large LoRA with kohya's metadata has 2 MB
MAX_NUMBERS = MAX_BYTES // 2  # in all tensors together: views of one storage may be many times as large as the file
MAX_TENSORS = 10_000
_LENGTH = 8  # bytes before a safetensors header, which give its length
_safe_open: Any = safe_open  # it has no types


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        path: the file.
        values: tensors and plain values, by name.
        metadata: of a safetensors file.
    """

    path: Path
    values: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors among the values."""
        return {name: value for name, value in self.values.items() if isinstance(value, Tensor)}


def read_contents(path: Path) -> Contents:
    """Read a file in safetensors or torch format.

    Raises ConceptError where it is missing, damaged, too large or of another format.
    """
    if not path.is_file():
        raise ConceptError(f"no concept file {path}")
    data = read_bytes(path, ConceptError, MAX_BYTES)
    if _is_safetensors(data):
        contents = _read_safetensors(path, data)
    elif data.startswith((ZIP, PICKLE)):
        contents = _plain(path, read_torch(path, data))
    else:
        raise ConceptError(
            f"{path} is not a safetensors file and not a torch file, which hold concepts: "
            f"{f'it begins with {data[:8]!r}' if data else 'it is empty'}"
        )
    inner = [one for value in contents.values.values() if isinstance(value, dict) for one in value.values()]
    tensors = [one for one in (*contents.values.values(), *inner) if isinstance(one, Tensor)]
    if (numbers := sum(tensor.numel() for tensor in tensors)) > MAX_NUMBERS:
        raise ConceptError(f"{path} holds {numbers:,} numbers; a concept file has at most {MAX_NUMBERS:,}")
    return contents


def _is_safetensors(data: bytes) -> bool:
    """Whether a file begins as safetensors files do: the header's length, and the brace of its JSON."""
    return data[_LENGTH : _LENGTH + 1] == b"{"


def _read_safetensors(path: Path, data: bytes) -> Contents:
    if (length := int.from_bytes(data[:_LENGTH], "little")) > MAX_HEADER:
        raise ConceptError(
            f"{path} is not a safetensors file of a concept: its header is said to have {length:,} bytes, "
            f"and at most {MAX_HEADER:,} are read"
        )
    try:
        with _safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            names: list[str] = list(file.keys())
            if len(names) > MAX_TENSORS:
                raise ConceptError(f"{path} holds {len(names):,} tensors; a concept file has at most {MAX_TENSORS:,}")
            return Contents(path, {name: file.get_tensor(name) for name in names}, metadata)
    except ConceptError:
        raise
    except Exception as error:  # SafetensorError, and what torch raises on kinds of numbers that it does not know
        raise ConceptError(f"{path} is not a safetensors file: {first_line(error)}; download it again") from error


def _plain(path: Path, value: Any) -> Contents:
    """The content of a torch file as names and values. A tensor alone has the name ""."""
    if isinstance(value, Tensor):
        value = {"": value}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ConceptError(
            f"{path} holds a {type(value).__name__}, no tensors by name; a {DIFFUSERS} is a dictionary of tensors"
        )
    values = {name: _flat(one) for name, one in value.items()}
    if len(values) > MAX_TENSORS:
        raise ConceptError(f"{path} holds {len(values):,} values; a concept file has at most {MAX_TENSORS:,}")
    return Contents(path, values)


def _flat(value: Any) -> Any:
    """A ParameterDict as a dictionary of its tensors; its other attributes, which a file may set, are not asked."""
    return vars(value).get("_parameters") if isinstance(value, torch.nn.ParameterDict) else value
