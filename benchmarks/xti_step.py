"""What one XTI step costs: ours beside its floor and beside the published recipe, interleaved, as ratios of medians.

``python -m benchmarks.xti_step [--cases pocket sd sd-accumulated] [--rounds 5] [--device cpu] [--dtype float32]``

- *floor*: the bare U-Net forward and backward to its sixteen contexts, and one bare text-encoder pass, forward and
  backward to its token embeddings, over as many unique rows as ours. No loss, optimiser, hooks, drawing or tokenising.
- *ours*: ``TrainingStep.advance``, one template per step (``batch``) and one per picture (``picture``).
- *published*: the recipe of the public implementations: the VAE encodes in every step, the text encoder is called once
  per layer on a row per picture, AdamW runs over the whole vocabulary and the frozen rows are put back. It has a copy
  of the text encoder to itself. That it learns is checked: its loss on fixed batch must fall.

Equal precision, pictures, batch and steps; the order changes from round to round. Peak memory is that of a process of
its own for each contestant (``--peak``).
"""

import argparse
import copy
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

import promptplus as pp
from benchmarks.architectures import stable_diffusion
from promptplus.concept import Concept
from promptplus.datasets import load_pictures
from promptplus.denoiser_calls import DenoiserCall
from promptplus.pictures import to_pixels
from promptplus.pocket import CONCEPTS
from promptplus.templates import captions
from promptplus.text_states import TextStates
from promptplus.training.batches import Batch, BatchRule, LatentCache
from promptplus.training.compilation import Speed
from promptplus.training.first_rows import initial_rows
from promptplus.training.loss import denoising_loss
from promptplus.training.noise_schedule import training_scheduler
from promptplus.training.settings import InversionSettings, Templates
from promptplus.training.token_rows import rows_step
from promptplus.training.trainable import frozen

WORD, TOKEN = "house", "<x>"
L = TypeVar("L")
LEARNING_RATE = 0.005
TEMPLATES: tuple[Templates, ...] = ("batch", "picture")
CONTESTANTS = ("floor, batch", "ours, batch", "floor, picture", "ours, picture", "published")
CHECKED = 40  # steps after which the published recipe must have learned something


@dataclass(frozen=True)
class Case:
    """The side of the pictures in pixels, the batch, and how many pictures go through the denoiser at once."""

    pixels: int
    batch: int
    micro: int


CASES = {"pocket": Case(64, 8, 8), "sd": Case(256, 1, 1), "sd-accumulated": Case(256, 8, 1)}


def pipeline_of(name: str) -> Any:
    """A case's pipeline, float32, on the CPU."""
    return pp.load("pocket", device="cpu") if name == "pocket" else stable_diffusion()


