"""Files of other tools on the command line: ``info``, ``convert``, ``mix``, and pictures from them."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import promptplus as pp
from promptplus.formats import found
from tests.cli.test_cli import FAST, pixels, run
from tests.formats.local_hub import serving
from tests.formats.samples import SAMPLES, Sample, numbers, torch_file
from tests.formats.test_writing import XTI

pytestmark = pytest.mark.filterwarnings("default")  # notes are printed, not raised
Capture = pytest.CaptureFixture[str]


def said(*words: str, capsys: Capture) -> tuple[int, dict[str, object], str]:
    """Exit code, the JSON that was printed, and what was said on standard error."""
    code, printed, notes = run(*words, "--json", capsys=capsys)
    return code, json.loads(printed) if printed else {}, notes


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_info_names_the_format_of_any_file(sample: Sample, tmp_path: Path, capsys: Capture) -> None:
    code, values, _ = said("info", str(sample.write(tmp_path)), capsys=capsys)
    assert code == 0
    assert values["format"] in sample.format or sample.format not in found.FORMATS
    assert values["token"] == (sample.token or None)
    assert values["tying"] == ("layer" if sample.per_layer else "all")
    assert values["vectors"] == sample.rows.shape[1]
    assert ("spread" in values, "provenance" in values) == (True, True)
    code, printed, _ = run("info", str(sample.write(tmp_path)), capsys=capsys)
    assert f"format  {values['format']}" in printed


def test_info_lists_all_concepts_of_a_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "two").write_bytes(torch_file()({"<a>": numbers(4), "<b>": numbers(2, 4)}))
    _, values, _ = said("info", str(tmp_path / "two"), capsys=capsys)
    assert [one["token"] for one in values["concepts"]] == ["<a>", "<b>"]  # type: ignore[index]


def test_info_of_a_picture_under_another_name(tmp_path: Path, capsys: Capture) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.safetensors", "PNG")
    code, _, errors = run("info", str(tmp_path / "x.safetensors"), capsys=capsys)
    assert (code, "is not a PNG with generation parameters" in errors) == (2, True)


def test_convert_to_each_tool_and_back(tmp_path: Path, capsys: Capture) -> None:
    source = str(XTI.save(tmp_path / "cat.safetensors"))
    outs = {name: str(tmp_path / f"{name}.safetensors") for name in ("kohya", "textual-inversion", "ours")}
    for to, out in outs.items():
        code, values, _ = said("convert", source, "--to", to, "--out", out, capsys=capsys)
        assert (code, values["out"], values["spread"]) == (0, out, round(XTI.spread, 4))
    assert len(load_file(outs["kohya"])) == 16
    again = str(tmp_path / "again.safetensors")
    code, values, _ = said("convert", outs["kohya"], "--token", "<toy>", "--out", again, capsys=capsys)
    assert (code, values["token"]) == (0, "<toy>")
    assert torch.equal(pp.Concept.load(again).rows, XTI.rows)
    code, _, errors = run("convert", outs["kohya"], "--out", str(tmp_path / "none"), capsys=capsys)
    assert (code, "names no placeholder token; give one: FILE=<name>" in errors) == (2, True)


def test_convert_says_what_is_lost_and_never_the_similarity(tmp_path: Path, capsys: Capture) -> None:
    source, out = XTI.save(tmp_path / "cat.safetensors"), tmp_path / "ti.safetensors"
    _, printed, _ = run("convert", str(source), "--to", "textual-inversion", "--out", str(out), capsys=capsys)
    assert f"whose rows lie {XTI.spread:.0%} of their length away from it" in printed
    assert "how alike the pictures are is not known" in printed
    _, printed, _ = run("convert", str(out), "--to", "textual-inversion", "--out", str(tmp_path / "x"), capsys=capsys)
    assert "away from it" not in printed, "nothing is lost where all layers are the same"


def test_convert_names_the_file_after_the_token(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(XTI.save(tmp_path / "x"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for token, name in (("<toy:cat>", "toy-cat.safetensors"), ("<..>", "concept.safetensors")):
        code, values, _ = said("convert", source, "--token", token, capsys=capsys)
        assert (code, values["out"]) == (0, name)
    assert {path.name for path in tmp_path.iterdir()} == {"x", "here"}


def test_convert_a_runs_folder_for_the_hub_with_its_last_previews(tmp_path: Path, capsys: Capture) -> None:
    run_folder, out, photos = tmp_path / "run", tmp_path / "cat", tmp_path / "photos"
    XTI.save(run_folder / "concept.safetensors")
    for folder, names in ((run_folder / "previews", ("step-00001", "step-00002")), (photos, ("a",))):
        folder.mkdir()
        for name in names:
            Image.new("RGB", (34, 16), "red" if name.endswith("2") else "blue").save(folder / f"{name}.png")
    words = ("convert", str(run_folder), "--to", "hub", "--licence", "mit")
    code, _, _ = said(*words, "--out", str(out), capsys=capsys)
    assert code == 0
    assert pixels(str(out / "grid.png"))[0, 0].tolist() == [255, 0, 0]
    assert not (out / "concept_images").exists()
    code, _, _ = said(*words, "--pictures", str(photos), "--out", str(tmp_path / "with"), capsys=capsys)
    assert [path.name for path in (tmp_path / "with" / "concept_images").iterdir()] == ["0.png"]


def test_convert_uploads_and_generate_reads_it(
    pplus: pp.PPlus, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    concept = pp.Concept("<thing>", numbers(16, 1, pplus.width), pplus.layers)
    source = str(concept.save(tmp_path / "thing.safetensors"))
    with serving(monkeypatch, tmp_path / "cache") as hub:
        code, values, _ = said("convert", source, "--to", "hub", "--out", "hub:me/thing", "--private", capsys=capsys)
        assert (code, values["out"]) == (0, f"{hub.address}/me/thing")
        words = ("generate", "a <toy>", "--concept", "hub:me/thing=<toy>", "--out", str(tmp_path / "p"))
        code, values, _ = said(*words, "--count", "1", *FAST, capsys=capsys)
        assert code == 0
        [picture] = values["pictures"]  # type: ignore[misc]
        assert said("info", picture, capsys=capsys)[1]["concepts"] == {"<toy>": concept.sha256}


def test_generate_and_mix_take_any_file_with_a_name_for_it(pplus: pp.PPlus, tmp_path: Path, capsys: Capture) -> None:
    inversion, layered = tmp_path / "ti.pt", tmp_path / "xti.bin"
    inversion.write_bytes(torch_file()({"emb_params": 0.2 * numbers(1, pplus.width)}))
    layered.write_bytes(torch_file()({f"cat-{i}": 0.2 * numbers(pplus.width, seed=i) for i in range(16)}))
    mixed = str(tmp_path / "mixed.safetensors")
    words = ("mix", "--shape", f"{inversion}=<a>", "--style", str(layered), "--token", "<m>", "--out", mixed)
    code, values, _ = said(*words, capsys=capsys)
    assert code == 0
    assert set(values["supplied_by"].values()) == {"<a>", "<cat>"}  # type: ignore[union-attr]
    prompt = "a <a> || fine: a <m>"
    words = ("generate", prompt, "--concept", f"{inversion}=<a>", "--concept", mixed, "--out", str(tmp_path / "p"))
    code, values, _ = said(*words, "--count", "1", *FAST, capsys=capsys)
    assert code == 0
    [picture] = values["pictures"]  # type: ignore[misc]
    words = ("generate", "--again", picture, "--concept", f"{inversion}=<a>", "--concept", mixed)
    code, values, _ = said(*words, "--out", str(tmp_path / "again"), "--device", "cpu", capsys=capsys)
    assert code == 0
    [again] = values["pictures"]  # type: ignore[misc]
    assert (pixels(again) == pixels(picture)).all()


def test_a_concept_of_a_wrong_width_names_its_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "sd1.pt").write_bytes(torch_file()({"emb_params": numbers(1, 768)}))
    words = ("generate", "a <a>", "--concept", f"{tmp_path / 'sd1.pt'}=<a>", "--out", str(tmp_path / "p"))
    code, _, errors = run(*words, *FAST, capsys=capsys)
    assert (code, "sd1.pt does not say which" in errors) == (2, True)
    words = ("generate", "a car", "--concept", f"{tmp_path / 'sd1.pt'}=<|endoftext|>", "--out", str(tmp_path / "p"))
    code, _, errors = run(*words, *FAST, capsys=capsys)
    assert (code, "sd1.pt: the tokenizer already has a word" in errors) == (2, True)


def test_what_is_left_out_is_said(tmp_path: Path, capsys: Capture) -> None:
    sample = next(one for one in SAMPLES if one.format == found.CLONEOFSIMO)
    source = str(sample.write(tmp_path, {**sample.tensors, "unet:0:up": numbers(4, 4)}))
    code, _, notes = said("convert", source, "--out", str(tmp_path / "x"), capsys=capsys)
    assert code == 0
    assert "note:" in notes
    assert "the file also holds 'unet:0:up'; of it the concept alone was read" in notes


def test_density_of_a_concept_of_another_width_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "sd1.pt").write_bytes(torch_file()({"emb_params": numbers(1, 768)}))
    words = ("analyze", "density", f"{tmp_path / 'sd1.pt'}=<a>", "--out", str(tmp_path / "d"), "--device", "cpu")
    code, _, errors = run(*words, capsys=capsys)
    assert (code, "sd1.pt does not say which" in errors) == (2, True)
