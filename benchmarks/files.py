"""How long it takes to read a concept's file, and how much memory the worst ones take: ``python -m benchmarks.files``.

The files are of Stable Diffusion's width with two vectors, and as large or as hard to read as the limits let them be.
Each is read by a process of its own, whose peak memory beyond that of reading a small file is shown.
"""

import argparse
import io
import json
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from promptplus.concept import Concept
from promptplus.errors import ConceptError
from promptplus.formats.contents import MAX_BYTES, MAX_HEADER
from promptplus.formats.layouts import OF_SDXL, SIXTEEN
from promptplus.formats.pickles import MOST_ENTRIES, MOST_STEPS

WIDTH, VECTORS = 768, 2
ROUNDS = 20


def torch_bytes(value: object, *, old: bool = False) -> bytes:
    """What ``torch.save`` writes; ``old``: as before torch 1.6."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def archive(program: bytes, members: int = 0) -> bytes:
    """A torch archive with any pickle, and empty members beside it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive/data.pkl", program)
        for number in range(members):
            made.writestr(f"archive/data/{number}", b"")
    return file.getvalue()


def large_header() -> bytes:
    """A safetensors header of as many bytes as are read, of empty tensors."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    count = MAX_HEADER // (len(json.dumps(entry)) + 14)
    text = json.dumps({f"t{number:07}": entry for number in range(count)}).encode()
    return struct.pack("<Q", len(text)) + text


def usual(folder: Path) -> dict[str, bytes]:
    """A file of each kind."""
    rows = torch.randn(16, VECTORS, WIDTH)
    layers = {str(layer.kohya): rows[i].clone() for i, layer in enumerate(SIXTEEN)}
    ours = Concept("<x>", rows, SIXTEEN).save(folder / "ours").read_bytes()
    both = (("clip_l", 768), ("clip_g", 1280))
    large = Concept("<x>", torch.randn(70, VECTORS, 2048), OF_SDXL, encoders=both).save(folder / "xl").read_bytes()
    return {
        "ours, 16 layers": ours,
        "ours, SDXL's 70 layers": large,
        "kohya XTI, safetensors": save(layers),
        "kohya XTI, torch": torch_bytes(layers),
        "mkshing, torch": torch_bytes({f"<x>-{i}": rows[i, 0].clone() for i in range(16)}),
        "cloneofsimo, safetensors": save(
            {f"<x-{i}-{j}>": rows[i, j].clone() for i in range(16) for j in range(VECTORS)}
        ),
        "textual inversion, safetensors": save({"<x>": rows[0].clone()}),
        "textual inversion, torch": torch_bytes({"<x>": rows[0].clone()}),
        "textual inversion, torch before 1.6": torch_bytes({"<x>": rows[0].clone()}, old=True),
    }


def worst() -> dict[str, bytes]:
    """Files as large or as hard to read as the limits let them be."""
    views = {f"<{number}>": torch.ones(1).expand(75, 16_384) for number in range(27)}
    return {
        "64 MiB of zeros": bytes(MAX_BYTES),
        "one tensor of 64 MiB": save({"<x>": torch.zeros(MAX_BYTES // 4 - 1000)}),
        "a header of 8 MiB": large_header(),
        "a torch file of 64 MiB": torch_bytes({"<x>": torch.zeros(MAX_BYTES // 4 - 1000)}),
        "an old torch file of 64 MiB": torch_bytes({"<x>": torch.zeros(MAX_BYTES // 4 - 1000)}, old=True),
        "27 views of one number": torch_bytes(views),
        "2000 members": archive(b"\x80\x02}.", MOST_ENTRIES - 1),
        "20,000 steps": archive(b"\x80\x02" + b"]" * (MOST_STEPS - 2) + b"."),
        "16,000 tuples, nested": archive(b"\x80\x02})" + b"\x85" * 16_000 + b"K\x01s."),
    }


def read(path: Path) -> str:
    """Read a file; returns what came of it."""
    try:
        Concept.load(path, "<x>")
    except ConceptError as error:
        return str(error).removeprefix(str(path))[:60]
    return "read"


def in_a_process(path: Path) -> tuple[float, float, str]:
    """Milliseconds, peak MiB beyond a small file's, and what came of a file that a new process reads once."""
    run = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--read", path], capture_output=True, text=True, check=True
    )
    milliseconds, mebibytes, said = run.stdout.split("\t")
    return float(milliseconds), float(mebibytes), said.strip()


def report(path: Path) -> None:
    """Print what ``in_a_process`` returns."""
    small = path.with_name("small")
    small.write_bytes(torch_bytes({"<x>": torch.ones(1)}))
    read(small)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, began = memory("VmRSS"), time.perf_counter()
    said = read(path)
    seconds, after = time.perf_counter() - began, memory("VmHWM")
    print(f"{1000 * seconds:.1f}\t{(after - before) / 1024:.0f}\t{said}")


def memory(name: str) -> int:
    """KiB that Linux counts for this process: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read", type=Path, help="read one file and print what it took")
    if path := parser.parse_args().read:
        report(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "file"
        print("| file | KiB | ms, least of 20 |\n|---|---|---|")
        for name, data in usual(Path(folder)).items():
            place.write_bytes(data)
            print(f"| {name} | {len(data) / 1024:.0f} | {1000 * min(timed(read, place) for _ in range(ROUNDS)):.1f} |")
        print("\n| file | ms | MiB | what came of it |\n|---|---|---|---|")
        for name, data in worst().items():
            place.write_bytes(data)
            milliseconds, mebibytes, said = in_a_process(place)
            print(f"| {name} | {milliseconds:.0f} | {mebibytes:.0f} | {said} |")


def timed(function: Callable[[Path], str], path: Path) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    function(path)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
