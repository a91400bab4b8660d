"""Which concept files the studio offers, and which file a token means."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import promptplus as pp
from promptplus.errors import ConceptError
from promptplus.studio.workplace import Workplace
from tests.conftest import make_concept


def put(place: Workplace, concept: pp.Concept, run: str, age: float = 0.0) -> Path:
    """Save a concept as a run's; ``age``: seconds."""
    path = concept.save(place.runs / run / "concept.safetensors")
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_runs_mixes_and_the_pockets_own_are_offered(place: Workplace, pplus: pp.PPlus) -> None:
    put(place, make_concept(pplus, "<thing>", 1), "thing")
    make_concept(pplus, "<mixed>", 2).save(place.mixes / "mixed.safetensors")
    assert {one.label for one in place.concept_files.all()} == {"<thing>", "<mixed>", "<teapot>"}


def test_damaged_files_and_other_models_are_left_out(place: Workplace, pplus: pp.PPlus) -> None:
    (place.runs / "bad").mkdir()
    (place.runs / "bad" / "concept.safetensors").write_bytes(b"no concept")
    other = make_concept(pplus, "<other>", 1)
    put(place, replace(other, rows=other.rows[..., :64]), "other")
    assert [one.label for one in place.concept_files.all()] == ["<teapot>"]


def test_two_files_of_one_token_are_told_apart_and_the_newest_is_meant(place: Workplace, pplus: pp.PPlus) -> None:
    old, new = (
        put(place, make_concept(pplus, "<thing>", 1), "a", 60),
        put(place, make_concept(pplus, "<thing>", 2), "b"),
    )
    files = place.concept_files
    labels = [one.label for one in files.all() if one.token == "<thing>"]
    assert labels == [f"<thing> · {new}", f"<thing> · {old}"]
    assert [one.path for one in files.of_texts(["a <thing>", "a house"])] == [new]
    assert [one.path for one in files.of_texts(["a <thing>"], [labels[1]])] == [old]
    assert files.of_texts(["a house"], [labels[1]]) == []
    with pytest.raises(ConceptError, match="two concepts with the token <thing> are chosen; choose one of them"):
        files.of_texts(["a <thing>"], labels)


def test_a_file_that_changed_is_read_again(place: Workplace, pplus: pp.PPlus) -> None:
    files = place.concept_files
    path = put(place, make_concept(pplus, "<one>", 1), "run", 60)
    assert "<one>" in [one.label for one in files.all()]
    put(place, make_concept(pplus, "<two>", 1), "run")
    assert {"<two>", "<teapot>"} == {one.label for one in files.all()}
    path.unlink()
    with pytest.raises(ConceptError, match="the concept <two> is gone; choose another"):
        files.labelled("<two>")


def test_files_of_other_tools_are_offered_where_they_fit_and_name_a_token(place: Workplace, pplus: pp.PPlus) -> None:
    torch.save({"<toy>": torch.ones(pplus.width)}, place.mixes / "toy.bin")
    torch.save({"<wide>": torch.ones(768)}, place.mixes / "wide.bin")
    torch.save({"emb_params": torch.ones(1, pplus.width)}, place.mixes / "nameless.pt")
    found = {one.label: one.concept for one in place.concept_files.all()}
    assert set(found) == {"<toy>", "<teapot>"}
    assert found["<toy>"].tying == "all"


def test_a_concepts_approximation_beside_it_is_not_offered(place: Workplace, pplus: pp.PPlus) -> None:
    concept = make_concept(pplus, "<thing>", 1)
    for folder in (place.runs, place.mixes):
        concept.save(folder / "concept.safetensors")
        concept.save_approximation(folder / "learned_embeds.safetensors")
    assert [one.concept.tying for one in place.concept_files.all() if one.token == "<thing>"] == ["layer", "layer"]
