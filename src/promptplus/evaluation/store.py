"""Stores of results and trained concepts: single files while work is under way, one packed file afterwards.

A store is a folder of single files, one per id, and a packed file beside it. Every file is written atomically. Reading
looks for a single file first and then into the packed file, so an id may be in both for a moment. Any number of
processes may read, write and pack the same store.
"""

import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from promptplus.concept import Concept
from promptplus.errors import ConceptError, OutputError, first_line, short
from promptplus.files import make_folder, reported, write_atomically
from promptplus.text_files import parse_json, read_json, read_text

LOCK_SECONDS = 60  # how long packing waits for another process that packs; then the single files stay (our choice)

Entry = TypeVar("Entry")


class Store(ABC, Generic[Entry]):
    """Entries by id.

    Args:
        folder: of the single files ``folder/ID.suffix``; it is made if there is none. The packed file lies beside it.

    Attributes:
        suffix: ends the names of single files.
        packed_suffix: ends the name of the packed file.
    """

    suffix: str
    packed_suffix: str

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)
        self.packed = folder.with_name(folder.name + self.packed_suffix)
        self._cached: tuple[tuple[int, int, int], dict[str, Entry]] | None = None  # (state of the packed file, entries)

    def path(self, entry_id: str) -> Path:
        """Where the single file of an id is written; ``pack`` may have moved it into the packed file."""
        return self.folder / f"{entry_id}{self.suffix}"

    def __contains__(self, entry_id: str) -> bool:
        return self.path(entry_id).exists() or entry_id in self._packed_entries()

    def entry(self, entry_id: str) -> Entry | None:
        """The entry of an id; None if there is none."""
        try:
            return self._read_single(self.path(entry_id))
        except FileNotFoundError:  # checked in this order: packing removes a single file after its packed copy exists
            return self._packed_entries().get(entry_id)

    def ids(self) -> set[str]:
        """All ids that are packed or in single files."""
        return {path.stem for path in self._singles()} | set(self._packed_entries())

    def pack(self) -> None:
        """Move all single files into the packed file.

        The packed file is replaced as a whole before any single file is removed, so that a kill at any moment loses
        nothing. Single files that another process writes meanwhile stay. Where another process packs for longer than
        a minute, all single files stay.
        """
        if not self._singles():
            return
        lock = FileLock(self.folder / ".lock", timeout=LOCK_SECONDS, fallback_to_soft=False)
        with reported(self.packed), suppress(Timeout), lock:
            singles = self._singles()
            entries = {**self._packed_entries(), **{path.stem: self._read_single(path) for path in singles}}
            write_atomically(self.packed, self._pack(dict(sorted(entries.items()))))
            _sync_folder(self.packed.parent)
            for path in singles:
                path.unlink(missing_ok=True)

    def _singles(self) -> list[Path]:
        return [path for path in sorted(self.folder.glob(f"*{self.suffix}")) if self._belongs(path)]

    def _packed_entries(self) -> Mapping[str, Entry]:
        try:
            status = self.packed.stat()
        except FileNotFoundError:
            return {}
        signature = status.st_mtime_ns, status.st_size, status.st_ino
        if self._cached is None or self._cached[0] != signature:
            self._cached = signature, self._unpack()
        return self._cached[1]

    def _belongs(self, path: Path) -> bool:
        """Whether a single file is packed."""
        return True

    @abstractmethod
    def _read_single(self, path: Path) -> Entry:
        """Raises FileNotFoundError where there is none."""

    @abstractmethod
    def _pack(self, entries: Mapping[str, Entry]) -> bytes:
        """The packed file's bytes."""

    @abstractmethod
    def _unpack(self) -> dict[str, Entry]:
        """The packed file's entries. Raises OutputError on a damaged file."""


