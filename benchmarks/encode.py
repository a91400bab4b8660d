"""What encoding a prompt costs, alone and in eight threads, against another checkout of this repository.

``python -m benchmarks.encode [--against CHECKOUT] [--rounds 15]``. Each source runs in a process of its own; the
processes take turns round by round, so that both see the same machine. Prints medians in milliseconds per call, and
the ratio with the range of the pairs. Prompts: plain, with a concept, and with two texts.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CALLS = 40  # in a round, for each number of threads
SERVER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import torch
import promptplus as pp
pplus = pp.PPlus(pp.load("pocket", device="cpu"))
rows = torch.randn(16, 1, pplus.width, generator=torch.Generator().manual_seed(0))
pplus.add(pp.Concept("<x>", rows, pplus.layers))
PROMPTS = ["a red house", "a photo of a <x>", "a red house || coarse: a <x>"]
def call(number):
    pplus.encode(PROMPTS[number % 3], "blurry")
pools = {{}}
def measure(threads):
    if threads not in pools:
        pools[threads] = ThreadPoolExecutor(threads)
        list(pools[threads].map(call, range({calls})))  # torch makes a team of its own for each new thread
    began = time.perf_counter()
    if threads == 1:
        for number in range({calls}):
            call(number)
    else:
        list(pools[threads].map(call, range({calls})))
    return 1000 * (time.perf_counter() - began) / {calls}
for line in sys.stdin:
    try:
        print(measure(int(line)), flush=True)
    except Exception as error:
        print("nan", flush=True)
"""


class Source:
    """A process that measures one checkout's code when it is asked to."""

    def __init__(self, checkout: Path) -> None:
        code = f"import sys; sys.path.insert(0, {str(checkout / 'src')!r})\n" + SERVER.format(calls=CALLS)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def milliseconds(self, threads: int) -> float:
        """Per call, of one round; not a number where a call failed."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{threads}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is measured")
    options = parser.parse_args()
    sources = [Source(path) for path in (ROOT, options.against) if path]
    for source in sources:
        source.milliseconds(1)  # warm up
    print("| threads | ms per call | against | ratio | pairs |\n|---|---|---|---|---|")
    for threads in (1, 8):
        rounds = [[source.milliseconds(threads) for source in sources] for _ in range(options.rounds)]
        medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
        cells = [f"{medians[0]:.2f}", "", "", ""]
        if options.against:
            ratios = sorted(ours / theirs for ours, theirs in rounds)
            cells[1:] = [f"{medians[1]:.2f}", f"{medians[0] / medians[1]:.3f}", f"{ratios[0]:.3f} to {ratios[-1]:.3f}"]
        print(f"| {threads} | {' | '.join(cells)} |", flush=True)
    for source in sources:
        source.process.kill()


if __name__ == "__main__":
    main()
