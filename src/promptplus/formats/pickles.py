"""Files of torch (``.pt``, ``.bin``): looked through, and then read by torch with ``weights_only=True`` alone.

Such a file is a program that builds its content. Before torch runs it, it is run here with stand-ins: nothing is
imported, no memory is taken for tensors. It is refused where it is long, where it names any object but those in
``ALLOWED``, and where it asks for a storage or a tensor that is larger than what the file holds.
"""

import io
import pickle
import pickletools
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from promptplus.errors import ConceptError, first_line, short

PARAMETERS = "torch.nn.modules.container.ParameterDict"
"""The one class beside torch's own list that is allowed: the first textual inversions (2022) hold their rows in it."""
ALLOWED = (
    "collections.OrderedDict",
    "__builtin__.set",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    PARAMETERS,
)
"""The names that a file may use, beside the storages."""
STORAGES = {
    "torch.FloatStorage": 4,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.DoubleStorage": 8,
    "torch.LongStorage": 8,
    "torch.IntStorage": 4,
    "torch.ShortStorage": 2,
    "torch.CharStorage": 1,
    "torch.ByteStorage": 1,
    "torch.BoolStorage": 1,
}
"""Storages, and the bytes of one number in them."""
MOST_STEPS = 20_000  # of a pickle; 16 rows take 500, and a deeper nesting would overflow Python's stack
MOST_ENTRIES = 2_000  # of a zip archive; one for each tensor, and seven more
MOST_PROGRAM = 2**20  # bytes of a pickle in a zip archive
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
_ENTRY = b"PK\x01\x02"  # begins each entry of a zip archive's directory
_LEGACY_PICKLES = 5  # mark, protocol, system, the content, the storages' keys
_CONTENT = 3
_LOCK = threading.Lock()  # torch's list of allowed classes and Python's of warnings belong to all threads


def read_torch(path: Path, data: bytes) -> Any:
    """The content of a torch file.

    Args:
        path: for messages.
        data: the whole file. It begins with ``ZIP`` or, as files before torch 1.6, with ``PICKLE``.

    Raises ConceptError where it is damaged, or holds more than plain values and tensors.
    """
    try:
        checked, allow = _checked_zip(data) if data.startswith(ZIP) else _checked_legacy(data)
        classes = torch.serialization.safe_globals([torch.nn.ParameterDict]) if allow else nullcontext()
        with _LOCK, classes, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that ParameterDict's source has changed since; old kinds of storages
            return torch.load(io.BytesIO(checked), map_location="cpu", weights_only=True)
    except _Refused as error:
        raise ConceptError(f"{path} {error}") from error
    except Exception as error:  # whatever a damaged file makes zipfile, pickle or torch raise
        raise ConceptError(f"{path} is a damaged torch file: {first_line(error)[:200]}; download it again") from error


class _Refused(Exception):
    """What a file asks for that it may not; the message follows its name."""


class _Storage(NamedTuple):
    """A storage that a program asks for."""

    key: str
    numbers: int
    bytes: int


def _checked_zip(data: bytes) -> tuple[bytes, bool]:
    """The archive with its checked parts alone, written anew; and whether it holds a ParameterDict.

    So torch reads the bytes that were checked, whatever else the archive's directory says.
    """
    if data.count(_ENTRY) > MOST_ENTRIES:
        raise _Refused(f"is a zip archive of more than {MOST_ENTRIES} files; a concept has one for each tensor")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise _Refused("is a compressed zip archive; torch files are not compressed")
        if sum(entry.file_size for entry in entries.values()) > len(data):
            raise _Refused("is a zip archive whose files are said to be larger than it")
        roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1 or f"{roots[0]}constants.pkl" in entries:
            raise _Refused("is a zip archive, but no torch file of tensors")
        program = archive.read(f"{roots[0]}data.pkl")
        if len(program) > MOST_PROGRAM:
            raise _Refused(f"has a pickle of {len(program):,} bytes; a concept's has a few thousand")
        _check_steps(io.BytesIO(program))
        inspector = _Inspector(program)
        inspector.load()
        parts = {"data.pkl": program, "version": b"3\n"}
        if f"{roots[0]}byteorder" in entries:
            parts["byteorder"] = archive.read(f"{roots[0]}byteorder")
        for storage in inspector.storages:
            content = archive.read(f"{roots[0]}data/{storage.key}")
            if len(content) != storage.bytes:
                raise _Refused(f"has {len(content)} bytes in the storage {storage.key}, but asks for {storage.bytes}")
            parts[f"data/{storage.key}"] = content
    anew = io.BytesIO()
    with zipfile.ZipFile(anew, "w") as archive:
        for name, content in parts.items():
            archive.writestr(f"archive/{name}", content)
    return anew.getvalue(), inspector.parameters


