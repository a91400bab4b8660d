"""A tiny file of each format, made here: what other tools write, with the classes and names that they use."""

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

import promptplus as pp
from promptplus.formats import found
from promptplus.formats.layouts import OF_SDXL, SIXTEEN

WIDTH = 8
INVOKE, FOLDER, OUR_FOLDER = "InvokeAI textual inversion", "folder of sd-concepts-library", "our folder, or the hub's"
Tensors = dict[str, Tensor]
KOHYA = [str(layer.kohya) for layer in SIXTEEN]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@dataclass(frozen=True)
class Sample:
    """A file of another tool, or ours.

    Attributes:
        format: the row of the table in docs/files.md.
        container: how the numbers are packed.
        tensors: the file's tensors by name.
        pack: tensors → the file's bytes.
        rows: what they mean: ``[layers, vectors, width]``.
        token: what the file calls the concept; "" where it does not.
        layers: of the concept.
        beside: further files, where it is a folder; its own name is ``name``.
    """

    format: str
    container: str
    tensors: Tensors
    pack: Callable[[Tensors], bytes]
    rows: Tensor
    token: str = ""
    layers: pp.LayerMap = SIXTEEN
    name: str = "file"
    beside: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return f"{self.format}, {self.container}"

    @property
    def per_layer(self) -> bool:
        """Whether each layer has rows of its own."""
        return len(self.tensors) >= len(SIXTEEN)

    def write(self, folder: Path, tensors: Tensors | None = None) -> Path:
        """Write it into a folder; returns what is read. ``tensors``: others than its own."""
        return self.write_bytes(folder, self.pack(self.tensors if tensors is None else tensors))

    def write_bytes(self, folder: Path, data: bytes) -> Path:
        """The same with any bytes."""
        (folder / self.name).write_bytes(data)
        for name, text in self.beside.items():
            (folder / name).write_text(text, "utf-8")
        return folder if self.beside else folder / self.name


def safetensors(metadata: dict[str, str] | None = None) -> Callable[[Tensors], bytes]:
    return lambda tensors: save(tensors, metadata)


def torch_file(wrap: Callable[[Tensors], Any] = dict, *, old: bool = False) -> Callable[[Tensors], bytes]:
    """A pickle, in a zip archive or, ``old``, as torch wrote it before version 1.6."""

    def pack(tensors: Tensors) -> bytes:
        file = io.BytesIO()
        torch.save(wrap(tensors), file, _use_new_zipfile_serialization=not old)
        return file.getvalue()

    return pack


def a1111(tensors: Tensors) -> dict[str, Any]:
    return {"string_to_token": {"*": 265}, "string_to_param": dict(tensors), "name": "Toy-Cat", "step": 500} | {
        "sd_checkpoint": None,
        "sd_checkpoint_name": "v1-5-pruned",
    }


def first_inversions(tensors: Tensors) -> dict[str, Any]:
    """What the first textual inversions of 2022 hold: a ParameterDict."""
    parameters = nn.ParameterDict(
        {name: nn.Parameter(tensor, tensor.is_floating_point()) for name, tensor in tensors.items()}
    )
    return {"string_to_token": {name: torch.tensor(265) for name in tensors}, "string_to_param": parameters}


def parameters(tensors: Tensors) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(tensor, tensor.is_floating_point()) for name, tensor in tensors.items()}


def tied(rows: Tensor, layers: pp.LayerMap = SIXTEEN) -> Tensor:
    """The rows of a textual inversion, on all layers."""
    return rows.float().reshape(-1, rows.shape[-1]).expand(len(layers), -1, -1)


def _ours() -> Sample:
    rows = numbers(16, 2, WIDTH)
    made = pp.Concept("<cat>", rows, SIXTEEN)
    return Sample(found.OURS, "safetensors", dict(zip(KOHYA, rows, strict=True)), _pack_ours, made.rows, "<cat>")


