"""Files of all tools are read: the rows, bit for bit, under their layers; the token of the file or the caller."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import promptplus as pp
from promptplus.errors import ConceptError
from promptplus.formats import found
from promptplus.formats.layouts import OF_SDXL, SIXTEEN
from promptplus.formats.reading import read_all
from tests.formats.samples import KOHYA, SAMPLES, WIDTH, Sample, a1111, numbers, safetensors, torch_file

each = pytest.mark.parametrize("sample", SAMPLES, ids=str)


@pytest.mark.file_format("read")
@each
def test_a_file_of_each_tool_becomes_a_concept(sample: Sample, tmp_path: Path) -> None:
    concept = pp.Concept.load(sample.write(tmp_path), None if sample.token else "<given>")
    assert concept.token == (sample.token or "<given>")
    assert concept.layers == sample.layers
    assert concept.tying == ("layer" if sample.per_layer else "all")
    assert concept.kind == ("style" if "type_of_concept.txt" in sample.beside else "object")
    [described] = read_all(sample.write(tmp_path))
    assert described.format in sample.format or sample.format not in found.FORMATS


@pytest.mark.file_format("bit-equal")
@each
def test_the_numbers_are_those_of_the_file(sample: Sample, tmp_path: Path) -> None:
    concept = pp.Concept.load(sample.write(tmp_path), "<given>")
    assert torch.equal(concept.rows, sample.rows)
    again = pp.Concept.load(concept.save(tmp_path / "again.safetensors"))
    assert torch.equal(again.rows, sample.rows)
    assert again.describe() == concept.describe()


@each
def test_the_name_of_the_file_says_nothing(sample: Sample, tmp_path: Path) -> None:
    if sample.beside:
        pytest.skip("a folder's files have fixed names")
    for name in ("x.safetensors", "x.pt", "x.bin", "x.txt", "learned_embeds.safetensors"):
        (tmp_path / name).write_bytes(sample.pack(sample.tensors))
        assert torch.equal(pp.Concept.load(tmp_path / name, "<given>").rows, sample.rows)


@each
def test_the_callers_token_comes_first_and_none_is_an_error(sample: Sample, tmp_path: Path) -> None:
    path = sample.write(tmp_path)
    assert pp.Concept.load(path, "<other>").token == "<other>"
    with pytest.raises(ConceptError, match="a placeholder token looks like <cat>"):
        pp.Concept.load(path, "other")
    if not sample.token:
        with pytest.raises(ConceptError, match="names no placeholder token; give one"):
            pp.Concept.load(path)


def test_the_layers_of_the_two_models_are_those_of_their_denoisers() -> None:
    """Their names, order and grids, from the U-Nets' settings."""
    from promptplus.model_folder import _of_unet

    blocks = {"layers_per_block": 2, "sample_size": 64}
    cross, plain = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")
    sd = {"down_block_types": [cross[0]] * 3 + [plain[0]], "up_block_types": [plain[1]] + [cross[1]] * 3}
    xl = {"down_block_types": [plain[0]] + [cross[0]] * 2, "up_block_types": [cross[1]] * 2 + [plain[1]]}
    assert _of_unet({**blocks, **sd}) == SIXTEEN
    assert _of_unet({**blocks, **xl, "sample_size": 128, "transformer_layers_per_block": [1, 2, 10]}) == OF_SDXL


def test_rows_are_found_by_name_whatever_their_order(tmp_path: Path) -> None:
    rows = numbers(16, 1, WIDTH)
    backwards = dict(reversed(list(zip(KOHYA, rows, strict=True))))
    (tmp_path / "x").write_bytes(torch_file()(backwards))
    assert torch.equal(pp.Concept.load(tmp_path / "x", "<x>").rows, rows)


def test_what_is_no_concept_in_a_file_is_left_out_with_a_note(tmp_path: Path) -> None:
    sample = next(one for one in SAMPLES if one.format == found.CLONEOFSIMO)
    more = {"unet:0:up": numbers(4, 4), "unet:0:down": numbers(4, 4)}
    with pytest.warns(UserWarning, match="the file also holds 'unet:0:down', 'unet:0:up'; of it the concept alone"):
        concept = pp.Concept.load(sample.write(tmp_path, {**sample.tensors, **more}))
    assert torch.equal(concept.rows, sample.rows)


def test_without_its_bare_token_a_cloneofsimo_file_has_the_layers_vectors_alone(tmp_path: Path) -> None:
    sample = next(one for one in SAMPLES if one.format == found.CLONEOFSIMO)
    tensors = {name: tensor for name, tensor in sample.tensors.items() if name != "<cat>"}
    (tmp_path / "x").write_bytes(safetensors()(tensors))
    assert torch.equal(pp.Concept.load(tmp_path / "x").rows, sample.rows[:, 1:])


def test_of_several_tokens_the_caller_takes_one(tmp_path: Path) -> None:
    first, second = numbers(16, WIDTH), numbers(16, WIDTH, seed=1)
    tensors = {f"<{name}>-{i}": rows[i] for name, rows in (("a", first), ("b", second)) for i in range(16)}
    (tmp_path / "two.bin").write_bytes(torch_file()(tensors))
    assert torch.equal(pp.Concept.load(tmp_path / "two.bin", "<b>").rows[:, 0], second)
    for token in (None, "<c>"):
        with pytest.raises(ConceptError, match=r"holds 2 concepts .<a>, <b>.; choose one by its token"):
            pp.Concept.load(tmp_path / "two.bin", token)