def _checked_legacy(data: bytes) -> tuple[bytes, bool]:
    """The file as it is, checked; and whether it holds a ParameterDict."""
    stream, starts = io.BytesIO(data), list[int]()
    for _ in range(_LEGACY_PICKLES):
        starts.append(stream.tell())
        _check_steps(stream)
    inspector = _Inspector(data[starts[_CONTENT] : starts[_CONTENT + 1]])
    inspector.load()
    if (asked := sum(one.bytes for one in inspector.storages)) > len(data):
        raise _Refused(f"has {len(data)} bytes, but asks for storages of {asked}")
    return data, inspector.parameters


def _check_steps(stream: io.BytesIO) -> None:
    """Read one pickle's steps without running them, and see that they are few."""
    steps = pickletools.genops(stream)
    for number, (operation, argument, _) in enumerate(steps):
        if number > MOST_STEPS:
            raise _Refused(f"has a pickle of more than {MOST_STEPS:,} steps; a concept's has a few hundred")
        numbered = argument if operation.name.endswith("PUT") and isinstance(argument, int) else 0
        if numbered > MOST_STEPS:  # Python would take memory for as many values
            raise _Refused("has a pickle that numbers its values without end")


class _Parameters:
    """Stands for a ParameterDict."""

    def __setstate__(self, state: object) -> None:
        """Take any state, and keep none of it."""


class _Inspector(pickle.Unpickler):
    """Runs a pickle with stand-ins, and notes which storages it asks for.

    Attributes:
        storages: the different storages.
        parameters: whether it holds a ParameterDict.
    """

    def __init__(self, program: bytes) -> None:
        super().__init__(io.BytesIO(program))
        self.storages: list[_Storage] = []
        self.parameters = False

    def find_class(self, module: str, name: str, /) -> Any:
        """What stands for an object that the pickle names. Nothing is imported."""
        full = f"{module}.{name}"
        if full in STORAGES:
            return full
        if full == PARAMETERS:
            self.parameters = True
        stand_ins: dict[str, Callable[..., Any]] = {
            "collections.OrderedDict": OrderedDict,
            "__builtin__.set": set,
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_parameter": _parameter,
            PARAMETERS: _Parameters,
        }
        if full not in ALLOWED:
            raise _Refused(f"asks for the Python object {short(full)}, which embeddings do not need; it was not loaded")
        return stand_ins[full]

    def persistent_load(self, pid: Any, /) -> _Storage:
        """Note a storage: ``("storage", kind, key, device, numbers)``, and a view in old files."""
        if pid[0] == "module":
            raise _Refused(
                "keeps its rows in a class with its source, as torch before 1.6 did, which cannot be read safely; "
                "save them again with a newer torch"
            )
        _, kind, key, _, numbers, *view = pid
        if any(view) or not isinstance(numbers, int) or numbers < 0:
            raise _Refused("asks for a storage in a way that is not known")
        storage = _Storage(str(key), numbers, numbers * STORAGES[kind])
        known = [one for one in self.storages if one.key == storage.key]
        if known and known[0] != storage:
            raise _Refused(f"asks for the storage {short(storage.key)} twice, with different sizes")
        if not known:
            self.storages.append(storage)
        return storage


def _tensor(storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: object) -> object:
    """Stands for a tensor; refuses one that reaches beyond its storage, which torch would make larger."""
    last = offset + sum((one - 1) * step for one, step in zip(size, stride, strict=True))
    inside = all(one > 0 for one in size) and all(step >= 0 for step in stride) and offset >= 0
    if not inside or last >= storage.numbers:
        raise _Refused(f"asks for a tensor {short(list(size))} of the {storage.numbers} numbers in a storage")
    return object()


def _parameter(tensor: object, *_: object) -> object:
    """Stands for a parameter."""
    return tensor
