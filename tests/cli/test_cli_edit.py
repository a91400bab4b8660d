"""The command edit: its files, and that --again makes an edit anew."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptplus.generation_parameters import GenerationParameters
from promptplus.png_chunks import is_sheet
from promptplus.png_metadata import read_parameters
from promptplus.pocket import CONCEPTS
from tests.cli.test_cli import run

PICTURE = CONCEPTS / "robot" / "0.png"


@pytest.mark.slow
def test_an_edit_writes_pictures_that_can_be_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask, out = tmp_path / "mask.png", tmp_path / "out"
    Image.new("L", (64, 64)).save(mask)
    changed = Image.new("L", (64, 64))
    changed.paste(255, (0, 0, 64, 40))
    changed.save(mask)
    call = ["edit", str(PICTURE), "--source", "a robot", "--layer", "fine=a green robot", "--mask", str(mask)]
    call += ["--steps", "4", "--count", "2", "--out", str(out), "--sweep", "--json"]
    code, said, err = run(*call, capsys=capsys)
    assert code == 0, err
    answer = json.loads(said)
    assert sorted(path.name for path in out.iterdir()) == [
        "0000-seed0.png",
        "0001-seed1.png",
        "sheet-0000.png",
        "sweep-0000.png",
    ]
    edited, picture = (np.asarray(Image.open(path).convert("RGB")) for path in (answer["pictures"][0], PICTURE))
    assert (edited[40:] == picture[40:]).all()
    assert (edited[:40] != picture[:40]).any()
    assert all(is_sheet(Path(answer[name])) for name in ("sweep", "sheet"))

    parameters = read_parameters(answer["pictures"][1])
    assert parameters.prompt == "a robot || fine: a green robot"
    assert parameters.edit
    assert (parameters.edit.source, parameters.edit.method, parameters.steps) == ("a robot", "noise-maps", 4)
    files = ["--image", str(PICTURE), "--mask", str(mask)]
    code, _, err = run(
        "generate", "--again", answer["pictures"][1], *files, "--out", str(tmp_path / "again"), capsys=capsys
    )
    assert code == 0, err
    again = Image.open(tmp_path / "again" / "0000-seed1.png")
    assert again.tobytes() == Image.open(answer["pictures"][1]).tobytes()
    code, _, err = run("generate", "--again", answer["pictures"][1], "--out", str(tmp_path / "no"), capsys=capsys)
    assert code == 2
    assert "--image" in err
    code, said, err = run(*call, "--resume", capsys=capsys)
    assert json.loads(said)["kept"] == 2


def test_pictures_of_older_versions_are_no_edits() -> None:
    assert (
        GenerationParameters.model_validate({"prompt": "a", "model": "pocket", "steps": 3, "guidance": 2}).edit is None
    )
