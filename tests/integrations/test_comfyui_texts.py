"""P+ Encode and the concepts. Most run on the stand-in alone, where the library encodes with the same text encoders."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import promptplus as pp
from promptplus.errors import ConceptError, LayerError, PromptError
from tests.integrations import hosts
from tests.integrations.conftest import Bench

CLOSE = 1e-4  # the library encodes all texts in one batch, whose shape changes the last bits
stand_in_only = pytest.mark.skipif(bool(hosts.CHECKOUT), reason="the library cannot read ComfyUI's text encoders")


@pytest.fixture
def library(bench: Bench) -> Any:
    """P+ on the pipeline whose text encoders the stand-in has."""
    with pp.PPlus(bench.host.pipes[bench.kind]) as pplus:  # type: ignore[attr-defined]
        yield pplus


def concept(bench: Bench, token: str, seed: int = 1, vectors: int = 1, tying: Any = "layer") -> pp.Concept:
    layers, width = bench.layers.layers, bench.layers.width
    rows = 0.2 * torch.randn(len(layers), vectors, width, generator=torch.Generator().manual_seed(seed))
    if tying == "all":
        rows = rows[:1].expand_as(rows)
    widths = {"sd1": (), "sdxl": (("clip_l", 32), ("clip_g", 48))}[bench.kind]
    return pp.Concept(token, rows, layers, tying=tying, encoders=widths)


def equals_library(bench: Bench, library: pp.PPlus, text: str, *concepts: pp.Concept) -> None:
    with library.added([replace(one, layers=library.layers) for one in concepts]):
        expected = library.encode(text)
    [[states, extra]] = bench.encode(text, *concepts)
    assert torch.allclose(states, expected["prompt_embeds"], atol=CLOSE)
    if "pooled_prompt_embeds" in expected:
        assert torch.allclose(extra["pooled_output"], expected["pooled_prompt_embeds"], atol=CLOSE)


@stand_in_only
@pytest.mark.parametrize(
    "text",
    [
        "a red house",
        "a red house || coarse: a blue car",
        r"\<lora:style:1> || 1: a dog",
        r"a \<s> house || 0-3,mid: \ || fine: a dog",
        "a red house || coarse*0.5: a blue car || fine*-1.5: a dog",
        "a red house || coarse*0: a blue car",
    ],
)
def test_texts_by_layer_are_the_librarys(bench: Bench, library: pp.PPlus, text: str) -> None:
    equals_library(bench, library, text)


@stand_in_only
def test_a_concept_has_its_row_of_each_layer(bench: Bench, library: pp.PPlus) -> None:
    equals_library(bench, library, "a photo of a <toy> on sand", concept(bench, "<toy>"))


@stand_in_only
def test_several_concepts_with_several_rows_each(bench: Bench, library: pp.PPlus) -> None:
    toy, cup, hat = concept(bench, "<toy>", 1), concept(bench, "<cup>", 2, vectors=3), concept(bench, "<hat>", 3)
    text = "a <cup>, a <toy> and a <cup>'s house || coarse: <toy>: <hat>"
    equals_library(bench, library, text, toy, cup, hat)


def test_a_word_that_marks_positions_may_stand_in_the_text(bench: Bench) -> None:
    from custom_nodes_promptplus.text_states import CARRIERS

    toy = concept(bench, "<toy>", tying="all")
    words = [word for word in CARRIERS if word not in ("dog", "house")]
    [[states, _]] = bench.encode("a <toy> " + " ".join(words), toy)
    [[other, _]] = bench.encode("a <toy> " + " ".join(reversed(words)), toy)
    assert states.shape == other.shape
    with pytest.raises(PromptError, match="<toy> cannot be placed"):
        bench.encode("a <toy> " + " ".join(CARRIERS), toy)


def test_weights_are_comfyuis(bench: Bench) -> None:
    """Also around a concept. The weight of ComfyUI's node stays with the token."""
    toy = concept(bench, "<toy>", tying="all")
    [[plain, _]] = bench.encode("a (house:1.0) <toy>", toy)
    [[words, _]] = bench.encode("a (house:1.5) <toy>", toy)
    [[around, _]] = bench.encode("a house (<toy>:1.5)", toy)
    [[weightless, _]] = bench.encode("a house (<toy>:1.0)", toy)
    assert not torch.allclose(plain, words, atol=1e-3)
    assert not torch.allclose(around, weightless, atol=1e-3)
    different = [i for i in range(plain.shape[1]) if not torch.equal(around[:, i], weightless[:, i])]
    assert len(different) == 1


