"""Training the rows of some layers (``learn``), and one caption for all pictures (``describe``)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.datasets import Dataset, FolderNote, read_dataset
from promptplus.errors import LayerError, PictureError, SettingsError
from promptplus.evaluation.training_cache import MethodSpec
from promptplus.png_metadata import describe
from promptplus.pocket import CONCEPTS
from promptplus.training import invert as trainer
from promptplus.training.checkpoint import Checkpoint
from promptplus.training.first_rows import class_word_rows, initial_rows
from promptplus.training.invert import run_inversion, run_inversions
from promptplus.training.settings import InversionSettings
from tests import tiny_models
from tests.cli.test_cli import run

FEW: dict[str, Any] = {"steps": 2, "batch_size": 2, "learning_rate": 0.05, "progress": False, "preview_every": 0}
NOTE = FolderNote(token="<x>", initializer="red", class_word="house")
DESCRIBED = "a {} striped mug on a table"


@pytest.fixture(params=["pocket", "sdxl"])
def any_pplus(request: pytest.FixtureRequest) -> Iterator[pp.PPlus]:
    """The pocket model, and a tiny SDXL, whose layers of a transformer share their rows."""
    pipe = pp.load("pocket", device="cpu") if request.param == "pocket" else tiny_models.sdxl()
    with pp.PPlus(pipe) as pplus:
        yield pplus


def rest(pplus: pp.PPlus, layers: str) -> list[int]:
    """All other layers."""
    chosen = pplus.layers.select(layers)
    return [layer for layer in range(len(pplus.layers)) if layer not in chosen]


def words_of(pplus: pp.PPlus, text: str) -> torch.Tensor:
    """A text's token embeddings, of all text encoders side by side."""
    ids = [encoder.tokenizer(text, add_special_tokens=False).input_ids for encoder in pplus.encoders]
    tables = [encoder.table.detach()[each] for encoder, each in zip(pplus.encoders, ids, strict=True)]
    return torch.cat(tables, dim=-1)


@pytest.mark.parametrize(
    "options",
    [{}, {"constraint": "norm"}, {"constraint": "direction"}, {"density": 0.01}, {"average": 0.5}, {"micro_batch": 1}],
    ids=str,
)
def test_every_learned_row_moves_and_nothing_else(
    any_pplus: pp.PPlus, pictures: list[Image.Image], options: dict[str, Any]
) -> None:
    run = run_inversion(any_pplus, Dataset(pictures, NOTE), learn="fine", **FEW, **options)
    start = initial_rows(any_pplus, "red", run.settings)[0]
    fine = any_pplus.layers.select("fine")
    assert run.concept.learned_layers == fine
    assert all(not torch.equal(run.concept.rows[layer], start) for layer in fine)
    assert all(run.moved[layer] > 0 for layer in fine)
    others = rest(any_pplus, "fine")
    assert torch.equal(run.concept.rows[others], words_of(any_pplus, "house").float().expand(len(others), 1, -1))
    assert not any(run.moved[layer] for layer in others)


def test_where_nothing_is_learned_the_token_reads_as_the_class_word(
    any_pplus: pp.PPlus, pictures: list[Image.Image]
) -> None:
    learned = pp.invert(any_pplus, Dataset(pictures, NOTE), learn="fine", **FEW)
    with any_pplus.added([learned]):
        states = any_pplus.text_states([["a <x> on grass"] * len(any_pplus.layers)]).states[0]
    words = any_pplus.text_states([["a house on grass"] * len(any_pplus.layers)]).states[0]
    others, fine = rest(any_pplus, "fine"), list(any_pplus.layers.select("fine"))
    assert torch.allclose(states[others], words[others], atol=1e-5)
    assert not torch.allclose(states[fine], words[fine], atol=1e-2)


def test_a_class_word_of_several_tokens_takes_as_many_vectors(pplus: pp.PPlus, pictures: list[Image.Image]) -> None:
    note = replace_note(class_word="red house")
    learned = pp.invert(pplus, Dataset(pictures, note), learn="4-9", vectors=2, **FEW)
    assert torch.equal(learned.rows[rest(pplus, "4-9")], words_of(pplus, "red house").expand(10, -1, -1))
    for vectors in (1, 3):
        with pytest.raises(SettingsError, match=rf"^vectors {vectors}: .* 'red house', which has 2 tokens; give as"):
            pp.invert(pplus, Dataset(pictures, note), learn="4-9", vectors=vectors, **FEW)


def replace_note(**values: Any) -> FolderNote:
    return NOTE.model_copy(update=values)


def test_all_layers_by_name_train_the_same_bits_as_no_choice(pplus: pp.PPlus, pictures: list[Image.Image]) -> None:
    dataset = Dataset(pictures, NOTE)
    assert torch.equal(pp.invert(pplus, dataset, learn="0-15", **FEW).rows, pp.invert(pplus, dataset, **FEW).rows)
    assert torch.equal(  # one row for all layers is no choice of layers
        pp.invert(pplus, dataset, learn="0-15", method="ti", **FEW).rows,
        pp.invert(pplus, dataset, method="ti", **FEW).rows,
    )


