"""The examples run, on tiny models, and stay short."""

import runpy
from pathlib import Path

import pytest
from diffusers import ControlNetModel
from PIL import Image

from tests import tiny_models

EXAMPLES = Path(__file__).parent.parent / "examples"
MOST_LINES = 40


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_the_readme_links_it(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES
    assert f"(examples/{path.name})" in (EXAMPLES.parent / "README.md").read_text("utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sdxl(here: Path) -> None:
    pipe = tiny_models.sdxl()
    pipe.save_pretrained("model")
    (here / "photos").mkdir()
    Image.effect_noise((64, 64), 60).convert("RGB").save("photos/0.png")
    main = runpy.run_path(str(EXAMPLES / "sdxl.py"))["main"]
    main("photos", "model", steps=1, batch_size=1, learning_rate=0.3, progress=False)
    assert {path.name for path in here.glob("*.png")} == {"by-group.png", "by-transformer.png", "my-cat.png"}


def test_controlnet(here: Path) -> None:
    pipe = tiny_models.stable_diffusion()
    pipe.save_pretrained("model")
    ControlNetModel.from_unet(pipe.unet).save_pretrained("controlnet")
    Image.effect_noise((128, 128), 60).convert("RGB").save("edges.png")
    runpy.run_path(str(EXAMPLES / "controlnet.py"))["main"]("edges.png", "model", "controlnet")
    with Image.open("house.png") as picture:
        assert picture.size == (128, 128)


@pytest.mark.slow
def test_prompt_parts(here: Path) -> None:
    runpy.run_path(str(EXAMPLES / "prompt_parts.py"))["main"]("sheet.png")
    with Image.open("sheet.png") as sheet, Image.open(EXAMPLES.parent / "docs/pictures/prompt-parts.png") as shown:
        assert sheet.size == shown.size
