"""Any bytes, and files of each tool with changed bytes: a concept comes out, or our error; never much memory."""

import io
import json
import resource
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import promptplus as pp
from promptplus.errors import ConceptError
from tests.formats.samples import SAMPLES, Sample, rezipped
from tests.test_readers_fuzz import check_sentence, mutated

pytestmark = pytest.mark.slow
MEMORY = 64 * 2**20  # bytes that one reading may take beyond the most that was taken before; the files have 4000
bounded = settings(
    max_examples=250,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """A file with changed bytes; of an archive or a safetensors file also the inner part alone, with right sizes."""
    if draw(st.booleans()):
        return draw(mutated(data))
    if data.startswith(b"PK"):
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
        chosen = draw(st.sampled_from([next(name for name in names if name.endswith("data.pkl")), *names]))
        return rezipped(data, lambda name, old: draw(mutated(old)) if name == chosen else old)
    if data[8:9] == b"{":
        length = struct.unpack("<Q", data[:8])[0]
        header = draw(mutated(data[8 : 8 + length]))
        return struct.pack("<Q", len(header)) + header + data[8 + length :]
    return draw(mutated(data))


@st.composite
def renamed(draw: st.DrawFn, data: bytes) -> bytes:
    """A safetensors file with other names, shapes or types of numbers in a header that is right JSON."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    name = draw(st.sampled_from(names))
    one = header.pop(name)
    one["dtype"] = draw(st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "BOOL", "F8_E4M3", "C64", "X"]))
    one["shape"] = draw(st.lists(st.integers(0, 100), max_size=3) | st.just(one["shape"]))
    header[draw(st.sampled_from([name, *names]) | st.text(max_size=12))] = one
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def peak() -> int:
    """The most memory that this process has taken, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_changed_file_is_a_concept_or_our_error(sample: Sample, tmp_path: Path) -> None:
    valid = sample.pack(sample.tensors)
    strategy = st.binary(max_size=64) | changed(valid) | changed(valid)
    strategy = strategy | renamed(valid) if valid[8:9] == b"{" else strategy
    pp.Concept.load(sample.write_bytes(tmp_path, valid), "<x>")

    @bounded
    @given(strategy, st.sampled_from([None, "<x>", "<cat>"]))
    def check(data: bytes, token: str | None) -> None:
        source = sample.write_bytes(tmp_path, data)
        before = peak()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is left out
            try:
                concept = pp.Concept.load(source, token)
            except ConceptError as error:
                check_sentence(str(error))
            else:
                assert concept.rows.isfinite().all()
        assert peak() - before < MEMORY

    check()


def test_any_short_pickle_is_a_concept_or_our_error(tmp_path: Path) -> None:
    """Steps of pickles in any order, alone in an archive."""
    import pickletools

    codes = [operation.code.encode("latin-1") for operation in pickletools.opcodes]
    steps = st.lists(st.sampled_from(codes) | st.binary(max_size=4), max_size=24).map(b"".join)

    @settings(bounded, max_examples=2000)
    @given(steps)
    def check(body: bytes) -> None:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
        (tmp_path / "x").write_bytes(made.getvalue())
        before = peak()
        with pytest.raises(ConceptError) as caught:
            pp.Concept.load(tmp_path / "x", "<x>")
        check_sentence(str(caught.value))
        assert peak() - before < MEMORY

    check()