def test_a_tied_row_is_learned_in_all_its_layers_or_in_none(pplus: pp.PPlus, pictures: list[Image.Image]) -> None:
    dataset = Dataset(pictures, NOTE)
    learned = pp.invert(pplus, dataset, learn="fine", tying="resolution", **FEW)
    fine = list(pplus.layers.select("fine"))
    assert torch.equal(learned.rows[fine], learned.rows[fine[:1]].expand(len(fine), -1, -1))
    with pytest.raises(SettingsError, match=r"^learn 'up\.3': layers down\.0\.0, down\.0\.1 would share rows"):
        pp.invert(pplus, dataset, learn="up.3", tying="resolution", **FEW)
    with pytest.raises(SettingsError, match=r"^learn 'fine': all layers share one row .*; use method xti$"):
        pp.invert(pplus, dataset, learn="fine", method="ti", **FEW)


def test_layers_of_one_sdxl_transformer_share_their_row(pictures: list[Image.Image]) -> None:
    with pp.PPlus(tiny_models.sdxl()) as pplus:
        with pytest.raises(SettingsError, match=r"would share rows with these layers \(tying transformer\)"):
            pp.invert(pplus, Dataset(pictures, NOTE), learn="down.2.0.0", **FEW)
        learned = pp.invert(pplus, Dataset(pictures, NOTE), learn="down.2.0", **FEW)
    assert torch.equal(learned.rows[learned.learned_layers[0]], learned.rows[learned.learned_layers[1]])


def test_unknown_layers_are_refused_before_any_work(
    pplus: pp.PPlus, pictures: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "to_pixels", lambda *_: pytest.fail("work began"))
    with pytest.raises(LayerError, match="no layer 'finest': use a group"):
        pp.invert(pplus, Dataset(pictures, NOTE), learn="finest", out=tmp_path / "x", **FEW)
    assert not (tmp_path / "x").exists()


def test_a_run_goes_on_to_the_same_bits_with_the_same_layers_alone(
    any_pplus: pp.PPlus, pictures: list[Image.Image], tmp_path: Path
) -> None:
    def learn(out: str, steps: int, **options: Any) -> Any:
        values = {"learn": "fine", "describe": DESCRIBED, "average": 0.5, **FEW, "steps": steps, **options}
        return run_inversion(any_pplus, Dataset(pictures, NOTE), out=tmp_path / out, **values)

    straight = learn("straight", 4)
    learn("parts", 2)
    parts = learn("parts", 4)
    assert parts.resumed == 2
    assert torch.equal(parts.concept.rows, straight.concept.rows)
    assert learn("parts", 4).concept.provenance == straight.concept.provenance  # read again from the folder
    with pytest.raises(SettingsError, match="was begun with learn 'fine', not 'coarse'"):
        learn("parts", 4, learn="coarse")
    with pytest.raises(SettingsError, match="was begun with learn 'fine', not None"):
        learn("parts", 4, learn=None)
    with pytest.raises(SettingsError, match=r"was begun with describe 'a \{\} striped mug on a table', not 'a \{\}'"):
        learn("parts", 4, describe="a {}")


def test_results_and_runs_without_a_choice_are_found_as_before(
    pplus: pp.PPlus, pictures: list[Image.Image], tmp_path: Path
) -> None:
    assert "learn" not in InversionSettings().model_dump()
    assert "learn" not in MethodSpec("xti").training_key
    assert MethodSpec("fine", {"learn": "fine"}).training_key != MethodSpec("xti").training_key
    run = run_inversion(pplus, Dataset(pictures, NOTE), out=tmp_path / "run", **FEW)
    checkpoint = Checkpoint.load(tmp_path / "run")
    assert checkpoint is not None
    assert not {"learn", "describe"} & {*checkpoint.settings, *run.concept.provenance}


def test_concepts_side_by_side_learn_their_layers_as_alone(pictures: list[Image.Image], tmp_path: Path) -> None:
    notes = replace_note(), FolderNote(token="<y>", initializer="car")
    datasets = [Dataset(pictures[i : i + 2], note, Path(str(i))) for i, note in enumerate(notes)]
    with pp.PPlus(pp.load("pocket", device="cpu", dtype=torch.float64)) as exact:  # else Adam magnifies rounding
        both = run_inversions(exact, datasets, out=tmp_path / "both", learn="fine", **FEW)
        alone = pp.invert(exact, datasets[1], learn="fine", **FEW)
    assert torch.allclose(both[1].concept.rows, alone.rows, atol=1e-5)


def test_the_warning_of_rows_that_hardly_moved_is_about_learned_layers(
    pplus: pp.PPlus, pictures: list[Image.Image]
) -> None:
    options = {**FEW, "learning_rate": 1e-6}
    with pytest.warns(UserWarning, match="hardly moved") as warned:
        pp.invert(pplus, Dataset(pictures, NOTE), learn="up.3", **options)
    assert "(layers up.3.0, up.3.1, up.3.2)" in str(warned[0].message)