def _pack_ours(tensors: Tensors) -> bytes:
    """Our file with other tensors under the same record, as damage leaves it."""
    import json

    from promptplus.formats.own import own_bytes

    rows = numbers(16, 2, WIDTH)
    data = own_bytes(found.FoundConcept(found.OURS, "<cat>", rows, SIXTEEN))
    length = struct.unpack("<Q", data[:8])[0]
    return save(tensors, json.loads(data[8 : 8 + length])["__metadata__"])


def _samples() -> list[Sample]:
    xti, plain = numbers(16, 2, WIDTH), numbers(3, WIDTH)
    named, numbered = dict(zip(KOHYA, xti, strict=True)), {f"<cat>-{i}": xti[i, 0] for i in range(16)}
    plain_numbered = {f"cat-toy-{i}": xti[i, 0] for i in range(16)}
    extended = {f"<cat-{i}-{j}>": xti[i, j] for i in range(16) for j in range(2)}
    bare = {**extended, "<cat>": plain[0]}
    whole = torch.cat([plain[:1].expand(16, 1, -1), xti], dim=1)
    flags = dict.fromkeys(bare, "<embed>")
    two = {"clip_l": numbers(2, WIDTH), "clip_g": numbers(2, WIDTH + 4)}
    half = {"<cat>": plain.half()}
    xl = tied(torch.cat(list(two.values()), dim=-1), OF_SDXL)
    return [
        _ours(),
        Sample(found.KOHYA_XTI, "safetensors", named, safetensors(), xti),
        Sample(found.KOHYA_XTI, "torch", named, torch_file(), xti),
        Sample(found.MKSHING, "torch", numbered, torch_file(), xti[:, :1], "<cat>"),
        Sample(found.MKSHING, "torch before 1.6", plain_numbered, torch_file(old=True), xti[:, :1], "<cat-toy>"),
        Sample(found.CLONEOFSIMO, "safetensors", bare, safetensors(flags), whole, "<cat>"),
        Sample(found.DIFFUSERS, "safetensors", {"<cat>": plain}, safetensors(), tied(plain), "<cat>"),
        Sample(found.DIFFUSERS, "torch", {"<cat>": plain[0]}, torch_file(parameters), tied(plain[0]), "<cat>"),
        Sample(found.DIFFUSERS, "safetensors, half precision", half, safetensors(), tied(half["<cat>"]), "<cat>"),
        Sample(found.A1111, "torch", {"*": plain}, torch_file(a1111), tied(plain), "<toy-cat>"),
        Sample(found.A1111, "torch before 1.6", {"*": plain}, torch_file(a1111, old=True), tied(plain), "<toy-cat>"),
        Sample(found.A1111, "torch, ParameterDict", {"*": plain}, torch_file(first_inversions), tied(plain)),
        Sample(found.KOHYA, "safetensors", {"emb_params": plain}, safetensors(), tied(plain)),
        Sample(found.KOHYA, "torch", {"emb_params": plain}, torch_file(), tied(plain)),
        Sample(found.SDXL, "safetensors", two, safetensors(), xl, layers=OF_SDXL),
        Sample(found.SDXL, "torch", two, torch_file(), xl, layers=OF_SDXL),
        Sample(
            found.ONETRAINER, "safetensors", {"emp_params": plain.bfloat16()}, safetensors(), tied(plain.bfloat16())
        ),
        Sample(INVOKE, "torch", {"<cat>": plain}, torch_file(), tied(plain), "<cat>"),
        Sample(
            *(FOLDER, "torch", {"<cat>": plain[0]}, torch_file(), tied(plain[0]), "<cat>"),
            name="learned_embeds.bin",
            beside={"token_identifier.txt": "<cat>", "type_of_concept.txt": "style", "README.md": "# cat"},
        ),
    ]


SAMPLES = _samples()


def rezipped(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """A zip archive with changed files, whose sizes and checksums are right again."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return made.getvalue()
