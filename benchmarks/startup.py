"""How long imports and ``--help`` take: ``python -m benchmarks.startup [--rounds 5]``.

Prints the least and the median of wall time and of the process's own CPU time, in seconds. The goal for ``--help`` is
.3 s on an idle core; CPU time says more where other work runs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

CASES = {
    "python": ["-c", "pass"],
    "import promptplus": ["-c", "import promptplus"],
    "import promptplus.cli": ["-c", "import promptplus.cli"],
    "promptplus --help": ["-m", "promptplus", "--help"],
    "promptplus invert --help": ["-m", "promptplus", "invert", "--help"],
    "promptplus.invert": ["-c", "import promptplus; promptplus.invert"],
}


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Wall time and CPU time of one Python process."""
    began, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run")
    rounds = parser.parse_args().rounds
    print("| what | wall, least | wall, median | CPU, least | CPU, median |\n|---|---|---|---|---|")
    for name, arguments in CASES.items():
        walls, cpus = zip(*(seconds(arguments) for _ in range(rounds)), strict=True)
        numbers = (min(walls), statistics.median(walls), min(cpus), statistics.median(cpus))
        print(f"| {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |")


if __name__ == "__main__":
    main()
