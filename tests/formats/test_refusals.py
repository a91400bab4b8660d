"""What is wrong in a file is said in one sentence that names the file, what was found and what was expected."""

import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import promptplus as pp
from promptplus.errors import ConceptError
from promptplus.formats import contents, found, pickles
from tests.formats.samples import KOHYA, SAMPLES, WIDTH, Sample, Tensors, numbers, rezipped, torch_file

Damage = Callable[[Tensors], Tensors]


def last_layer(tensors: Tensors) -> str:
    """The name of a tensor of the last layer."""
    return next(name for name in tensors if name == KOHYA[-1] or re.search(r"-15\b", name))


def fifteen(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != last_layer(tensors)}


def seventeen(tensors: Tensors) -> Tensors:
    """One layer more, with the name that comes next."""
    name = last_layer(tensors)
    return {**tensors, "IN09" if name in KOHYA else name.replace("-15", "-16"): tensors[name].clone()}


def another_width(tensors: Tensors) -> Tensors:
    name = last_layer(tensors)
    return {**tensors, name: tensors[name][..., :-1].contiguous()}


def first_with(change: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    """The first tensor changed."""

    def damage(tensors: Tensors) -> Tensors:
        name, tensor = next(iter(tensors.items()))
        return {**tensors, name: change(tensor)}

    return damage


PER_LAYER: dict[str, Damage] = {"15 layers": fifteen, "17 layers": seventeen, "a layer of another width": another_width}
ANY: dict[str, Damage] = {
    "NaN": first_with(lambda tensor: tensor * float("nan")),
    "whole numbers": first_with(lambda tensor: tensor.to(torch.int64)),
    "double precision": first_with(torch.Tensor.double),
    "another shape": first_with(lambda tensor: tensor.reshape(1, 1, -1)),
    "no numbers": first_with(lambda tensor: tensor[..., :0]),
    "no tensors": lambda tensors: {},
}


def is_zip(data: bytes) -> bool:
    return data.startswith(pickles.ZIP)


def lying(data: bytes) -> bytes:
    """A header, or a pickle, that says something else than what the file holds."""
    if data[8:9] == b"{":
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + length])
        name = next(name for name in header if name != "__metadata__")
        header[name]["shape"] = [1000, *header[name]["shape"][1:]]
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]
    if is_zip(data):
        return rezipped(data, lambda name, old: old[: len(old) // 2] if "/data/" in name else old)
    return data[:-4]  # an old torch file's last storage then has a number less than it says


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) - 20],
    "half of it": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a header that lies": lying,
    "a text": lambda data: b"Not found\n",
}


def refuse(path: Path, source: Path) -> str:
    """See that loading is refused in one sentence that names the file; returns it."""
    with pytest.raises(ConceptError) as caught:
        pp.Concept.load(source, "<x>")
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600
    return message


each = pytest.mark.parametrize("sample", SAMPLES, ids=str)


@pytest.mark.file_format("refused")
@pytest.mark.parametrize("damage", ANY)
@each
def test_wrong_numbers(sample: Sample, damage: str, tmp_path: Path) -> None:
    source = sample.write(tmp_path, ANY[damage](sample.tensors))
    message = refuse(tmp_path / sample.name, source)
    if damage in ("another shape", "whole numbers", "double precision") and sample.format != found.OURS:
        assert "rows are [vectors, width] or [width], of float32, float16 or bfloat16" in message


@pytest.mark.file_format("refused")
@pytest.mark.parametrize("damage", PER_LAYER)
@pytest.mark.parametrize("sample", [one for one in SAMPLES if one.per_layer], ids=str)
def test_wrong_layers(sample: Sample, damage: str, tmp_path: Path) -> None:
    source = sample.write(tmp_path, PER_LAYER[damage](sample.tensors))
    message = refuse(tmp_path / sample.name, source)
    if sample.format == found.KOHYA_XTI and damage == "15 layers":
        assert "holds 15 of 16 layers: the layer OUT11 is missing" in message
    if sample.format == found.KOHYA_XTI and damage == "17 layers":
        assert "holds 17 tensors, 'IN09' among them" in message


@pytest.mark.file_format("refused")
@pytest.mark.parametrize("damage", BYTES)
@each
def test_damaged_bytes(sample: Sample, damage: str, tmp_path: Path) -> None:
    source = sample.write_bytes(tmp_path, BYTES[damage](sample.pack(sample.tensors)))
    refuse(tmp_path / sample.name, source)


def test_too_many_vectors_and_too_wide_rows(tmp_path: Path) -> None:
    for shape in ((76, WIDTH), (1, 20_000)):
        (tmp_path / "x").write_bytes(torch_file()({"<x>": numbers(*shape)}))
        assert "at most 75 vectors of width 16384" in refuse(tmp_path / "x", tmp_path / "x")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    os.truncate(tmp_path / "x", contents.MAX_BYTES + 1)
    assert "has more than" in refuse(tmp_path / "x", tmp_path / "x")


def test_names_that_lead_elsewhere_are_names(tmp_path: Path) -> None:
    """Names of tensors and of archive members are never paths: nothing is written, and the token is refused."""
    (tmp_path / "x").write_bytes(torch_file()({"<../../x>": numbers(1, WIDTH)}))
    with pytest.raises(ConceptError, match="names no placeholder token"):
        pp.Concept.load(tmp_path / "x")
    moved = rename_members((tmp_path / "x").read_bytes(), lambda name: name.replace("data/0", "data/../0"))
    (tmp_path / "y").write_bytes(moved)
    refuse(tmp_path / "y", tmp_path / "y")
    assert {path.name for path in tmp_path.rglob("*")} == {"x", "y"}


