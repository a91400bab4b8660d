"""Pictures that a browser sent."""

from pathlib import Path

import pytest
from PIL import Image

from promptplus.errors import PictureError
from promptplus.pictures import read_picture
from promptplus.studio import uploads
from promptplus.studio.components import add_pictures, thumbnail
from promptplus.studio.uploads import check_uploads, keep_uploads


def photo(path: Path, size: tuple[int, int] = (60, 40), turned: bool = False) -> Path:
    """A photo, red at the left; ``turned``: its EXIF says that the camera was held upright."""
    picture = Image.new("RGB", size, "blue")
    picture.paste("red", (0, 0, size[0] // 2, size[1]))
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6  # the top is at the right
    picture.save(path, exif=exif, quality=95)
    return path


def test_faults_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(photo(tmp_path / f"p{number:02d}.jpg")) for number in range(11)]
    with pytest.raises(PictureError, match="there are no pictures; drop 1 to 10 here"):
        check_uploads(None)
    with pytest.raises(PictureError, match=r"11 pictures are too many, from p10\.jpg on; drop at most 10"):
        check_uploads(paths)
    assert check_uploads(paths[:10]) == [Path(path) for path in paths[:10]]
    monkeypatch.setattr(uploads, "LARGEST", 100)
    with pytest.raises(PictureError, match=r"p00\.jpg has 0 MB; drop a copy of at most 0 MB"):
        check_uploads(paths[:1])
    with pytest.raises(PictureError, match=r"gone\.jpg is gone from this machine; drop it again"):
        check_uploads([str(tmp_path / "gone.jpg")])


def test_copies_keep_their_rotation_and_never_overwrite(tmp_path: Path) -> None:
    upright = photo(tmp_path / "upright.jpg", turned=True)
    first, second = (keep_uploads([upright, upright], tmp_path / "kept") for _ in range(2))
    assert (first.name, second.name) == ("kept", "kept-2")
    assert sorted(path.name for path in first.iterdir()) == ["00-upright.jpg", "01-upright.jpg"]
    assert (first / "00-upright.jpg").read_bytes() == upright.read_bytes()
    assert read_picture(first / "00-upright.jpg").size == (40, 60)


def test_thumbnails_show_what_will_be_read(tmp_path: Path) -> None:
    html = thumbnail(photo(tmp_path / 'a "b".jpg', turned=True))
    assert 'alt="a &quot;b&quot;.jpg"' in html
    assert "data:image/png;base64," in html


def test_a_file_that_is_no_picture_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    _, fault, *_, files = add_pictures([str(tmp_path / "notes.txt")], [])
    assert "notes.txt" in fault
    assert 'role="alert"' in fault
    assert files["__type__"] == "update"  # what was there stays
    *_, files = add_pictures([str(photo(tmp_path / "p.jpg"))], [str(photo(tmp_path / "q.jpg"))])
    assert [Path(path).name for path in files] == ["q.jpg", "p.jpg"]
