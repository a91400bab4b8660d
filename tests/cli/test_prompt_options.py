"""Strength, window and mask of prompt parts on the command line: pictures, their recipes, and --explain."""

import json
from pathlib import Path

import pytest
from PIL import Image

from promptplus.png_metadata import read_parameters
from tests.cli.test_cli import FAST, pixels, run

PROMPT = "a red cup || fine*0.7@0.4-1: a blue cup"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    picture = Image.new("L", (64, 64))
    picture.paste(255, (0, 0, 32, 64))
    picture.save(tmp_path / "left half.png")
    return tmp_path / "left half.png"


def test_a_picture_with_all_options_is_made_again_whatever_its_batch_was(
    tmp_path: Path, mask: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("generate", PROMPT, "--layer", f'coarse#"{mask}"=a green teapot', "--negative", "bad || fine@.5-1: dark")
    words += ("--count", "3", "--batch", "2", "--out", str(tmp_path / "pictures"), "--json", *FAST)
    code, printed, said = run(*words, capsys=capsys)
    assert code == 0, said
    made = json.loads(printed)["pictures"]
    recipe = read_parameters(made[2])
    assert recipe.prompt == f'{PROMPT} || coarse#"{mask}": a green teapot'
    assert list(recipe.masks) == [str(mask)]
    for path in made:
        code, printed, said = run(
            "generate", "--again", path, "--out", str(tmp_path / "again"), "--json", "--device", "cpu", capsys=capsys
        )
        assert code == 0, said
        assert (pixels(json.loads(printed)["pictures"][0]) == pixels(path)).all()
    Image.new("L", (64, 64)).save(mask)
    for remedy in ("was made with another mask", "the mask of a part cannot be read"):
        code, _, said = run("generate", "--again", made[0], "--out", str(tmp_path / "no"), capsys=capsys)
        assert (code, said.count("\n")) == (2, 1)
        assert remedy in said.replace("\n", " ")
        mask.unlink(missing_ok=True)
    assert not (tmp_path / "no").exists()


def test_explain_prints_what_each_layer_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    long = "a green teapot " + "and a cup " * 20
    words = ("generate", PROMPT, "--layer", f"coarse#0,0,.5,1={long}", "--explain", "--out", str(tmp_path / "none"))
    code, table, said = run(*words, *FAST, capsys=capsys)
    assert code == 0, said
    lines = [line.split() for line in table.splitlines()]
    assert ["up.3.2", "0.4–1", "0.7", "4/38", "a", "blue", "cup"] in lines
    assert not (tmp_path / "none").exists()
    code, printed, _ = run(*words, *FAST, "--json", capsys=capsys)
    rows = json.loads(printed)["prompt"]
    assert len(rows) == 5 * 2 + 6 * 2 + 5
    tokens = rows[0].pop("tokens")
    assert "".join(tokens).replace("</w>", " ") == "a red cup "
    expected = {"layer": "down.0.0", "text": "a red cup", "strength": 1.0, "window": [0.0, 0.4], "mask": ""}
    assert rows[0] == {**expected, "room": 38, "cut": ""}
    (masked,) = (row for row in rows if row["layer"] == "mid.0" and row["mask"])
    assert masked["mask"] == "0,0,0.5,1"
    assert len(masked["tokens"]) == 38
    assert masked["cut"].endswith("and a cup and a cup")


def test_compel_reads_weights_and_long_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("compel")
    words = ("generate", "a (red:1.4) cup " + "and a cup " * 20, "--compel", "--count", "1", *FAST)
    code, printed, said = run(*words, "--out", str(tmp_path / "a"), "--json", capsys=capsys)
    assert code == 0
    assert "was cut" not in said
    (made,) = json.loads(printed)["pictures"]
    assert read_parameters(made).compel
    again = ("generate", "--again", made, "--out", str(tmp_path / "b"), "--json", "--device", "cpu")
    code, printed, said = run(*again, capsys=capsys)
    assert (pixels(json.loads(printed)["pictures"][0]) == pixels(made)).all()
    code, printed, _ = run(*words, "--explain", "--json", capsys=capsys)
    (row, *_) = json.loads(printed)["prompt"]
    assert (row["room"], row["cut"]) == (None, "")
    assert len(row["tokens"]) > 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a || fine@0.9-0.1: b",), "begins before it ends"),
        (("a || fine*x: b",), "a strength is a number"),
        (("a || fine#no.png: b",), "the mask of a part cannot be read"),
        (("a", "--layer", "fine*=b"), 'is not layers="text"'),
        (("a", "--negative", "b || fine@2-3: c"), "from 0 (pure noise) to 1"),
    ],
)
def test_bad_parts_are_one_sentence_before_the_model_is_loaded(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptplus.cli.common.open_model", lambda *_: pytest.fail("the model was loaded"))
    code, _, said = run("generate", *words, capsys=capsys)
    assert code == 2
    assert message in " ".join(said.split())
    assert said.count("promptplus:") == 1