class Bench:
    """One case's pictures and pipeline, and its contestants."""

    def __init__(self, case: Case, pipe: Any, device: str, dtype: torch.dtype) -> None:
        self.case, self.pipe = case, pipe.to(device, dtype)
        self.pixels = to_pixels(load_pictures(sorted((CONCEPTS / "robot").glob("*.png"))), self.case.pixels)
        self.pplus = pp.PPlus(self.pipe)
        self.cache = LatentCache.encode(self.pipe.vae, self.pixels)
        start = initial_rows(self.pplus, WORD, InversionSettings()).expand(len(self.pplus.layers), -1, -1)
        self.concept = Concept(TOKEN, start, self.pplus.layers, initializer=WORD)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """While inside, the hooks are installed and the weights frozen."""
        with self.pplus, frozen(self.pipe.unet, self.pipe.vae, self.pipe.text_encoder):
            yield

    def contestant(self, label: str) -> Callable[[], Any]:
        kind, _, templates = label.partition(", ")
        if kind == "published":
            return Published(self).step
        make = self.floor if kind == "floor" else self.ours
        return make("batch" if templates == "batch" else "picture")

    def batch(self, step: int, templates: Templates = "picture") -> Batch:
        rule = BatchRule(self.case.batch, timesteps=1000, templates=27, one_template=templates == "batch")
        return Batch.of(f"0/{TOKEN}", step, self.cache, rule).to(self.pipe.unet.device)

    def ours(self, templates: Templates, speed: Speed = "plain") -> Callable[[], Any]:
        settings = InversionSettings(
            batch_size=self.case.batch, micro_batch=self.case.micro, templates=templates, speed=speed
        )
        return rows_step(self.pplus, [(self.concept, self.cache)], settings).advance

    def floor(self, templates: Templates) -> Callable[[], None]:
        """The work no method can spare, on random inputs, without the hooks."""
        pipe, case, layers = self.pipe, self.case, len(self.pplus.layers)
        encoder, unet = pipe.text_encoder, pipe.unet
        device, dtype = unet.device, unet.dtype
        attention = [unet.get_submodule(path) for path in self.pplus.layers.module_paths()]
        noisy = torch.randn(case.micro, *self.cache.mean.shape[2:], device=device, dtype=dtype)
        timestep = torch.full((case.micro,), 500, device=device)
        length, width = pipe.tokenizer.model_max_length, encoder.config.hidden_size
        counter = iter(range(10**9))

        def own_context(index: int, leaf: Tensor) -> Any:
            return lambda _module, args, kwargs: (args, {**kwargs, "encoder_hidden_states": leaf[:, index]})

        def step() -> None:
            unique = len(set(self.batch(next(counter), templates).template))
            ids = torch.randint(5, 300, (unique * layers, length), device=device)
            embedded = torch.randn(unique * layers, length, width, device=device, dtype=dtype, requires_grad=True)
            handle = encoder.get_input_embeddings().register_forward_hook(lambda *_: embedded)
            states = encoder(ids)[0]
            handle.remove()
            for _start in range(0, case.batch, case.micro):
                leaf = torch.randn(case.micro, layers, length, width, device=device, dtype=dtype, requires_grad=True)
                hooks = [
                    layer.register_forward_pre_hook(own_context(i, leaf), with_kwargs=True)
                    for i, layer in enumerate(attention)
                ]
                unet(noisy, timestep, encoder_hidden_states=leaf[:, 0], return_dict=False)[0].sum().backward()
                for hook in hooks:
                    hook.remove()
            states.backward(torch.ones_like(states))

        return step


class Published:
    """The public recipe: sixteen new vocabulary entries, everything encoded in every step."""

    def __init__(self, bench: Bench) -> None:
        self.bench, pipe = bench, bench.pipe
        self.encoder = copy.deepcopy(pipe.text_encoder)
        layers, words = len(bench.pplus.layers), self.encoder.config.vocab_size
        self.encoder.resize_token_embeddings(words + layers, mean_resizing=False)
        self.table = self.encoder.get_input_embeddings().weight
        self.new = range(words, words + layers)
        with torch.no_grad():
            self.table[words:] = bench.concept.rows[:, 0].to(self.table)
        self.original = self.table.detach().clone()
        self.table.requires_grad_(True)
        self.optimiser = torch.optim.AdamW([self.table], lr=LEARNING_RATE, weight_decay=0.0, fused=True)
        self.scheduler = training_scheduler(pipe)
        self.word = pipe.tokenizer(WORD, add_special_tokens=False).input_ids[0]
        self.count = 0

    def states(self, template: tuple[int, ...]) -> TextStates:
        """Text states: one call of the text encoder per layer."""
        texts = captions("object", WORD, template)
        ids = self.bench.pipe.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        ids = ids.to(self.table.device)
        layers = [self.encoder(torch.where(ids == self.word, row, ids))[0] for row in self.new]
        return TextStates(torch.stack(layers, 1))

    def encode(self, batch: Batch) -> Tensor:
        """Latents of the drawn pictures, from the VAE itself."""
        vae = self.bench.pipe.vae
        pixels = self.bench.pixels.to(vae.device, vae.dtype)[batch.picture]
        pixels = torch.where(batch.flip[:, None, None, None].bool(), pixels.flip(-1), pixels)
        with torch.no_grad():
            return vae.encode(pixels).latent_dist.sample().float() * vae.config.scaling_factor

    def loss(self, batch: Batch) -> Tensor:
        denoiser = DenoiserCall.of(self.bench.pipe)
        return denoising_loss(denoiser, self.scheduler, self.encode(batch), batch, self.states(batch.template))

    def step(self) -> Tensor:
        case, batch = self.bench.case, self.bench.batch(self.count)
        self.count += 1
        self.optimiser.zero_grad()
        total = torch.zeros((), device=self.table.device)
        for start in range(0, case.batch, case.micro):
            loss = self.loss(batch.part(slice(start, start + case.micro))) * (case.micro / case.batch)
            loss.backward()
            total += loss.detach()
        self.optimiser.step()
        with torch.no_grad():
            self.table[: self.new.start] = self.original[: self.new.start]
        return total

    @torch.no_grad()
    def fixed_loss(self) -> float:
        """The loss on batch that training does not see."""
        return statistics.mean(float(self.loss(self.bench.batch(10**6 + i))) for i in range(8))


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(bench: Bench, rounds: int) -> dict[str, float]:
    """Median seconds per step of each contestant."""
    return in_turns({label: bench.contestant(label) for label in CONTESTANTS}, rounds)