def test_a_folders_token_stands_in_for_a_file_that_names_none(tmp_path: Path) -> None:
    (tmp_path / "learned_embeds.safetensors").write_bytes(safetensors()({"emb_params": numbers(1, WIDTH)}))
    with pytest.raises(ConceptError, match="names no placeholder token"):
        pp.Concept.load(tmp_path)
    (tmp_path / "token_identifier.txt").write_text("<From-Folder>\n")
    assert pp.Concept.load(tmp_path).token == "<from-folder>"
    (tmp_path / "learned_embeds.safetensors").write_bytes(safetensors()({"<key>": numbers(1, WIDTH)}))
    assert pp.Concept.load(tmp_path).token == "<key>", "what the file says comes first"


def test_an_a1111_files_model_is_kept_and_its_bad_name_is_none(tmp_path: Path) -> None:
    sample = next(one for one in SAMPLES if one.format == found.A1111)
    assert pp.Concept.load(sample.write(tmp_path)).base_model == "v1-5-pruned"
    for name in ("../cat", "a cat", "", 7, "c:\\cat"):
        (tmp_path / "x").write_bytes(torch_file(lambda t, n=name: a1111(t) | {"name": n})(sample.tensors))
        with pytest.raises(ConceptError, match=r"x .A1111 textual inversion. names no placeholder token"):
            pp.Concept.load(tmp_path / "x")


def test_a_textual_inversion_works_on_any_layers_of_its_width(tmp_path: Path, pplus: pp.PPlus) -> None:
    from tests import tiny_models

    row = numbers(2, pplus.width)
    save_file({"<cat>": row}, tmp_path / "cat")
    concept = pp.Concept.load(tmp_path / "cat")
    pplus.add(concept)
    assert pplus.concepts["<cat>"].sha256 == concept.sha256
    learned = replace(concept, token="<dog>", layers=pplus.layers)  # as if it was learned on this model
    pplus.add(learned)
    a, b = (pplus.encode(f"a {token}")["prompt_embeds"] for token in ("<cat>", "<dog>"))
    assert torch.equal(a, b)
    pixart = pp.PPlus(tiny_models.pixart())
    save_file({"<cat>": numbers(2, pixart.width)}, tmp_path / "five")
    pixart.add(pp.Concept.load(tmp_path / "five"))
    assert pixart.encode("a <cat> || 3: a dog")["prompt_embeds"].isfinite().all()


def test_a_textual_inversion_mixes_with_a_concept_of_any_layers(tmp_path: Path) -> None:
    layers = pp.LayerMap.from_names([(f"block.{i}", 16) for i in range(5)])
    row, layered = numbers(2, WIDTH), pp.Concept("<u>", numbers(5, 2, WIDTH), layers, base_model="pixart")
    save_file({"<cat>": row}, tmp_path / "cat")
    inversion = pp.Concept.load(tmp_path / "cat")
    for shape, style, inverted in ((layered, inversion, range(2, 5)), (inversion, layered, range(2))):
        mixed = pp.mix(shape, style, "<m>")
        assert (mixed.layers, mixed.base_model) == (layers, "pixart")
        for i in range(5):
            assert torch.equal(mixed.rows[i], row if i in inverted else layered.rows[i])
    with pytest.raises(ConceptError, match="<u> has 5 layers, this model 16 with other names"):
        layered.on(SIXTEEN)


def test_an_sdxl_inversion_works_on_sdxl(tmp_path: Path) -> None:
    from tests import tiny_models

    with pp.PPlus(tiny_models.sdxl()) as pplus:
        widths = pplus.widths
        save_file({name: numbers(2, width) for name, width in widths.items()}, tmp_path / "xl")
        pplus.add(pp.Concept.load(tmp_path / "xl", "<cat>"))
        assert pplus.encode("a <cat> || coarse: a dog")["prompt_embeds"].isfinite().all()


def test_a_wrong_width_and_a_known_word_name_the_file(tmp_path: Path, pplus: pp.PPlus) -> None:
    save_file({"emb_params": numbers(1, 768)}, tmp_path / "sd1.safetensors")
    with pytest.raises(ConceptError, match=r"width 768, this model 16 of width .*sd1\.safetensors does not say which"):
        pplus.add(pp.Concept.load(tmp_path / "sd1.safetensors", "<cat>"))
    with pytest.raises(ConceptError, match=r"sd1\.safetensors: the tokenizer already has a word '<\|endoftext\|>'"):
        pplus.add(pp.Concept.load(tmp_path / "sd1.safetensors", "<|endoftext|>"))


@pytest.mark.parametrize("value", [None, 7, [1], {"a": 1}, "text", {1: torch.ones(2)}, {"a": {"b": torch.ones(2)}}])
def test_a_torch_file_of_other_things_is_refused(value: Any, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "x")
    with pytest.raises(ConceptError, match=r"x(:| holds)"):
        pp.Concept.load(tmp_path / "x", "<x>")


def test_a_lora_and_a_whole_model_are_no_concepts(tmp_path: Path) -> None:
    weights = {f"lora_unet_down_{i}.lora_down.weight": numbers(4, 8) for i in range(6)}
    save_file(weights, tmp_path / "lora")
    with pytest.raises(ConceptError, match=r"no concept of a known format: it has 6 tensors .*promptplus, kohya"):
        pp.Concept.load(tmp_path / "lora", "<x>")


def test_a_folder_without_a_concept_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match=r"holds none of concept\.safetensors, learned_embeds\.safetensors"):
        pp.Concept.load(tmp_path)
