"""What a busy neighbour costs: each job alone, and beside a process that trains on all cores.

``python -m benchmarks.beside [--rounds 5] [--spin 3000 default …]``. GNU OpenMP's threads wait by spinning; how long is
``GOMP_SPINCOUNT``, in turns. The command line, the tests and the Makefile set 3000; ``default`` leaves it unset. Prints
medians of wall time in seconds, and their ratio. Goals: alone no slower than with the default, beside at most 3 times
as slow as alone.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

SPIN, PASSIVE = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
WARM_UP = 2  # calls before the measured ones
LIMIT = 600  # seconds for one job; with the default it may take minutes
SETTING = """
import sys, time, torch
import promptplus as pp
from promptplus.generation import generate
pipe = pp.load("pocket", device="cpu")
pplus = pp.PPlus(pipe)
"""
STEP = """
unet = pipe.unet.train()
states = torch.randn(16, 40, 16 * 128)
noisy = torch.randn(16, unet.config.in_channels, 16, 16)
def work():
    unet(noisy, 500, encoder_hidden_states=states).sample.square().mean().backward()
"""
PICTURE = """
def work():
    generate(pplus, ["a red house"] * 4, range(4))
"""
TIMED = """
rounds = int(sys.argv[1])
for number in range({warm_up} + rounds):
    began = time.perf_counter()
    work()
    if number >= {warm_up}:
        print(time.perf_counter() - began, flush=True)
"""
JOBS = {"a step, batch 16": STEP, "4 pictures": PICTURE}
NEIGHBOUR = SETTING + STEP + "\nprint('ready', flush=True)\nwhile True: work()"


def environment(spin: str) -> dict[str, str]:
    """The environment of a process with a spin count, or with the default."""
    others = {name: value for name, value in os.environ.items() if name not in (SPIN, PASSIVE, "OMP_NUM_THREADS")}
    return others if spin == "default" else {**others, SPIN: spin}


def job(name: str, spin: str, rounds: int) -> float:
    """Median wall time of a job in a process of its own; infinite where it takes longer than ``LIMIT``."""
    code = SETTING + JOBS[name] + TIMED.format(warm_up=WARM_UP)
    call = [sys.executable, "-c", code, str(rounds)]
    try:
        done = subprocess.run(call, env=environment(spin), capture_output=True, text=True, check=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return float("inf")
    return statistics.median(map(float, done.stdout.split()))


def help_text(spin: str, rounds: int) -> float:
    """Median wall time of ``promptplus --help``."""
    seconds: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "promptplus", "--help"], env=environment(spin), check=True, stdout=subprocess.DEVNULL
        )
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


@contextmanager
def busy_neighbour(spin: str) -> Iterator[None]:
    """While inside, another process trains."""
    call = [sys.executable, "-c", NEIGHBOUR]
    with subprocess.Popen(call, env=environment(spin), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run")
    parser.add_argument("--spin", nargs="+", default=["3000", "default"], help="spin counts, or default")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores\n| {SPIN} | job | alone, s | beside, s | ratio |\n|---|---|---|---|---|", flush=True)
    for spin in options.spin:
        measures = {name: partial(job, name, spin, options.rounds) for name in JOBS}
        measures["--help"] = partial(help_text, spin, options.rounds)
        for name, measure in measures.items():
            alone = measure()
            with busy_neighbour(spin):
                beside = measure()
            print(f"| {spin} | {name} | {alone:.2f} | {beside:.2f} | {beside / alone:.1f} |", flush=True)


if __name__ == "__main__":
    main()