def in_turns(calls: Mapping[L, Callable[[], Any]], rounds: int) -> dict[L, float]:
    """Median seconds of each call; they take turns, in an order that changes every round."""
    times: dict[L, list[float]] = {label: [] for label in calls}
    order = random.Random(0)
    for call in calls.values():
        timed(call)
    for _ in range(rounds):
        for label in order.sample(list(calls), len(calls)):
            times[label].append(timed(calls[label]))
    return {label: statistics.median(values) for label, values in times.items()}


def check(bench: Bench) -> tuple[float, float]:
    """The published recipe's loss on fixed batch, before and after ``CHECKED`` steps; raises where it did not fall."""
    recipe = Published(bench)
    before = recipe.fixed_loss()
    for _ in range(CHECKED):
        recipe.step()
    after = recipe.fixed_loss()
    if after >= before:
        raise RuntimeError(f"the published recipe does not learn: {before:.4f} → {after:.4f}")
    return before, after


def peak(name: str, label: str, options: argparse.Namespace) -> float:
    """Peak memory of one contestant in a process of its own, GiB."""
    words = ["--cases", name, "--only", label, "--device", options.device, "--dtype", options.dtype]
    call = [sys.executable, "-m", "benchmarks.xti_step", *words]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()[-1])


def only(bench: Bench, label: str) -> float:
    """Take two steps of one contestant; returns the process's peak memory, GiB."""
    call = bench.contestant(label)
    call()
    call()
    if bench.pipe.unet.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(arguments: list[str] | None = None) -> None:
    """Measure the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--peak", action="store_true", help="measure memory too, which starts a process for each")
    parser.add_argument("--only", choices=CONTESTANTS, help="print one contestant's peak memory and stop")
    options = parser.parse_args(arguments)
    for name in options.cases:
        bench = Bench(CASES[name], pipeline_of(name), options.device, getattr(torch, options.dtype))
        with bench.ready():
            if options.only:
                print(f"{only(bench, options.only):.2f}")
                continue
            if name == "pocket":
                before, after = check(bench)
                print(f"the published recipe learns: {before:.4f} → {after:.4f} on fixed batch, {CHECKED} steps")
            medians = measure(bench, options.rounds)
        case = bench.case
        del bench
        print(f"{name}: {case.pixels} px, batch {case.batch}, {case.micro} at once, {options.dtype}")
        for templates in TEMPLATES:
            mine, least = medians[f"ours, {templates}"], medians[f"floor, {templates}"]
            line = f"  {templates:<8} ours {mine:7.3f} s   ours / floor {mine / least:.3f}"
            print(f"{line}   published / ours {medians['published'] / mine:.2f}")
        if options.peak:
            print("  peak GiB  " + "   ".join(f"{label} {peak(name, label, options):.2f}" for label in CONTESTANTS))


if __name__ == "__main__":
    main()
