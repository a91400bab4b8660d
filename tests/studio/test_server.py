"""The studio in a process of its own: what it serves, and to whom."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from promptplus.cli import app

pytestmark = pytest.mark.slow


@contextmanager
def running(folder: Path, *options: str) -> Iterator[str]:
    """A studio in a folder; yields its address."""
    call = [sys.executable, "-m", "promptplus", "studio", "--no-open", "--device", "cpu", *options]
    process = subprocess.Popen(
        call, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/?", said)
        assert found, said + process.stderr.read()
        yield found[0].rstrip("/")
    finally:
        for _ in range(2):  # as make and timeout do
            process.send_signal(signal.SIGTERM)
        _, faults = process.communicate(timeout=120)
    assert process.returncode == 0, faults
    assert "Traceback" not in faults, faults


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("studio")
    (folder / "secret.txt").write_text("secret")
    with running(folder) as url:
        yield folder, url


def test_only_this_machine_is_listened_to(place: tuple[Path, str]) -> None:
    port = int(place[1].rpartition(":")[2])
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    addresses = re.findall(rf"\d+: ([0-9A-F]+):{port:04X} [0-9A-F]+:0000 0A", listening)
    assert addresses == ["0100007F"]  # 127.0.0.1


@pytest.mark.parametrize("name", ["/etc/passwd", "{}/secret.txt", "{}/runs/../secret.txt", "{}/runs/studio/outputs"])
def test_nothing_outside_is_served(place: tuple[Path, str], name: str) -> None:
    folder, url = place
    for route in ("/gradio_api/file=", "/file="):
        answer = httpx.get(url + route + name.format(folder))
        assert answer.status_code in (403, 404), answer.text
        assert "secret" not in answer.text.replace("secret.txt", "")


def test_a_picture_is_served_as_it_lies_on_the_disk(place: tuple[Path, str]) -> None:
    folder, url = place
    path = folder / "runs" / "studio" / "pictures" / "x.png"
    path.write_bytes(b"\x89PNG with its text chunks")
    assert httpx.get(f"{url}/gradio_api/file={path}").content == path.read_bytes()


def test_the_page_needs_no_other_host(place: tuple[Path, str]) -> None:
    page = httpx.get(place[1]).text
    hosts = set(re.findall(r'(?:src|href)="https?://([^/"]+)', page))
    assert hosts <= {"127.0.0.1"}, hosts


def test_huge_uploads_are_refused(place: tuple[Path, str]) -> None:
    answer = httpx.post(f"{place[1]}/gradio_api/upload", files={"files": ("big.jpg", bytes(90 * 2**20))}, timeout=60)
    assert answer.status_code == 413


def test_a_port_in_use_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        call = [sys.executable, "-m", "promptplus", "studio", "--no-open", "--port", str(port)]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f"{port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_there_is_no_share() -> None:
    assert CliRunner().invoke(app, ["studio", "--share"]).exit_code == 2


def test_a_missing_extra_is_a_sentence(tmp_path: Path) -> None:
    code = "import sys; sys.modules['gradio'] = None; sys.argv[1:] = ['studio', '--no-open']\n"
    code += "import promptplus.cli; promptplus.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install 'promptplus[ui]'" in done.stderr
