"""The grammar of prompt parts: strength, window and mask; what is refused, and that every prompt can be written."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from promptplus import LayerMap, Part, PPlusPrompt
from promptplus.errors import LayerError, PromptError
from promptplus.prompt_masks import mask_grid, read_masks
from promptplus.prompt_parts import DATA_URI
from promptplus.prompt_stages import LayerText, stages_of
from promptplus.prompts import parse_prompt

LAYERS = LayerMap.from_names([("down.0.0", 16), ("down.1.0", 8), ("mid.0", 8), ("up.0.0", 8), ("up.1.0", 16)])


def test_all_options_are_read() -> None:
    prompt = PPlusPrompt.parse("a cat || fine*0.7@0.6-1.0#0,0,0.5,1: oil painting || coarse * -1.5: b: c")
    assert prompt.parts == (
        Part("fine", "oil painting", strength=0.7, window=(0.6, 1), mask=(0, 0, 0.5, 1)),
        Part("coarse", "b: c", strength=-1.5),
    )


@pytest.mark.parametrize("text", ["a || fine#left.png@.5-1*.7: b", 'a || fine @ .5-1 # "left.png" *.7: b'])
def test_options_stand_in_any_order_and_with_white_space(text: str) -> None:
    assert PPlusPrompt.parse(text).parts == (Part("fine", "b", 0.7, (0.5, 1), "left.png"),)


@pytest.mark.parametrize(
    ("head", "mask"),
    [
        ("fine#left.png", "left.png"),
        ('fine#"a b:c.png"', "a b:c.png"),
        ('fine#"C:\\masks\\left.png"', "C:\\masks\\left.png"),
        ('fine#"say ""hi"".png"', 'say "hi".png'),
        ('fine#"0,0,1,1"', "0,0,1,1"),
        ("fine#0,0,1,1", (0.0, 0.0, 1.0, 1.0)),
    ],
)
def test_names_of_mask_files_may_be_in_quotes(head: str, mask: object) -> None:
    (part,) = PPlusPrompt.parse(f"a || {head}: b").parts
    assert part.mask == mask
    assert part.head == head


def test_a_dict_and_the_command_line_take_the_same_options() -> None:
    (part,) = PPlusPrompt.of({"default": "a", "fine*0.7@0.5-1": "b"}).parts
    assert part == Part("fine", "b", 0.7, (0.5, 1))
    assert parse_prompt("a", ['fine*0.7@0.5-1#"x=y.png"=b=c']).parts == (Part("fine", "b=c", 0.7, (0.5, 1), "x=y.png"),)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("fine*much: b", "a strength is a number, as .0.7, not 'much'"),
        ("fine*inf: b", "a strength is a number"),
        ("fine@0.6: b", "a window is written @from-to"),
        ("fine@0.8-0.2: b", "begins before it ends; not from 0.8 to 0.2"),
        ("fine@0.5-0.5: b", "begins before it ends"),
        ("fine@0.5-1.5: b", "from 0 .* to 1"),
        ("fine#0.5,0,0.2,1: b", "a box is left,top,right,bottom"),
        ("fine#0,0,2,1: b", "a box is left,top,right,bottom"),
        ("fine*1*2: b", "gives its strength twice"),
        ("fine*: b", "is not '<layers>: text'"),
        ('fine#"left.png: b', "is not '<layers>: text'"),
    ],
)
def test_a_bad_part_is_one_sentence(part: str, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        PPlusPrompt.parse(f"a || {part}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": "strong"}, "a strength is a number from -100 to 100"),
        ({"strength": float("nan")}, "a strength is a number from -100 to 100"),
        ({"strength": 10**400}, "a strength is a number from -100 to 100"),
        ({"strength": 101}, "a strength is a number from -100 to 100"),
        ({"window": b"\0\1"}, "a window is two shares"),
        ({"mask": Image.new("RGBA", (8, 8))}, "a mask has one channel"),
        ({"strength": True}, "a strength is a number from -100 to 100"),
        ({"window": 0.5}, "a window is two shares"),
        ({"window": (0.5, float("inf"))}, "a window is two shares"),
        ({"window": (1, 0)}, "begins before it ends"),
        ({"mask": 3}, "a mask is a picture file"),
        ({"mask": ""}, "a mask is a picture file"),
        ({"mask": (0, 0, 1)}, "a mask is a picture file"),
    ],
)
def test_bad_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Part("fine", "b", **options)


def test_parts_of_a_prompt_are_parts_or_pairs() -> None:
    assert PPlusPrompt("a", (("fine", "b"),)) == PPlusPrompt("a", (Part("fine", "b"),))
    with pytest.raises(PromptError, match="a Part, or a pair"):
        PPlusPrompt("a", ("fine",))  # pyright: ignore[reportArgumentType]
    for parts in (Part("fine", "b"), None, "fine"):
        with pytest.raises(PromptError, match="the parts of a prompt are a tuple"):
            PPlusPrompt("a", parts)  # pyright: ignore[reportArgumentType]


# ---- every prompt there can be is read back from its printed form

TEXTS = st.text(st.sampled_from([*'a|\\ \n\t:<,*@#"=']), max_size=8) | st.text(max_size=8)
SHARES = st.floats(0, 1)
WINDOWS = st.tuples(SHARES, SHARES).filter(lambda w: w[0] < w[1])
BOXES = st.tuples(WINDOWS, WINDOWS).map(lambda w: (w[0][0], w[1][0], w[0][1], w[1][1]))
FILES = TEXTS.filter(lambda text: bool(text.strip()) and "\0" not in text)
PARTS = st.builds(
    Part,
    layers=st.sampled_from(["coarse", "4-9,12", "down.0.1", "IN08"]),
    text=TEXTS,
    strength=st.just(1.0) | st.floats(-100, 100),
    window=st.just((0.0, 1.0)) | WINDOWS,
    mask=st.none() | BOXES | FILES,
)


@settings(max_examples=500, deadline=None)
@given(TEXTS, st.lists(PARTS, max_size=3))
@example("a ||| b", [Part("coarse", "||", mask='a|| "b\\')])
@example("", [Part("coarse", "", mask="0,0,1,1")])
@example("a", [Part("coarse", "b", strength=1e-7, window=(5e-324, 1e-7))])
@example("a", [Part("coarse", "b", strength=-100, mask=(0, 0, 1, 1))])
def test_every_prompt_is_read_back_from_its_printed_form(default: str, parts: list[Part]) -> None:
    prompt = PPlusPrompt(default, tuple(parts))
    assert PPlusPrompt.parse(str(prompt)) == prompt


def test_a_picture_as_mask_is_kept_in_the_text() -> None:
    picture = Image.new("L", (8, 4))
    picture.paste(255, (0, 0, 4, 4))
    part = Part("fine", "b", mask=picture)  # pyright: ignore[reportArgumentType]
    assert isinstance(part.mask, str)
    assert part.mask.startswith(DATA_URI)
    again = PPlusPrompt.parse(str(PPlusPrompt("a", (part,)))).parts[0]
    assert again == part
    assert torch.equal(mask_grid(part.mask), mask_grid((0, 0, 0.5, 1)))


# ---- masks


def test_a_box_covers_its_share_of_each_cell() -> None:
    grid = mask_grid((0.25, 0.5, 0.625, 1), side=4)
    assert grid.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0.5, 0], [0, 1, 0.5, 0]]


def test_a_file_is_read_by_its_content_and_stretched_to_a_square(tmp_path: Path) -> None:
    pixels = np.zeros((300, 200), np.uint8)
    pixels[:, 100:] = 255
    Image.fromarray(pixels).save(tmp_path / "right.dat", "PNG")
    assert torch.equal(mask_grid(str(tmp_path / "right.dat"), side=4), mask_grid((0.5, 0, 1, 1), side=4))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_is_black_in_a_file_and_in_a_picture(tmp_path: Path, mode: str) -> None:
    picture = Image.new(mode, (64, 64))
    picture.paste(Image.new(mode, (32, 64), "white"), (32, 0))
    picture.save(tmp_path / "strokes.png")
    for mask in (str(tmp_path / "strokes.png"), Part("fine", "b", mask=picture).mask):
        assert torch.equal(mask_grid(mask), mask_grid((0.5, 0, 1, 1)))


def test_sixteen_bits_are_read_as_brightness_in_a_file_and_in_a_picture(tmp_path: Path) -> None:
    pixels = np.full((64, 64), 65535, np.uint16)
    pixels[:, 32:] = 65535 // 5
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "deep.png")
    for mask in (str(tmp_path / "deep.png"), Part("fine", "b", mask=picture).mask):
        grid = mask_grid(mask)
        assert (grid[:, :64] == 1).all()
        assert torch.allclose(grid[:, 64:], torch.tensor(0.2), atol=0.01)


def test_a_picture_of_any_size_is_a_short_text() -> None:
    noise = Image.effect_noise((1200, 900), 80)
    assert len(str(PPlusPrompt("a", (Part("fine", "b", mask=noise),)))) < 30_000


def test_the_home_folder_may_be_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("L", (16, 16), 255).save(tmp_path / "all.png")
    assert (mask_grid("~/all.png") == 1).all()


def bomb() -> str:
    """A PNG that says it has 20000 × 20000 pixels."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (20000).to_bytes(4, "big") * 2
    return DATA_URI + base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (bomb(), "is 20000×20000; at most 4096"),
        ("no/such.png", "the mask of a part cannot be read: .*no/such.png"),
        (DATA_URI + "AAAA", "is no PNG"),
        (DATA_URI + "%", "is no PNG"),
    ],
)
def test_a_mask_that_cannot_be_read_is_one_sentence(mask: str, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        read_masks(PPlusPrompt("a", (Part("fine", "b", mask=mask),)))
    assert "\n" not in str(caught.value)


def test_a_mask_of_ones_is_no_mask_and_one_of_zeros_no_part() -> None:
    black = Image.new("L", (16, 16))
    parts = (Part("fine", "b", mask=(0, 0, 1, 1)), Part("fine", "c", mask=black))  # pyright: ignore[reportArgumentType]
    assert read_masks(PPlusPrompt("a", parts))[0] == PPlusPrompt("a", (Part("fine", "b"),))


# ---- stages


def test_stages_say_what_holds_when() -> None:
    prompt = PPlusPrompt.parse("a || mid@0.25-0.75: b || up@0.5-1: c")
    stages = stages_of(prompt, LAYERS)
    assert [stage.start for stage in stages] == [0, 0.25, 0.5, 0.75]
    assert [[text.text for text in stage.texts] for stage in stages] == [
        ["a"] * 5,
        ["a", "a", "b", "a", "a"],
        ["a", "a", "b", "c", "c"],
        ["a", "a", "a", "c", "c"],
    ]


def test_stages_that_say_the_same_are_one() -> None:
    assert len(stages_of(PPlusPrompt.parse("a || mid@0-0.3: b || mid@0.3-1: b"), LAYERS)) == 1
    assert len(stages_of(PPlusPrompt.parse("a || mid@0.3-0.6: b || mid: c"), LAYERS)) == 1


def test_a_later_part_covers_earlier_ones_and_a_masked_one_lies_on_top() -> None:
    (stage,) = stages_of(PPlusPrompt.parse("a || all#0,0,.5,1: b".replace("all", "0-4") + " || mid*0.5: c"), LAYERS)
    assert stage.texts == (*[LayerText("a")] * 2, LayerText("c", 0.5), *[LayerText("a")] * 2)
    (region,) = stage.regions
    assert region.texts == (*[LayerText("b")] * 2, None, *[LayerText("b")] * 2)


def test_strength_zero_is_the_default_text() -> None:
    (stage,) = stages_of(PPlusPrompt.parse("a || mid*0: b"), LAYERS)
    assert stage.texts == (LayerText("a"),) * 5


def test_unknown_layers_are_found() -> None:
    with pytest.raises(LayerError, match="no layer 'nose'"):
        stages_of(PPlusPrompt.parse("a || nose*0.5: b"), LAYERS)