def test_each_different_text_is_encoded_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    encode = bench.clip.encode_from_tokens_scheduled
    monkeypatch.setattr(bench.clip, "encode_from_tokens_scheduled", lambda tokens: calls.append(0) or encode(tokens))
    bench.encode("a red house || coarse: a blue car")
    assert len(calls) == 2
    bench.encode("a <toy>", concept(bench, "<toy>", tying="all"))
    assert len(calls) <= 2 + 2  # the mean of equal rows may differ from them in the last bit
    before = len(calls)
    bench.encode("a house", concept(bench, "<toy>"))
    assert len(calls) == before + 1


def test_the_rows_of_a_concept_reach_only_their_layers(bench: Bench) -> None:
    toy = concept(bench, "<toy>")
    rows = toy.rows.clone()
    rows[2] += 1
    [[before, _]], [[after, _]] = bench.encode("a <toy>", toy), bench.encode("a <toy>", replace(toy, rows=rows))
    width = bench.layers.width
    assert {i // width for i in (before != after).any(dim=1).nonzero()[:, 1].tolist()} == {2}


def test_textual_inversion_equals_comfyuis_own_embedding(bench: Bench, tmp_path: Path) -> None:
    """ComfyUI's embedding:name with the same row. Real ComfyUI only: the stand-in reads no such files."""
    if not hosts.CHECKOUT:
        pytest.skip("needs PROMPTPLUS_COMFYUI")
    toy = concept(bench, "<toy>", tying="all")
    toy.save_approximation(tmp_path / "toy.safetensors")
    tokenizers = [t for t in vars(bench.clip.tokenizer).values() if hasattr(t, "embedding_directory")]
    for tokenizer in tokenizers:
        tokenizer.embedding_directory = [str(tmp_path)]
    stock = bench.stock("a photo of embedding:toy")[0][0]
    [[states, _]] = bench.encode("a photo of <toy>", toy)
    for index in range(len(bench.layers.layers)):
        part = states[..., index * bench.layers.width : (index + 1) * bench.layers.width]
        assert torch.allclose(part, stock, atol=CLOSE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a <cat>", "no concept defines <cat> in 'a <cat>'; known placeholder tokens: <toy>"),
        ("a house || coarse", "is not '<layers>: text'"),
        ("a <lora:style:0.8> house", "<lora:style:0.8> in .* use ComfyUI's node Load LoRA"),
    ],
)
def test_wrong_prompts_are_one_sentence(bench: Bench, text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        bench.encode(text, concept(bench, "<toy>"))


def test_a_checkpoint_without_text_encoder(bench: Bench) -> None:
    with pytest.raises(PromptError, match="P\\+ Encode got no text encoder"):
        bench.classes["PPlusEncode"]().encode(None, bench.layers, "a house")


def test_layers_that_the_model_does_not_have(bench: Bench) -> None:
    with pytest.raises(LayerError, match=r"no layer 'down\.9'"):
        bench.encode("a house || down.9: a car")


def test_two_concepts_of_one_token(bench: Bench) -> None:
    with pytest.raises(ConceptError, match="two concepts have the same token"):
        bench.encode("a <toy>", concept(bench, "<toy>", 1), concept(bench, "<toy>", 2))


@stand_in_only
def test_a_single_text_encoder_may_have_any_name(bench: Bench) -> None:
    """ComfyUI calls that of Stable Diffusion 2 ``h``."""
    from tests.integrations.stand_in import TextEncoder

    if len(bench.clip.encoders) > 1:
        pytest.skip("for a single text encoder")
    clip = TextEncoder(bench.host.pipes[bench.kind])  # type: ignore[attr-defined]
    clip.encoders = {"h": clip.encoders["l"]}
    toy = concept(bench, "<toy>")
    [[[states, _]]] = bench.classes["PPlusEncode"]().encode(clip, bench.layers, "a <toy>", (toy,))
    assert torch.equal(states, bench.encode("a <toy>", toy)[0][0])


def test_a_concept_of_another_model_is_refused(bench: Bench) -> None:
    ours = bench.layers.layers
    fewer = pp.LayerMap(ours.layers[:-1])
    foreign = pp.Concept("<toy>", torch.ones(len(fewer), 1, bench.layers.width), fewer, base_model="another")
    with pytest.raises(ConceptError, match=rf"<toy> has {len(fewer)} layers .* learned on \(another\)"):
        bench.encode("a house", foreign)
    narrow = pp.Concept("<toy>", torch.ones(len(ours), 1, 8), ours)
    with pytest.raises(ConceptError, match=r"of width 8, this model .* learned on \(not known\)"):
        bench.encode("a house", narrow)


def test_a_concept_with_a_model_whose_layers_are_not_known(bench: Bench) -> None:
    with pytest.raises(PromptError, match="P\\+ does not know this model's layers, so <toy>"):
        bench.classes["PPlusEncode"]().encode(bench.clip, None, "a <toy>", (concept(bench, "<toy>"),))


# ---- P+ Load Concept, P+ Mix


@pytest.fixture
def embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder models/embeddings, which ComfyUI's folder_paths lists."""
    import sys

    listing = ModuleType("folder_paths")

    def names(kind: str) -> list[str]:
        assert kind == "embeddings"
        return sorted(path.name for path in tmp_path.iterdir())

    def full_path(kind: str, name: str) -> str | None:
        return str(tmp_path / name) if kind == "embeddings" and (tmp_path / name).exists() else None

    listing.get_filename_list, listing.get_full_path = names, full_path  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", listing)
    return tmp_path


def test_a_concept_is_loaded_from_the_embeddings_folder(bench: Bench, embeddings: Path) -> None:
    toy = concept(bench, "<toy>")
    toy.save(embeddings / "toy.safetensors")
    node = bench.classes["PPlusLoadConcept"]
    choices = node.INPUT_TYPES()["required"]["file"][0]
    assert choices == ["toy.safetensors", "(the path below)"]
    loaded, concepts = node().load("toy.safetensors", "", "")
    assert torch.equal(loaded.rows, toy.rows)
    assert concepts == (loaded,)
    renamed, both = node().load(choices[-1], str(embeddings / "toy.safetensors"), " <other> ", concepts)
    assert renamed.token == "<other>"
    assert both == (loaded, renamed)


def test_a_file_that_was_written_anew_is_read_again(bench: Bench, embeddings: Path) -> None:
    node = bench.classes["PPlusLoadConcept"]
    concept(bench, "<toy>").save(embeddings / "toy.safetensors")
    first = node.IS_CHANGED("toy.safetensors", "", "")
    assert first == node.IS_CHANGED("toy.safetensors", "", "")
    concept(bench, "<toy>", vectors=2).save(embeddings / "toy.safetensors")
    assert first != node.IS_CHANGED("toy.safetensors", "", "")
    (embeddings / "toy.safetensors").unlink()
    assert "no file 'toy.safetensors'" in node.IS_CHANGED("toy.safetensors", "", "")


def test_wrong_files_are_one_sentence(bench: Bench, embeddings: Path) -> None:
    node = bench.classes["PPlusLoadConcept"]()
    with pytest.raises(ConceptError, match="no file 'gone' in ComfyUI's folder models/embeddings"):
        node.load("gone", "", "")
    with pytest.raises(ConceptError, match="P\\+ Load Concept has no path"):
        node.load("(the path below)", "  ", "")
    (embeddings / "text.safetensors").write_text("no tensors")
    with pytest.raises(ConceptError, match="is not a safetensors file"):
        node.load("text.safetensors", "", "")


def test_mix_is_the_librarys(bench: Bench) -> None:
    shape, style = concept(bench, "<toy>", 1), concept(bench, "<cup>", 2)
    mixed, concepts = bench.classes["PPlusMix"]().mix(shape, style, "<mix>", "coarse", (shape,))
    assert torch.equal(mixed.rows, pp.mix(shape, style, "<mix>", "coarse").rows)
    assert concepts == (shape, mixed)
    default, _ = bench.classes["PPlusMix"]().mix(shape, style, "<mix>", " ")
    assert torch.equal(default.rows, mixed.rows)
    [[states, _]] = bench.encode("a <mix>", *concepts)
    [[from_shape, _]], [[from_style, _]] = bench.encode("a <toy>", shape), bench.encode("a <cup>", style)
    coarse, width = bench.layers.layers.group("coarse"), bench.layers.width
    for index in range(len(bench.layers.layers)):
        part = slice(index * width, (index + 1) * width)
        assert torch.equal(states[..., part], (from_shape if index in coarse else from_style)[..., part])


@stand_in_only
def test_windows_are_time_ranges(bench: Bench, library: pp.PPlus) -> None:
    text = "a red house || coarse@0.25-0.5: a blue car || fine@0.5-1*0.5: a dog"
    held = ("a red house", "a red house || coarse: a blue car", "a red house || fine*0.5: a dog")
    made = bench.encode(text)
    ranges = [(extra["start_percent"], extra["end_percent"]) for _, extra in made]
    assert ranges == [(0, 0.25), (0.25, 0.5), (0.5, 1)]
    for (states, _), expected in zip(made, held, strict=True):
        assert torch.allclose(states, library.encode(expected)["prompt_embeds"], atol=CLOSE)


def test_masks_are_comfyuis_own(bench: Bench) -> None:
    with pytest.raises(PromptError, match=r"use the node Conditioning \(Set Mask\)"):
        bench.encode("a red house || coarse#0,0,0.5,1: a blue car")
