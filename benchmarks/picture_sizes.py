"""What the pictures in docs weigh, largest first; the whole tree stays under 45 MB.

``python -m benchmarks.picture_sizes [--shrink]``: with ``--shrink`` each RGB picture over 150 kB is written again with
256 colours. A picture of the pocket model then has a fourth of the bytes, and looks the same.
"""

import argparse
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"
LARGE = 150_000  # bytes
COLOURS = 256


def shrink(path: Path) -> None:
    """Write a picture again with fewer colours, where it has more."""
    with Image.open(path) as picture:
        if picture.mode == "P":
            return
        fewer = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    fewer.save(path, "PNG", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shrink", action="store_true", help="write large pictures again with 256 colours")
    options = parser.parse_args()
    paths = sorted(DOCS.rglob("*.png"), key=lambda path: -path.stat().st_size)
    for path in paths:
        before = path.stat().st_size
        if options.shrink and before > LARGE:
            shrink(path)
        after = path.stat().st_size
        print(f"{after:>9}", path.relative_to(DOCS), f"({before} before)" if after != before else "")
    print(f"{sum(path.stat().st_size for path in paths):>9} all")


if __name__ == "__main__":
    main()