def test_the_concept_file_says_what_was_learned(pplus: pp.PPlus, pictures: list[Image.Image], tmp_path: Path) -> None:
    learned = pp.invert(pplus, Dataset(pictures, NOTE), learn="0-1,mid", describe=DESCRIBED, **FEW)
    loaded = pp.Concept.load(learned.save(tmp_path / "x.safetensors"))
    assert loaded.learned_layers == (0, 1, 6)
    printed = describe(tmp_path / "x.safetensors")
    assert printed["learned_layers"] == ["down.0.0", "down.0.1", "mid.0"]
    assert printed["provenance"]["describe"] == DESCRIBED
    assert "learned_layers" not in replace(loaded, provenance={}).describe()
    assert len(replace(loaded, provenance={"learn": "block.99"}).learned_layers) == 16  # of another model


def test_mix_takes_such_concepts_and_warns_of_layers_they_did_not_learn(
    any_pplus: pp.PPlus, pictures: list[Image.Image]
) -> None:
    fine = pp.invert(any_pplus, Dataset(pictures, NOTE), learn="fine", **FEW)
    others = ",".join(map(str, rest(any_pplus, "fine")))
    shape = pp.invert(any_pplus, Dataset(pictures, replace_note(token="<y>")), learn=others, **FEW)
    mixed = pp.mix(shape, fine, "<xy>", others)  # a warning would be an error
    assert torch.equal(mixed.rows[rest(any_pplus, "fine")], shape.rows[rest(any_pplus, "fine")])
    chosen = list(any_pplus.layers.select("fine"))
    assert torch.equal(mixed.rows[chosen], fine.rows[chosen])
    with pytest.warns(UserWarning, match="<x> learned the fine layers alone; in .* its class word 'house'"):
        pp.mix(shape, fine, "<xy>", "mid")


def test_one_caption_for_all_pictures_trains_as_the_same_caption_beside_each(
    pplus: pp.PPlus, pictures: list[Image.Image]
) -> None:
    dataset = Dataset(pictures, NOTE)
    described = pp.invert(pplus, dataset, describe=DESCRIBED, **FEW)
    beside = pp.invert(pplus, replace(dataset, captions=(DESCRIBED,) * len(pictures)), **FEW)
    assert torch.equal(described.rows, beside.rows)
    assert not torch.equal(described.rows, pp.invert(pplus, dataset, **FEW).rows)


def test_sdxl_learns_what_one_caption_leaves_over(pictures: list[Image.Image]) -> None:
    with pp.PPlus(tiny_models.sdxl()) as sdxl:
        plain = pp.invert(sdxl, Dataset(pictures, NOTE), **FEW)
        described = pp.invert(sdxl, Dataset(pictures, NOTE), describe=DESCRIBED, **FEW)
    assert not torch.equal(described.rows, plain.rows)
    assert described.provenance["describe"] == DESCRIBED


def test_the_class_word_or_the_token_may_stand_for_the_concept(pplus: pp.PPlus, pictures: list[Image.Image]) -> None:
    for text in ("a  red {} at night", "a red House at night", "a red <x> at night"):
        learned = pp.invert(pplus, Dataset(pictures, NOTE), describe=text, **{**FEW, "steps": 1})
        assert learned.provenance["describe"] == "a red {} at night"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a red mug", "does not say where the concept is; write {}, <x> or house into it"),
        ("a {} on a {}", "has {} 2 times; write it once"),
        ("red " * 99 + "{}", "has no room for <x>"),
        (3, "describe: a caption"),
    ],
)
def test_captions_without_one_place_for_the_concept_are_refused(
    pplus: pp.PPlus, pictures: list[Image.Image], text: Any, message: str
) -> None:
    with pytest.raises(PictureError) as caught:
        pp.invert(pplus, Dataset(pictures, NOTE), describe=text, **FEW)
    assert message in str(caught.value)


def test_one_caption_and_captions_beside_pictures_exclude_each_other(pplus: pp.PPlus, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^captions and describe both say"):
        pp.invert(pplus, tmp_path, captions=True, describe=DESCRIBED, **FEW)
    dataset = read_dataset(Dataset([], NOTE, captions=()), describe=DESCRIBED)
    assert (dataset.captions, dataset.describe) == (None, DESCRIBED)  # what is asked for later counts


def test_class_words_are_their_token_embeddings(pplus: pp.PPlus) -> None:
    assert torch.equal(class_word_rows(pplus, "house", 1), words_of(pplus, "house"))


def test_the_command_line_learns_describes_and_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = str(CONCEPTS / "robot"), tmp_path / "out"
    call = ("invert", folder, "--learn", "fine", "--describe", "a {} robot", "--initializer", "nice", "--steps", "1")
    code, said, err = run(*call, "--batch-size", "1", "--preview-every", "0", "--out", str(out), capsys=capsys)
    assert code == 0, err
    assert "its rows of the fine layers moved by" in " ".join(said.split())
    printed = run("info", str(out / "concept.safetensors"), capsys=capsys)[1]
    assert 'learned_layers  ["down.0.0", "down.0.1", "up.3.0", "up.3.1", "up.3.2"]' in printed
    assert '"describe": "a {} robot"' in printed
