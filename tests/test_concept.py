import hashlib
import json
import os
import stat
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import promptplus as pp
from promptplus.errors import ConceptError, SettingsError, WriteError
from promptplus.mixing import interpolate
from tests.conftest import make_concept
from tests.test_layers import SD1


@pytest.fixture
def saved(concept: pp.Concept, tmp_path: Path) -> Path:
    return concept.save(tmp_path / "thing.safetensors")


def rewrite(path: Path, **changes: Any) -> None:
    """Change the record inside a concept file, leaving its rows alone."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    record = json.loads(metadata["promptplus"]) | changes
    save_file(load_file(path), path, {**metadata, "promptplus": json.dumps(record)})


def test_saving_and_loading_is_bit_equal(concept: pp.Concept, saved: Path) -> None:
    loaded = pp.Concept.load(saved)
    assert torch.equal(loaded.rows, concept.rows)
    assert loaded.describe() == concept.describe()
    assert loaded.layers == concept.layers
    assert pp.Concept.load(loaded.save(saved)).sha256 == concept.sha256


def test_the_file_has_kohyas_names_and_a_readable_record(saved: Path) -> None:
    assert set(load_file(saved)) == {kohya for kohya, *_ in SD1}
    with safe_open(saved, "pt") as file:
        metadata = file.metadata()
    record = json.loads(metadata["promptplus"])
    assert record["token"] == "<thing>"
    assert [name for name, _ in record["layers"]][:2] == ["down.0.0", "down.0.1"]
    assert metadata["modelspec.title"] == "<thing>"


def test_rows_are_read_by_name_not_by_order(concept: pp.Concept, saved: Path) -> None:
    """Move the tensors inside the file: the names in the header still say which is which."""
    data = saved.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    names = [name for name in header if name != "__metadata__"]
    first, last = header[names[0]]["data_offsets"], header[names[-1]]["data_offsets"]
    moved = bytearray(body)
    moved[slice(*first)], moved[slice(*last)] = body[slice(*last)], body[slice(*first)]
    header[names[0]]["data_offsets"], header[names[-1]]["data_offsets"] = last, first
    text = json.dumps(header).encode()
    saved.write_bytes(struct.pack("<Q", len(text)) + text + bytes(moved))
    assert torch.equal(pp.Concept.load(saved).rows, concept.rows)


def test_layers_without_kohya_names_use_ours(tmp_path: Path) -> None:
    layers = pp.LayerMap.from_names([("down.0.0", 8), ("mid.0", 4), ("up.1.0", 8)])
    concept = pp.Concept("<x>", torch.randn(3, 2, 4), layers)
    path = concept.save(tmp_path / "x.safetensors")
    assert set(load_file(path)) == {"down.0.0", "mid.0", "up.1.0"}
    assert torch.equal(pp.Concept.load(path).rows, concept.rows)


def test_the_approximation_loads_in_stock_diffusers(pipe: Any, concept: pp.Concept, tmp_path: Path) -> None:
    import copy

    path = concept.save_approximation(tmp_path / "learned_embeds.safetensors")
    own = {"text_encoder": copy.deepcopy(pipe.text_encoder), "tokenizer": copy.deepcopy(pipe.tokenizer)}
    stock = type(pipe)(**{**pipe.components, **own}, requires_safety_checker=False)
    stock.load_textual_inversion(path)
    row = stock.text_encoder.get_input_embeddings().weight[stock.tokenizer.convert_tokens_to_ids("<thing>")]
    torch.testing.assert_close(row, concept.rows.mean(dim=(0, 1)))


BAD_SIZES: tuple[Any, ...] = (-8, 0, True, "8", 8.0, None, 10**9)


def layers_with(size: Any) -> list[list[Any]]:
    """The layers of a record, the first of them with another resolution."""
    names = [f"{direction}.0.{number}" for direction in ("down", "up") for number in range(8)]
    return [[name, 8 if number else size] for number, name in enumerate(names)]


def write_record(path: Path, text: str) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, "promptplus": text})


def reshape(path: Path) -> None:
    """Turn each row into two rows of half the width: the same bytes."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({name: rows.reshape(2, -1) for name, rows in load_file(path).items()}, path, metadata)