def rename_members(data: bytes, rename: Callable[[str], str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            new.writestr(rename(entry.filename), old.read(entry))
    return made.getvalue()


# ---- pickles


class Harmful:
    """What would run a command if it was loaded as pickles are."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("call", [os.mkdir, eval, torch.load, getattr, torch.nn.Linear])
def test_a_pickle_that_asks_for_more_than_tensors_is_not_loaded(call: Any, old: bool, tmp_path: Path) -> None:
    marker = tmp_path / "made"
    data = torch_file(lambda t: {**t, "x": Harmful(call, str(marker))}, old=old)({"<x>": numbers(1, WIDTH)})
    (tmp_path / "x.pt").write_bytes(data)
    message = refuse(tmp_path / "x.pt", tmp_path / "x.pt")
    assert re.search(r"asks for the Python object '.*', which embeddings do not need; it was not loaded", message)
    assert not marker.exists()


def program(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read("archive/data.pkl")


def with_program(data: bytes, new: bytes) -> bytes:
    return rezipped(data, lambda name, old: new if name.endswith("data.pkl") else old)


VALID = torch_file()({"<x>": torch.ones(4)})
FOUR, MANY = b"K\x04", b"J\x00\x00\x00\x40"  # 4, and 2**30, as pickles write them


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.replace(FOUR + b"tq", MANY + b"tq"), "has 16 bytes in the storage 0, but asks for 4294967296"),
        (lambda p: p.replace(FOUR + b"\x85", MANY + b"\x85"), "asks for a tensor .* of the 4 numbers in a storage"),
        (lambda p: p.replace(b"QK\x00", b"QK\x03"), "asks for a tensor .* of the 4 numbers in a storage"),
        (lambda p: p.replace(b"K\x01\x85", b"K\x09\x85"), "asks for a tensor .* of the 4 numbers in a storage"),
        (lambda p: p.replace(b"FloatStorage", b"ComplexDoubleStorage"), "asks for the Python object"),
        (lambda p: b"\x80\x02" + b")" + b"\x85" * 60_000 + b".", "more than 20,000 steps"),
        (lambda p: b"\x80\x02N" + b"r\xff\xff\xff\x7f" + b".", "numbers its values without end"),
        (lambda p: b"\x80\x02X" + struct.pack("<I", 2**21) + b"x" * 2**21 + b".", "a pickle of 2,097,160 bytes"),
        (lambda p: p[:-1], "damaged torch file"),
    ],
)
def test_a_pickle_that_lies_takes_no_memory(change: Any, message: str, tmp_path: Path) -> None:
    changed = change(program(VALID))
    assert changed != program(VALID)
    (tmp_path / "x.pt").write_bytes(with_program(VALID, changed))
    assert re.search(message, refuse(tmp_path / "x.pt", tmp_path / "x.pt"))


def test_an_old_file_that_lies_takes_no_memory(tmp_path: Path) -> None:
    data = torch_file(old=True)({"<x>": torch.ones(4)})
    lie = data.replace(FOUR + b"Nt", MANY + b"Nt")
    assert lie != data
    (tmp_path / "x.bin").write_bytes(lie)
    assert "but asks for storages of 4294967296" in refuse(tmp_path / "x.bin", tmp_path / "x.bin")


def test_an_old_file_whose_class_has_its_source_is_refused(tmp_path: Path) -> None:
    from tests.formats.samples import first_inversions

    (tmp_path / "x.pt").write_bytes(torch_file(first_inversions, old=True)({"*": numbers(1, WIDTH)}))
    assert "cannot be read safely; save them again with a newer torch" in refuse(tmp_path / "x.pt", tmp_path / "x.pt")


def test_archives_that_grow_or_are_no_torch_files(tmp_path: Path) -> None:
    def archive(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", compression) as new:
            for name, data in members.items():
                new.writestr(name.replace("__", "/"), data)
        return made.getvalue()

    cases = {
        "compressed zip archive": archive(zipfile.ZIP_DEFLATED, a__data=b"0" * 2**20, **{"a__data.pkl": b"x"}),
        "no torch file of tensors": archive(readme=b"x"),
        "more than 2000 files": archive(**{f"f{i}": b"" for i in range(2001)}),
    }
    cases["said to be larger"] = grown(VALID)
    for message, data in cases.items():
        (tmp_path / "x.pt").write_bytes(data)
        assert message in refuse(tmp_path / "x.pt", tmp_path / "x.pt")


def grown(data: bytes) -> bytes:
    """An archive whose directory says of each file that it has 2**28 bytes."""
    changed, place = bytearray(data), -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        changed[place + 20 : place + 28] = struct.pack("<II", 2**28, 2**28)
    return bytes(changed)


def test_views_of_one_storage_do_not_multiply(tmp_path: Path) -> None:
    """A thousand views of the same numbers are refused before they are copied."""
    wide = torch.ones(1).expand(75, 16_384)
    data = torch_file()({f"<{i}>": wide for i in range(60)})
    assert len(data) < 2**20
    (tmp_path / "x.pt").write_bytes(data)
    assert "holds 73,728,000 numbers" in refuse(tmp_path / "x.pt", tmp_path / "x.pt")


def test_only_plain_values_are_needed_to_read_what_others_write() -> None:
    """No sample needs more than the names that are allowed; the classes among them are one."""
    for sample in SAMPLES:
        data = sample.pack(sample.tensors)
        if is_zip(data):
            pickles.read_torch(Path("x"), data)
    assert [name for name in pickles.ALLOWED if name.rsplit(".", 1)[-1][0].isupper()] == [
        "collections.OrderedDict",
        pickles.PARAMETERS,
    ]
    assert pickle.loads(pickle.dumps({}, 2)) == {}