class RecordStore(Store[dict[str, Any]]):
    """JSON records: ``folder/ID.json``, packed as ``folder.jsonl``: one record per line, with its id under ``id``."""

    suffix, packed_suffix = ".json", ".jsonl"

    def write(self, entry_id: str, record: Mapping[str, Any]) -> None:
        """Write a single file."""
        write_atomically(self.path(entry_id), (json.dumps(record, indent=2) + "\n").encode())

    def _read_single(self, path: Path) -> dict[str, Any]:
        remedy = "remove it to measure it again, or give another folder"
        try:
            return read_json(path, dict[str, Any], OutputError, "is no result", remedy, finite=False)
        except OutputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise error.__cause__ from None
            raise

    def _pack(self, entries: Mapping[str, dict[str, Any]]) -> bytes:
        lines = (json.dumps({"id": entry_id, **record} | {"id": entry_id}) for entry_id, record in entries.items())
        return "".join(line + "\n" for line in lines).encode()

    def _unpack(self) -> dict[str, dict[str, Any]]:
        fault, remedy = f"{self.packed} is no file of results", "give another folder"
        entries: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(read_text(self.packed, OutputError).splitlines(), 1):
            place = f"{fault}: line {number}"
            record = parse_json(line, dict[str, Any], OutputError, place, remedy, finite=False)
            entry_id = record.pop("id", None)
            if not isinstance(entry_id, str):
                raise OutputError(f"{place} has no id; {remedy}")
            entries[entry_id] = record
        return entries


Tensors = tuple[dict[str, Tensor], dict[str, str]]
"""A safetensors file's content: tensors by name, and its metadata."""


class ConceptStore(Store[Tensors]):
    """Concept files: ``folder/ID.safetensors``, packed as ``folder.safetensors``.

    In the packed file a tensor is named ``ID/NAME``, and the metadata holds each file's own metadata as JSON under its
    id. The numbers are the same bit for bit. Other safetensors files in the folder, such as LoRAs, stay as they are.
    """

    suffix, packed_suffix = ".safetensors", ".safetensors"

    def load(self, entry_id: str) -> Concept:
        """The concept of an id. Raises ConceptError where there is none, or where it is damaged."""
        entry = self.entry(entry_id)
        if entry is None:
            raise ConceptError(f"no concept {entry_id} in {self.folder} or {self.packed}")
        with tempfile.TemporaryDirectory() as folder:
            path = write_atomically(Path(folder) / f"{entry_id}.safetensors", save(*entry))
            return Concept.load(path)

    def _belongs(self, path: Path) -> bool:
        try:
            with safe_open(path, "pt") as file:
                return _CONCEPT in (file.metadata() or {})
        except FileNotFoundError:  # another process has packed it
            return False
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, error) from error

    def _read_single(self, path: Path) -> Tensors:
        return _open(path)

    def _pack(self, entries: Mapping[str, Tensors]) -> bytes:
        tensors = {
            f"{entry_id}/{name}": tensor for entry_id, entry in entries.items() for name, tensor in entry[0].items()
        }
        return save(tensors, {entry_id: json.dumps(metadata) for entry_id, (_, metadata) in entries.items()})

    def _unpack(self) -> dict[str, Tensors]:
        tensors, metadata = _open(self.packed)
        fault, remedy = f"{self.packed} is no file of concepts", "give another folder"
        entries: dict[str, Tensors] = {
            entry_id: ({}, parse_json(text, dict[str, str], OutputError, f"{fault}: {short(entry_id)}", remedy))
            for entry_id, text in metadata.items()
        }
        for key, tensor in tensors.items():
            entry_id, _, name = key.partition("/")
            if entry_id not in entries:
                raise OutputError(f"{fault}: it has no record of {short(entry_id)}; {remedy}")
            entries[entry_id][0][name] = tensor
        return entries


_CONCEPT = "promptplus"  # the metadata key of a concept's record


def _open(path: Path) -> Tensors:
    try:
        with safe_open(path, "pt") as file:
            # copies: the file itself is mapped, and stays in use as long as its tensors
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
            return tensors, dict(file.metadata() or {})
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> OutputError:
    return OutputError(f"{path} is not a safetensors file ({first_line(error)}); remove it, or give another folder")


def _sync_folder(folder: Path) -> None:
    """Have a folder's new names on the disk before old files are removed; a no-op where folders cannot be opened."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