def make_old(path: Path, **changes: Any) -> None:
    """Give a file the record of version 0.1, which has no checksum of the record."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    record = json.loads(metadata["promptplus"]) | changes
    del record["record_sha256"]
    save_file(load_file(path), path, {**metadata, "promptplus": json.dumps(record)})


def test_files_of_version_0_1_load_and_their_shape_must_fit_their_record(concept: pp.Concept, saved: Path) -> None:
    make_old(saved, provenance={"vectors": 1})
    assert torch.equal(pp.Concept.load(saved).rows, concept.rows)
    reshape(saved)
    with pytest.raises(ConceptError, match="each layer has 2 rows, its record says 1"):
        pp.Concept.load(saved)


@pytest.mark.parametrize("size", BAD_SIZES)
def test_the_types_in_files_of_version_0_1_are_strict_too(saved: Path, size: Any) -> None:
    make_old(saved, layers=layers_with(size))
    with pytest.raises(ConceptError, match=r"cannot read: layers\.0\.1"):
        pp.Concept.load(saved)


def test_what_could_not_be_read_again_is_not_saved(concept: pp.Concept, tmp_path: Path) -> None:
    layers = pp.LayerMap.from_names([(f"down.0.{n}", -8) for n in range(16)])
    for bad in (
        replace(concept, layers=layers),
        replace(concept, class_word=7),
        replace(concept, provenance={"a": object()}),
    ):
        with pytest.raises(ConceptError, match="<thing> cannot be saved"):
            bad.save(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_hash_that_others_name_does_not_change(concept: pp.Concept) -> None:
    """Pictures and results name a concept by its rows' bytes alone."""
    assert concept.sha256 == hashlib.sha256(concept.rows.numpy().tobytes()).hexdigest()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def forget_a_layer(path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    rows = load_file(path)
    del rows["MID"]
    save_file(rows, path, metadata)


def make_not_finite(path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    rows = load_file(path)
    rows["MID"] = rows["MID"] * float("nan")
    save_file(rows, path, metadata)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "no concept file"),
        (lambda p: p.write_bytes(b""), "not a safetensors file"),
        (lambda p: p.write_bytes(b"\x80\x04pickle"), "a damaged torch file"),
        (lambda p: p.write_bytes(b"just a text"), "not a safetensors file and not a torch file"),
        (cut_short, "not a safetensors file"),
        (flip_a_bit, "do not match their checksum"),
        (forget_a_layer, "its rows are not those of the 16 layers"),
        (make_not_finite, "not finite"),
        (lambda p: rewrite(p, format_version=9), "this version cannot read: format_version"),
        (lambda p: rewrite(p, token=None), "cannot read: token"),
        (lambda p: os.truncate(p, 65 * 2**20), "has more than"),
        *((lambda p, size=size: rewrite(p, layers=layers_with(size)), "cannot read: layers") for size in BAD_SIZES),
        (lambda p: rewrite(p, layers=[["down.0.0", 8]] * 16), "the layer down.0.0 is there twice"),
        (lambda p: rewrite(p, layers=[["../x", 8], *layers_with(8)[1:]]), r"cannot read: layers.0.0.*not '../x'"),
        (lambda p: rewrite(p, format_version=True), "cannot read: format_version"),
        (lambda p: rewrite(p, token=7), "cannot read: token.*not 7"),
        (lambda p: rewrite(p, provenance=[]), "cannot read: provenance"),
        (lambda p: rewrite(p, class_word="dog"), "its record does not match its checksum"),
        (lambda p: rewrite(p, provenance={"steps": 4}), "its record does not match its checksum"),
        (lambda p: rewrite(p, unknown=1), "its record does not match its checksum"),
        (lambda p: reshape(p), "its record does not match its checksum"),
        (lambda p: write_record(p, "[" * 100_000), "cannot read: no JSON, recursion limit"),
        (lambda p: write_record(p, '{"provenance": ' + "9" * 5000), "cannot read: no JSON, number out of range"),
        (lambda p: write_record(p, '{"token": "<x>", "token": "<y>"}'), "cannot read: the key 'token' is there twice"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(saved: Path, damage: Any, message: str) -> None:
    damage(saved)
    with pytest.raises(ConceptError, match=message) as caught:
        pp.Concept.load(saved)
    assert "\n" not in str(caught.value)
    assert saved.name in str(caught.value) or "<thing>" in str(caught.value)


def test_a_failed_save_leaves_the_old_file(concept: pp.Concept, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        make_concept_like(concept).save(saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def make_concept_like(concept: pp.Concept) -> pp.Concept:
    return pp.Concept("<other>", concept.rows + 1, concept.layers)


def test_others_may_read_the_file(saved: Path) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o644


def test_rows_are_float32_without_gradient_wherever_they_came_from(concept: pp.Concept, tmp_path: Path) -> None:
    half = pp.Concept("<x>", concept.rows.half().requires_grad_(), concept.layers)
    assert (half.rows.dtype, half.rows.requires_grad) == (torch.float32, False)
    assert torch.equal(pp.Concept.load(half.save(tmp_path / "x.safetensors")).rows, half.rows)


@pytest.mark.parametrize("token", ["car", "<A>", "", "<a b>", "<a/b>"])
def test_a_bad_token_is_no_concept(concept: pp.Concept, token: str) -> None:
    with pytest.raises(ConceptError):
        pp.Concept(token, concept.rows, concept.layers)


def test_rows_must_fit_their_layers_and_tying(concept: pp.Concept) -> None:
    with pytest.raises(ConceptError, match="rows are"):
        pp.Concept("<x>", concept.rows[:3], concept.layers)
    with pytest.raises(ConceptError, match=r"share rows \(all\), but"):
        pp.Concept("<x>", concept.rows, concept.layers, tying="all")


# ---- mixing


def test_mix_takes_each_layer_from_one_of_the_two(pplus: pp.PPlus, tmp_path: Path) -> None:
    shape, style = make_concept(pplus, "<a>", 1), make_concept(pplus, "<b>", 2)
    mixed = pp.mix(shape=shape, style=style, token="<ab>")
    coarse = pplus.layers.group("coarse")
    for i in range(16):
        assert torch.equal(mixed.rows[i], (shape if i in coarse else style).rows[i])
    assert mixed.provenance["supplied_by"]["mid.0"] == "<a>"
    assert mixed.provenance["supplied_by"]["up.3.0"] == "<b>"
    loaded = pp.Concept.load(mixed.save(tmp_path / "ab.safetensors"))
    pplus.add(loaded)
    pplus.encode("a <ab>")


def test_mix_takes_any_split(pplus: pp.PPlus) -> None:
    shape, style = make_concept(pplus, "<a>", 1), make_concept(pplus, "<b>", 2)
    assert torch.equal(pp.mix(shape, style, "<ab>", "0-15").rows, shape.rows)
    assert torch.equal(pp.mix(shape, style, "<ab>", "mid").rows[:6], style.rows[:6])


def test_mix_refuses_what_does_not_fit(pplus: pp.PPlus) -> None:
    one, two = make_concept(pplus, "<a>", 1), make_concept(pplus, "<b>", 2, vectors=2)
    with pytest.raises(ConceptError, match=r"different layers, vectors or width"):
        pp.mix(one, two, "<ab>")
    here, far = (pp.Concept(f"<{n}>", one.rows, one.layers, token_table=str(n) * 16) for n in (1, 2))
    with pytest.raises(ConceptError, match="different text encoders"):
        pp.mix(here, far, "<ab>")
    pp.mix(here, one, "<ab>")  # an unknown table fits any
    with pytest.raises(pp.PromptPlusError, match="no layer 'corse'"):
        pp.mix(one, one, "<ab>", "corse")


# ---- interpolation


def test_interpolation_goes_from_one_to_the_other(pplus: pp.PPlus) -> None:
    a, b = make_concept(pplus, "<a>", 1), make_concept(pplus, "<b>", 2)
    for path in ("linear", "spherical"):
        ends = [interpolate(a, b, "<m>", share, path).rows for share in (0.0, 1.0)]
        assert torch.equal(ends[0], a.rows)
        assert torch.equal(ends[1], b.rows)
        for share in (0.5, 0.3):
            back = interpolate(b, a, "<m>", 1 - share, path).rows
            torch.testing.assert_close(interpolate(a, b, "<m>", share, path).rows, back)
    torch.testing.assert_close(interpolate(a, b, "<m>", 0.25).rows, 0.75 * a.rows + 0.25 * b.rows)
    norms = [interpolate(a, b, "<m>", 0.3, "spherical").rows.norm(dim=-1), a.rows.norm(dim=-1), b.rows.norm(dim=-1)]
    assert ((norms[0] > torch.minimum(*norms[1:])) & (norms[0] < torch.maximum(*norms[1:]))).all()
    arc = interpolate(a, b, "<m>", 0.5, "spherical").rows
    torch.testing.assert_close(arc.norm(dim=-1), (a.rows.norm(dim=-1) + b.rows.norm(dim=-1)) / 2)
    middle = torch.nn.functional.normalize(arc, dim=-1)
    to_ends = [(middle * torch.nn.functional.normalize(end.rows, dim=-1)).sum(-1) for end in (a, b)]
    torch.testing.assert_close(*to_ends)
    same = interpolate(a, replace(a, token="<c>"), "<m>", 0.3, "spherical")
    torch.testing.assert_close(same.rows, a.rows)
    opposite = replace(a, token="<c>", rows=-a.rows)
    assert interpolate(a, opposite, "<m>", 0.3, "spherical").rows.isfinite().all()
    with pytest.raises(SettingsError, match="not 'round'"):
        interpolate(a, b, "<m>", 0.3, "round")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_layers_go_by_themselves(pplus: pp.PPlus, path: Any) -> None:
    a, b = make_concept(pplus, "<a>", 1), make_concept(pplus, "<b>", 2)
    coarse = list(pplus.layers.group("coarse"))
    found, all_go = (interpolate(a, b, "<m>", 0.4, path, layers=chosen).rows for chosen in ("coarse", None))
    others = [i for i in range(16) if i not in coarse]
    assert torch.equal(found[coarse], all_go[coarse])
    assert torch.equal(found[others], a.rows[others])
    assert torch.equal(interpolate(a, b, "<m>", 1, path, layers="coarse").rows, pp.mix(b, a, "<m>", "coarse").rows)


def test_a_tying_is_kept_where_both_have_it(pplus: pp.PPlus) -> None:
    xti = make_concept(pplus, "<x>", 3)
    loose = [make_concept(pplus, f"<{i}>", i) for i in (1, 2)]
    tied = [replace(c, rows=c.rows[:1].repeat(16, 1, 1), tying="all") for c in loose]
    for path in ("linear", "spherical"):
        middle = interpolate(*tied, "<m>", 0.4, path)
        assert middle.tying == "all"
        assert torch.equal(middle.rows, middle.rows[:1].expand_as(middle.rows))
        assert interpolate(*tied, "<m>", 0.4, path, layers="coarse").tying == "layer"
        assert interpolate(tied[0], xti, "<m>", 0.4, path).tying == "layer"


def test_interpolation_keeps_what_it_came_from(pplus: pp.PPlus, tmp_path: Path) -> None:
    a, b = make_concept(pplus, "<a>", 1), make_concept(pplus, "<b>", 2)
    loaded = pp.Concept.load(interpolate(a, b, "<m>", 0.25).save(tmp_path / "m.safetensors"))
    assert loaded.provenance == {"between": ["<a>", "<b>"], "share": 0.25, "path": "linear", "layers": "all"}
    with pytest.raises(ConceptError, match="different layers"):
        interpolate(a, make_concept(pplus, "<c>", 3, vectors=2), "<m>", 0.5)
