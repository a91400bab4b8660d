"""Captions beside pictures, and their way into templates."""

import json
from pathlib import Path

import pytest
from PIL import Image

from promptplus.caption_files import caption_templates, read_captions
from promptplus.datasets import read_dataset
from promptplus.errors import PictureError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures without captions."""
    for name in ("p0.png", "p1.jpg", "p2.png"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / name)
    return tmp_path


def write(folder: Path, **texts: str | bytes) -> None:
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_bytes(text if isinstance(text, bytes) else text.encode())


def test_captions_are_read_beside_their_pictures(folder: Path) -> None:
    lines = [{"file_name": "p1.jpg", "text": "of p1"}, {"file_name": "p2.png", "text": "a café,\nof p2", "more": 1}]
    (folder / "metadata.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines) + "\n", "utf-8")
    write(folder, p0_txt="\ufeff  a red toy\r\non a table \n", p2_caption="")
    (folder / "p2.caption").unlink()
    dataset = read_dataset(folder, captions=True)
    assert dataset.captions == ("a red toy on a table", "of p1", "a café, of p2")
    write(folder, p1_CAPTION="beside first")
    assert read_dataset(folder, captions=True).captions == (
        "a red toy on a table",
        "beside first",
        "a café, of p2",
    )
    files = [folder / "p1.jpg", folder / "p0.png"]
    assert read_dataset(files, captions=True).captions == ("beside first", "a red toy on a table")
    assert read_dataset(folder / "*.jpg", captions=True).captions == ("beside first",)


def test_without_captions_nothing_is_read_of_them(folder: Path) -> None:
    write(folder, p0_txt=b"\xff\xfe")
    with pytest.warns(UserWarning, match=r"left out 1 file beside the pictures: p0\.txt"):
        assert read_dataset(folder).captions is None


def test_a_picture_that_cannot_be_read_needs_no_caption(folder: Path) -> None:
    write(folder, p0_txt="a", p1_txt="b", p2_png="no picture")
    with pytest.warns(UserWarning, match="left out 1 of 3 files"):
        assert read_dataset(folder, captions=True).captions == ("a", "b")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"p0_txt": "a", "p1_txt": "b"}, r"p2\.png has no caption; write p2\.txt or a line of metadata\.jsonl"),
        ({"p0_txt": " \n"}, r"p0\.txt is empty; write"),
        ({"p0_txt": b"\xff\xfe\x00"}, r"p0\.txt is not UTF-16 text .*save it as UTF-8"),
        ({"metadata_jsonl": "{"}, r"metadata\.jsonl, line 1 is not"),
        ({"metadata_jsonl": '\n["p0.png"]'}, r"metadata\.jsonl, line 2 is not"),
        ({"metadata_jsonl": '{"file_name": "p0.png", "text": 5}'}, r"text: Input should be a valid string"),
        ({"metadata_jsonl": "[" * 100_000}, r"line 1 is not"),
    ],
)
def test_missing_and_damaged_captions_are_refused_by_name(
    folder: Path, texts: dict[str, str | bytes], message: str
) -> None:
    write(folder, **texts)
    with pytest.raises(PictureError, match=message):
        read_dataset(folder, captions=True)


def test_pictures_from_memory_have_no_captions(folder: Path) -> None:
    with pytest.raises(PictureError, match="captions are read beside picture files"):
        read_dataset([Image.new("RGB", (16, 16))], captions=True)
    with pytest.raises(PictureError, match="the dataset has none"):
        read_dataset(read_dataset(folder), captions=True)
    with pytest.raises(PictureError, match="has no caption"):
        read_captions([folder / "p0.png"])


@pytest.mark.parametrize(
    ("caption", "template"),
    [
        ("a photo of a {} on a {}", "a photo of a {} on a {}"),
        ("a <toy> beside a cat", "a {} beside a cat"),
        ("a photo of a cat", "a photo of a {}"),
        ("Cat, sitting; a second cat", "{}, sitting; a second cat"),
        ("a concatenated cat's bed", "a concatenated {}'s bed"),
        ("{red} a cat {blue}", "{red} a {} {blue}"),
        ("a cat and {}", "a cat and {}"),
    ],
)
def test_the_concept_takes_the_place_of_braces_token_or_class_word(caption: str, template: str) -> None:
    assert caption_templates([caption], "<toy>", "cat") == (template,)


@pytest.mark.parametrize("caption", ["a photo", "cats", "concat", "{red}", "a toy"])
def test_a_caption_without_the_concept_is_refused_by_name(caption: str) -> None:
    with pytest.raises(PictureError, match=r"does not say where the concept is; write \{\}, <toy> or cat into it"):
        caption_templates([caption], "<toy>", "cat")


def test_class_words_of_several_words_and_with_signs() -> None:
    assert caption_templates(["my Teddy Bear sits"], "<toy>", "teddy bear") == ("my {} sits",)
    assert caption_templates(["a c++ book"], "<toy>", "c++") == ("a {} book",)
