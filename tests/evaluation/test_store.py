"""Stores: entries are the same packed and unpacked, and none is lost by a kill, a race or a damaged file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save_file

import promptplus as pp
from promptplus.errors import ConceptError, OutputError
from promptplus.evaluation import store as stores
from promptplus.evaluation.store import ConceptStore, RecordStore
from tests.conftest import make_concept

RECORDS: dict[str, dict[str, Any]] = {
    f"id{number}": {"subject": 0.1 + number / 3, "by_prompt": {"a {}": [number, -0.25]}, "method": "XTI, “ü”"}
    for number in range(6)
}


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    """Four records packed, one in a single file, one in both."""
    store = RecordStore(tmp_path / "results")
    for name in list(RECORDS)[:5]:
        store.write(name, RECORDS[name])
    store.pack()
    for name in list(RECORDS)[4:]:
        store.write(name, RECORDS[name])
    return store


def contents(store: RecordStore) -> dict[str, Any]:
    """As another process reads them."""
    other = RecordStore(store.folder)
    return {name: other.entry(name) for name in other.ids()}


def test_records_are_the_same_packed_and_unpacked(store: RecordStore) -> None:
    assert contents(store) == RECORDS
    assert all(name in store for name in RECORDS)
    assert "id9" not in store
    assert store.entry("id9") is None
    store.pack()
    assert not list(store.folder.glob("*.json"))
    assert contents(store) == {name: store.entry(name) for name in RECORDS} == RECORDS
    lines = store.packed.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"id": name, **record} for name, record in RECORDS.items()]
    before = store.packed.stat().st_mtime_ns
    store.pack()
    assert store.packed.stat().st_mtime_ns == before, "nothing was left to pack"


def test_concepts_are_the_same_packed_and_unpacked(pplus: pp.PPlus, tmp_path: Path) -> None:
    store = ConceptStore(tmp_path / "learned")
    concepts = {f"id{seed}": make_concept(pplus, f"<c{seed}>", seed, vectors=seed) for seed in (1, 2, 3)}
    for name, concept in concepts.items():
        concept.save(store.path(name))
    files = {name: store.entry(name) for name in concepts}
    records = {name: store.load(name).describe() for name in concepts}
    lora = {"down.weight": torch.ones(2, 2)}
    save_file(lora, store.path("lora"), {"seconds": "3.5"})
    store.pack()
    assert [path.name for path in store.folder.glob("*.safetensors")] == ["lora.safetensors"], "LoRAs stay"
    for name, concept in concepts.items():
        loaded, file = store.load(name), files[name]
        assert torch.equal(loaded.rows, concept.rows)
        assert loaded.sha256 == concept.sha256
        assert loaded.describe() == concept.describe() == records[name]
        assert file is not None
        packed = store.entry(name)
        assert packed is not None
        assert packed[1] == file[1]
        assert {key: tensor.tolist() for key, tensor in packed[0].items()} == {
            k: t.tolist() for k, t in file[0].items()
        }
    with safe_open(store.packed, "pt") as file:
        assert {key.partition("/")[0] for key in file.keys()} == set(concepts)
    with pytest.raises(ConceptError, match="no concept id9 in"):
        store.load("id9")


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def dying(call: Callable[..., Any], after: bool) -> Callable[..., Any]:
    """A function that dies before it does anything, or after it has done all."""

    def killed(*arguments: Any, **options: Any) -> None:
        if after:
            call(*arguments, **options)
        raise Killed

    return killed


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", ["write_atomically", "_sync_folder", "unlink", "replace", "sync"])
def test_a_kill_while_packing_loses_nothing(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    with monkeypatch.context() as patch:
        if step in ("unlink", "replace"):
            patch.setattr(Path, step, dying(getattr(Path, step), after))
        elif step == "sync":
            patch.setattr("promptplus.files.sync", dying(lambda _: None, after))
        else:
            patch.setattr(stores, step, dying(getattr(stores, step), after))
        with pytest.raises(Killed):
            store.pack()
    assert contents(store) == RECORDS
    store.pack()
    assert contents(store) == RECORDS
    assert not list(store.folder.glob("*.json"))


def test_while_another_process_packs_single_files_stay(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LOCK_SECONDS", 0)
    with FileLock(store.folder / ".lock"):
        store.pack()
        assert sorted(path.stem for path in store.folder.glob("*.json")) == ["id4", "id5"]
    assert contents(store) == RECORDS


def test_writers_packers_and_readers_work_side_by_side(tmp_path: Path) -> None:
    """Each has a store object of its own, as processes have."""
    folder, count, writers = tmp_path / "results", 25, 4

    def write(writer: int) -> None:
        store = RecordStore(folder)
        for number in range(count):
            store.write(f"{writer}-{number}", {"writer": writer, "number": number})
            if number % 5 == writer:
                store.pack()
            reader = RecordStore(folder)
            for earlier in range(number + 1):
                assert reader.entry(f"{writer}-{earlier}") == {"writer": writer, "number": earlier}
                assert f"{writer}-{earlier}" in store

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    RecordStore(folder).pack()
    assert len(RecordStore(folder).ids()) == writers * count
    assert not list(folder.glob("*.json"))


def test_a_damaged_packed_file_is_an_error_and_stays_as_it_is(store: RecordStore, tmp_path: Path) -> None:
    text = store.packed.read_text("utf-8")
    for damaged in (text[:-20], "[]\n", text.replace('"id"', '"name"')):
        store.packed.write_text(damaged, "utf-8")
        with pytest.raises(OutputError, match="is no file of results"):
            store.entry("id0")
        with pytest.raises(OutputError):
            store.pack()
        assert store.packed.read_text("utf-8") == damaged
        assert sorted(path.stem for path in store.folder.glob("*.json")) == ["id4", "id5"]
    concepts = ConceptStore(tmp_path / "learned")
    concepts.packed.write_bytes(b"no tensors")
    with pytest.raises(OutputError, match="is not a safetensors file"):
        concepts.load("id0")
    save_file({"id0/row": torch.ones(1)}, concepts.packed, {"id1": "{}"})
    with pytest.raises(OutputError, match="is no file of concepts"):
        concepts.load("id0")


PACKER = """
import sys
from pathlib import Path
from promptplus.evaluation.store import RecordStore
store, number = RecordStore(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
while True:
    store.write(f"id{number}", {"number": number, "text": "x" * 20000})
    print(number, flush=True)
    store.pack()
    number += 1
"""


@pytest.mark.slow
def test_processes_may_be_killed_at_any_moment(tmp_path: Path) -> None:
    """Whatever a process said to have written is there after its kill."""
    folder, written = tmp_path / "results", set[int]()
    for turn in range(6):
        call = [sys.executable, "-c", PACKER, str(folder), str(1000 * turn)]
        with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            written |= {int(process.stdout.readline()) for _ in range(3)}
            time.sleep(0.013 * turn)  # somewhere in a round of writing and packing
            os.kill(process.pid, signal.SIGKILL)
            written |= {int(line) for line in process.stdout.read().split("\n")[:-1]}
    store = RecordStore(folder)
    assert {f"id{number}" for number in written} <= store.ids()
    store.pack()
    records = {name: store.entry(name) for name in store.ids()}
    assert all(record and record["text"] == "x" * 20000 for record in records.values())
    assert len(records) >= len(written) >= 18
