"""Concepts on the Hugging Face hub: its own client, against a stand-in of the hub on this machine, and its cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import promptplus as pp
from promptplus.errors import ConceptError, OutputError
from promptplus.formats import contents, found, hub
from tests.formats.local_hub import COMMIT, LocalHub, serving
from tests.formats.samples import OUR_FOLDER, SAMPLES
from tests.formats.test_writing import XTI


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    with serving(monkeypatch, tmp_path / "cache") as started:
        yield started


def library_concept(**more: bytes) -> dict[str, bytes]:
    """A repository as sd-concepts-library has it."""
    sample = next(one for one in SAMPLES if one.format == found.DIFFUSERS and one.container == "torch")
    images = {f"concept_images/{i}.jpeg": b"x" * 2**20 for i in range(3)}
    return {
        "learned_embeds.bin": sample.pack(sample.tensors),
        "token_identifier.txt": b"<cat>",
        "type_of_concept.txt": b"style",
        "README.md": b"# cat",
        **images,
        **more,
    }


@pytest.mark.file_format("bit-equal", OUR_FOLDER)
def test_a_concept_is_pushed_and_loaded_again(local: LocalHub) -> None:
    address = XTI.push_to_hub("me/cat", licence="mit")
    assert address == f"{local.address}/me/cat"
    assert set(local.files["me/cat"]) >= {"concept.safetensors", "learned_embeds.safetensors", "README.md"}
    card = local.files["me/cat"]["README.md"].decode()
    assert 'pp.Concept.load("hub:me/cat")' in card
    assert not [name for name in local.files["me/cat"] if name.startswith("concept_images")]
    loaded = pp.Concept.load("hub:me/cat")
    assert torch.equal(loaded.rows, XTI.rows)
    assert sorted(local.fetched()) == ["concept.safetensors", "token_identifier.txt", "type_of_concept.txt"]


def test_of_the_librarys_concepts_only_the_small_files_are_fetched_once(local: LocalHub) -> None:
    local.files["sd-concepts-library/cat"] = library_concept()
    loaded = pp.Concept.load("hub:sd-concepts-library/cat")
    assert (loaded.token, loaded.kind, loaded.tying) == ("<cat>", "style", "all")
    assert sorted(local.fetched()) == ["learned_embeds.bin", "token_identifier.txt", "type_of_concept.txt"]
    again = pp.Concept.load(f"hub:sd-concepts-library/cat@{COMMIT}", token="<toy>")
    assert again.token == "<toy>"
    assert len(local.fetched()) == 3, "the second time they come from the cache"


@pytest.mark.parametrize("trouble", ["offline", "no server", "server's trouble"])
def test_without_a_network_the_cache_is_read(
    local: LocalHub, trouble: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    local.files["me/cat"] = library_concept()
    first = pp.Concept.load("hub:me/cat@main")
    if trouble == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif trouble == "no server":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    else:
        local.status = 503
    with pytest.raises(ConceptError, match="cannot read hub:me/other") as caught:
        pp.Concept.load("hub:me/other")
    assert "\n" not in str(caught.value)
    if trouble == "offline":
        assert "HF_HUB_OFFLINE is set, and it was not fetched before" in str(caught.value)
    assert torch.equal(pp.Concept.load("hub:me/cat@main").rows, first.rows)


def test_what_the_hub_refuses_is_one_sentence(local: LocalHub) -> None:
    local.files |= {"me/gated": library_concept(), "me/empty": {"README.md": b""}}
    local.gated.add("me/gated")
    large = {"learned_embeds.safetensors": b"0" * (contents.MAX_BYTES + 1), "token_identifier.txt": b"<x>"}
    local.files["me/large"] = large
    local.files["me/long"] = library_concept(**{"token_identifier.txt": b"<" * 10_000})
    for address, message in {
        "hub:me/none": "no such repository, or it is private; check the name, or log in with: hf auth login",
        "hub:me/gated": "it is gated; ask for access on its page",
        "hub:me/empty": "a repository without a concept: it holds none of concept.safetensors",
        "hub:me/large": "has a learned_embeds.safetensors of 67,108,865 bytes; at most 67,108,864 are fetched",
        "hub:me/long": "has a token_identifier.txt of 10,000 bytes",
        "hub:me/gated@nothing": "gated",
        "hub:me/long@nothing": "has no such revision",
    }.items():
        with pytest.raises(ConceptError) as caught:
            pp.Concept.load(address)
        assert message in str(caught.value)
        assert address in str(caught.value)
        assert "\n" not in str(caught.value)
    assert local.fetched() == []


@pytest.mark.parametrize(
    "address", ["hub:", "hub:cat", "hub:a/b/c", "hub:../x", "hub:a/..", "hub:a/b@", "hub:a/b@../x", "hub:a b/c"]
)
def test_other_addresses_are_refused_before_anything_is_asked(local: LocalHub, address: str) -> None:
    with pytest.raises(ConceptError, match="a concept on the hub is hub:owner/name"):
        pp.Concept.load(address)
    assert local.requests == []


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_push_that_is_refused_says_why(local: LocalHub, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    local.status = status
    with pytest.raises(OutputError, match="cannot write hub:me/cat: ") as caught:
        XTI.push_to_hub("hub:me/cat")
    assert ("hf auth login" in str(caught.value)) == (status != 500)
    for repo in ("cat", "a/b/c", "../x", 7):
        with pytest.raises(OutputError, match="a repository of the hub is owner/name"):
            XTI.push_to_hub(repo)  # type: ignore[arg-type]


def test_what_shall_be_private_is_never_put_where_it_is_public(local: LocalHub) -> None:
    XTI.push_to_hub("me/secret", private=True)
    assert local.private == {"me/secret"}
    XTI.push_to_hub("me/secret", private=True)
    local.files["me/open"] = {}
    with pytest.raises(OutputError, match="hub:me/open exists and is public"):
        XTI.push_to_hub("me/open", private=True)
    assert local.files["me/open"] == {}


def test_a_path_that_is_no_address_is_a_path(tmp_path: Path) -> None:
    assert not hub.is_address(tmp_path / "hub")
    with pytest.raises(ConceptError, match="no concept file"):
        pp.Concept.load(tmp_path / "hub")


@pytest.mark.network
def test_a_concept_of_the_library_is_loaded_from_the_hub() -> None:
    loaded = pp.Concept.load("hub:sd-concepts-library/cat-toy")
    assert (loaded.token, loaded.width, loaded.tying) == ("<cat-toy>", 768, "all")
