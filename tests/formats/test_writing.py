"""What is written for other tools: exactly their names and numbers, whole or not at all, and read again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import promptplus as pp
from promptplus.errors import ConceptError, OutputError, PictureError
from promptplus.formats import found
from promptplus.formats.layouts import OF_SDXL, SIXTEEN
from promptplus.formats.reading import read_all
from tests.conftest import make_concept
from tests.formats.samples import KOHYA, OUR_FOLDER, numbers

XTI = pp.Concept("<cat>", numbers(16, 2, 768), SIXTEEN, initializer="cat", class_word="cat", base_model="a/b")
TI = replace(XTI, rows=XTI.rows[:1].expand(16, -1, -1), tying="all")
XL = pp.Concept("<cat>", numbers(70, 1, 20), OF_SDXL, encoders=(("clip_l", 8), ("clip_g", 12)))


@pytest.mark.file_format("write", found.OURS)
@pytest.mark.parametrize("concept", [XTI, TI, XL], ids=["XTI", "TI", "SDXL"])
def test_our_file_is_read_as_it_was(concept: pp.Concept, tmp_path: Path) -> None:
    again = pp.Concept.load(concept.save(tmp_path / "x"))
    assert torch.equal(again.rows, concept.rows)
    assert (again.describe(), again.layers) == (concept.describe(), concept.layers)


@pytest.mark.file_format("write", found.KOHYA_XTI)
def test_kohyas_file_has_exactly_its_sixteen_names_in_forward_order(tmp_path: Path) -> None:
    tensors = load_file(XTI.save_kohya(tmp_path / "cat.safetensors"))
    assert list(tensors) == KOHYA, "kohya's scripts read them in the order in which the file is opened"
    assert all(torch.equal(tensors[name], rows) for name, rows in zip(KOHYA, XTI.rows, strict=True))
    assert torch.equal(pp.Concept.load(tmp_path / "cat.safetensors", "<cat>").rows, XTI.rows)


def test_kohyas_file_of_another_model_is_refused(pplus: pp.PPlus, tmp_path: Path) -> None:
    for concept in (make_concept(pplus, "<cat>", 1), XL, replace(XTI, rows=numbers(16, 1, 1024))):
        with pytest.raises(ConceptError, match=r"<cat> cannot be written as kohya XTI: it has .*of width 768"):
            concept.save_kohya(tmp_path / "cat.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.file_format("write", found.DIFFUSERS)
def test_a_textual_inversion_is_the_mean_or_the_row_that_all_share(tmp_path: Path) -> None:
    mean = load_file(XTI.save_approximation(tmp_path / "mean"))
    torch.testing.assert_close(mean["<cat>"], XTI.rows.mean(dim=0))
    loaded = pp.Concept.load(tmp_path / "mean")
    assert (loaded.token, loaded.tying) == ("<cat>", "all")
    assert torch.equal(pp.Concept.load(TI.save_approximation(tmp_path / "same")).rows, TI.rows), "nothing is lost"


@pytest.mark.file_format("write", found.SDXL)
def test_sdxls_textual_inversion_has_two_parts(tmp_path: Path) -> None:
    tensors = load_file(XL.save_approximation(tmp_path / "x"))
    assert {name: tuple(rows.shape) for name, rows in tensors.items()} == {"clip_l": (1, 8), "clip_g": (1, 12)}
    tied = replace(XL, rows=XL.rows[:1].expand(70, -1, -1), tying="all")
    assert torch.equal(pp.Concept.load(tied.save_approximation(tmp_path / "y"), "<cat>").rows, tied.rows)


def test_spread_is_the_share_of_the_rows_that_the_mean_loses() -> None:
    assert TI.spread == pytest.approx(0, abs=1e-6)
    opposite = torch.cat([torch.ones(8, 1, 4), -torch.ones(8, 1, 4)])
    assert replace(XTI, rows=opposite).spread == pytest.approx(1)
    rows = XTI.rows.double()
    lost, length = (rows - rows.mean(0)).norm() ** 2, rows.norm() ** 2
    assert XTI.spread == pytest.approx((lost / length).sqrt().item(), rel=1e-5)
    assert replace(XTI, rows=torch.zeros(16, 1, 4)).spread == 0


# ---- the folder of the hub


@pytest.mark.file_format("write", OUR_FOLDER)
def test_a_folder_for_the_hub_holds_the_concept_its_mean_and_a_card(tmp_path: Path) -> None:
    folder = replace(XTI, kind="style").save_folder(tmp_path / "cat", licence="cc-by-4.0")
    assert {path.name for path in folder.iterdir()} == {
        "concept.safetensors",
        "learned_embeds.safetensors",
        "token_identifier.txt",
        "type_of_concept.txt",
        "README.md",
    }
    assert (folder / "token_identifier.txt").read_text() == "<cat>"
    assert (folder / "type_of_concept.txt").read_text() == "style"
    card = (folder / "README.md").read_text("utf-8")
    assert card.startswith("---\nlicense: cc-by-4.0\nlibrary_name: promptplus\n")
    assert 'base_model: "a/b"' in card
    assert f"{XTI.spread:.0%} of their length" in card
    again = pp.Concept.load(folder)
    assert torch.equal(again.rows, XTI.rows)


@pytest.mark.file_format("read", OUR_FOLDER)
@pytest.mark.file_format("bit-equal", OUR_FOLDER)
def test_a_training_runs_folder_is_read_too(tmp_path: Path) -> None:
    XTI.save(tmp_path / "concept.safetensors")
    XTI.save_approximation(tmp_path / "learned_embeds.safetensors")
    assert torch.equal(pp.Concept.load(tmp_path).rows, XTI.rows)
    (tmp_path / "concept.safetensors").unlink()
    assert pp.Concept.load(tmp_path).tying == "all", "the approximation is taken where there is nothing better"


@pytest.mark.file_format("refused", OUR_FOLDER, "what it holds damaged")
def test_a_damaged_concept_in_a_folder_is_no_reason_to_take_its_mean(tmp_path: Path) -> None:
    folder = XTI.save_folder(tmp_path / "cat")
    path = folder / "concept.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConceptError, match=r"concept\.safetensors is not a safetensors file"):
        pp.Concept.load(folder)


def test_pictures_go_along_only_when_they_are_given_and_without_the_cameras_data(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    Image.new("RGB", (16, 16), "red").save(photo, exif=exif)
    grid = Image.new("RGB", (32, 16))
    folder = XTI.save_folder(tmp_path / "cat", pictures=[photo], grid=grid)
    with Image.open(folder / "concept_images" / "0.png") as written:
        assert written.size == (16, 16)
        assert not written.getexif()
    card = (folder / "README.md").read_text("utf-8")
    assert "(grid.png)" in card
    assert "`concept_images/`" in card
    assert "license: unknown" in card


def test_a_card_takes_any_text_as_text(tmp_path: Path) -> None:
    odd = replace(
        XTI, token="<a`|*b>", base_model="x\n---\nlicense: mit", provenance={"a|b`": "</td>\n| x |"}, class_word="<b>"
    )
    text = (odd.save_folder(tmp_path / "odd") / "README.md").read_text("utf-8")
    head, body = text.split("\n---\n", 1)
    assert head.splitlines()[0] == "---"
    assert [line for line in head.splitlines() if line.startswith("license:")] == ["license: unknown"]
    assert "</td>" not in body
    assert "\n---" not in body
    assert "| a&#124;b&#96; | &lt;/td&gt; &#124; x &#124; |" in body


def test_nothing_is_written_where_something_is_wrong(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    with pytest.raises(OutputError, match="already holds something"):
        XTI.save_folder(full)
    for licence in ("My Licence", "cc by", "../x", "a: b"):
        with pytest.raises(OutputError, match="a licence is an identifier of the hub"):
            XTI.save_folder(tmp_path / "new", licence=licence)
    with pytest.raises(PictureError):
        XTI.save_folder(tmp_path / "new", pictures=[full / "x"])
    assert {path.name for path in tmp_path.rglob("*")} == {"full", "x"}


def test_stock_diffusers_loads_the_folder(pipe: Any, concept: pp.Concept, tmp_path: Path) -> None:
    import copy

    folder = concept.save_folder(tmp_path / "thing")
    own = {"text_encoder": copy.deepcopy(pipe.text_encoder), "tokenizer": copy.deepcopy(pipe.tokenizer)}
    stock = type(pipe)(**{**pipe.components, **own}, requires_safety_checker=False)
    stock.load_textual_inversion(str(folder))
    row = stock.text_encoder.get_input_embeddings().weight[stock.tokenizer.convert_tokens_to_ids("<thing>")]
    torch.testing.assert_close(row, concept.rows.mean(dim=(0, 1)))


def test_a_sixteen_key_files_first_tensor_is_one_layer(tmp_path: Path) -> None:
    """What ComfyUI takes of kohya's file and of ours: docs/files.md says so."""
    for path in (XTI.save(tmp_path / "ours"), XTI.save_kohya(tmp_path / "kohya")):
        first = next(iter(load_file(path).values()))
        assert torch.equal(first, XTI.rows[0])
        with safe_open(path, "pt") as file:
            assert next(iter(file.keys())) == "IN01"


def test_stock_diffusers_refuses_sixteen_keys(pipe: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either only has a single key"):
        pipe.load_textual_inversion(str(XTI.save_kohya(tmp_path / "cat.safetensors")), token="<never>")


def test_the_formats_that_info_names_are_those_of_the_page() -> None:
    from tests.formats.samples import SAMPLES

    assert {sample.format for sample in SAMPLES} >= set(found.FORMATS)


def test_what_other_tools_write_can_be_passed_on(tmp_path: Path) -> None:
    """kohya's file → ours → kohya's file: the same bytes of numbers."""
    first = load_file(XTI.save_kohya(tmp_path / "first"))
    ours = pp.Concept.load(pp.Concept.load(tmp_path / "first", "<cat>").save(tmp_path / "ours"))
    second = load_file(ours.save_kohya(tmp_path / "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    [one] = read_all(tmp_path / "second")
    assert one.format == found.KOHYA_XTI
