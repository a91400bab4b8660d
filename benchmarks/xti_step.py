"""What one XTI step costs: ours beside its floor and beside the published recipe, interleaved, as ratios of medians.

``python -m benchmarks.xti_step [--cases pocket sd sd-accumulated] [--rounds 5]``

- *floor*: the bare U-Net forward and backward to its contexts, and one text pass, forward and backward to the rows,
  over the same unique rows as ours. No loss, no optimiser, no drawing of noise.
- *ours*: ``RowTrainer.advance``, one template per step (``batch``) and one per picture (``picture``).
- *published*: the recipe of the public implementations: the VAE encodes every step, the text encoder is called once per
  layer on a row per picture, AdamW runs over the whole vocabulary and the frozen rows are put back.

Equal precision, batch, pictures and steps. The published recipe's loss falls on the pocket (``--check``).
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import promptplus as pp
from benchmarks.architectures import stable_diffusion
from promptplus.concept import Concept
from promptplus.conditioning import pack
from promptplus.inversion.images import load_pictures, to_pixels
from promptplus.inversion.objective import Draws, LatentCache
from promptplus.inversion.rows import RowTrainer, frozen, initial_rows, training_scheduler
from promptplus.inversion.run import InversionSettings, Templates
from promptplus.pocket import CONCEPTS
from promptplus.templates import TEMPLATES, captions
from promptplus.text import Placeholder

WORD, TOKEN = "house", "<x>"
LEARNING_RATE = 0.005


@dataclass(frozen=True)
class Case:
    """A model, the side of its pictures in pixels, the batch, and how many pictures go through it at once."""

    pixels: int
    batch: int
    micro: int


CASES = {"pocket": Case(64, 8, 8), "sd": Case(256, 1, 1), "sd-accumulated": Case(256, 8, 1)}


def concept_of(pplus: pp.PPlus) -> Concept:
    start = initial_rows(pplus, WORD, InversionSettings())
    return Concept(TOKEN, start.expand(len(pplus.layers), -1, -1), pplus.layers, initializer=WORD)


def settings_of(case: Case, templates: Templates) -> InversionSettings:
    return InversionSettings(batch_size=case.batch, micro_batch=case.micro, templates=templates)


def ours(pplus: pp.PPlus, cache: LatentCache, case: Case, templates: Templates) -> Callable[[], Any]:
    return RowTrainer(pplus, concept_of(pplus), cache, settings_of(case, templates)).advance


def floor(pplus: pp.PPlus, cache: LatentCache, case: Case, templates: Templates) -> Callable[[], None]:
    """The work no method can spare, on fixed inputs."""
    pipe, layers = pplus.pipe, len(pplus.layers)
    concept = concept_of(pplus)
    rows = torch.nn.Parameter(concept.rows.to(pipe.unet.device))
    shape = cache.mean.shape[2:]
    noisy = torch.randn(case.micro, *shape, device=pipe.unet.device, dtype=pipe.unet.dtype)
    timestep = torch.full((case.micro,), 500, device=noisy.device)
    unique = 1 if templates == "batch" else min(case.batch, len(TEMPLATES["object"]))
    texts = [[text] * layers for text in captions("object", TOKEN, range(unique))]
    index = [i % unique for i in range(case.batch)]

    def step() -> None:
        placeholder = Placeholder(rows, tuple(range(layers)))
        states = pplus.states(texts, {TOKEN: placeholder})
        leaf = states.detach().requires_grad_()
        for start in range(0, case.batch, case.micro):
            context = pack(leaf[index[start : start + case.micro]]).to(pipe.unet.dtype)
            pipe.unet(noisy, timestep, encoder_hidden_states=context, return_dict=False)[0].sum().backward()
        states.backward(leaf.grad)
        rows.grad = None

    return step


def published(pplus: pp.PPlus, cache: LatentCache, case: Case, pixels: Tensor) -> Callable[[], Tensor]:
    """The public recipe: sixteen new vocabulary entries, everything encoded in every step."""
    pipe, layers = pplus.pipe, len(pplus.layers)
    encoder, unet, scheduler = pipe.text_encoder, pipe.unet, training_scheduler(pipe)
    table = encoder.get_input_embeddings().weight
    new = torch.arange(layers) + 300  # ordinary entries stand in for added ones: the table stays as large
    frozen_table = table.detach().clone()
    with torch.no_grad():
        table[new] = concept_of(pplus).rows[:, 0].to(table)
    table.requires_grad_(True)
    optimiser = torch.optim.AdamW([table], lr=LEARNING_RATE, weight_decay=0.0)
    keep = torch.ones(len(table), dtype=torch.bool)
    keep[new] = False
    counter = iter(range(10**9))

    def step() -> Tensor:
        draws = Draws.of("0/<x>", next(counter), case.batch, cache, timesteps=1000, templates=27, flip=True)
        optimiser.zero_grad()
        total = torch.zeros(())
        for start in range(0, case.batch, case.micro):
            part = draws.part(start, start + case.micro)
            chosen = pixels[part.picture]
            chosen = torch.where(part.flip[:, None, None, None].bool(), chosen.flip(-1), chosen)
            with torch.no_grad():
                latents = pipe.vae.encode(chosen.to(pipe.vae.device, pipe.vae.dtype)).latent_dist.sample()
            latents = latents * pipe.vae.config.scaling_factor
            noise, timestep = part.noise.to(latents), part.timestep.to(latents.device)
            noisy = scheduler.add_noise(latents, noise, timestep)
            ids = pipe.tokenizer(
                captions("object", WORD, part.template), padding="max_length", return_tensors="pt"
            ).input_ids
            word = pipe.tokenizer(WORD, add_special_tokens=False).input_ids[0]
            states = [encoder(torch.where(ids == word, row, ids).to(latents.device))[0] for row in new.tolist()]
            predicted = unet(noisy, timestep, encoder_hidden_states=pack(torch.stack(states, 1)), return_dict=False)[0]
            velocity = scheduler.config.prediction_type == "v_prediction"
            target = scheduler.get_velocity(latents, noise, timestep) if velocity else noise
            loss = F.mse_loss(predicted.float(), target.float()) * (case.micro / case.batch)
            loss.backward()
            total = total + loss.detach().cpu()
        optimiser.step()
        with torch.no_grad():
            table[keep] = frozen_table[keep]
        return total

    return step


def timed(call: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(name: str, pipe: Any, rounds: int) -> None:
    """Print one line per contestant of a case."""
    case, device = CASES[name], pipe.unet.device
    pixels = to_pixels(load_pictures(sorted((CONCEPTS / "robot").glob("*.png"))), case.pixels)
    with pp.PPlus(pipe) as pplus, frozen(pipe.unet, pipe.vae, pipe.text_encoder):
        cache = LatentCache.encode(pipe.vae, pixels)
        contestants: dict[str, Callable[[], Any]] = {}
        for templates in ("batch", "picture"):
            contestants[f"floor, {templates}"] = floor(pplus, cache, case, templates)
            contestants[f"ours, {templates}"] = ours(pplus, cache, case, templates)
        contestants["published"] = published(pplus, cache, case, pixels)
        for call in contestants.values():
            timed(call, device)
        times = {label: [] for label in contestants}
        for _ in range(rounds):
            for label, call in contestants.items():
                times[label].append(timed(call, device))
    medians = {label: statistics.median(values) for label, values in times.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{name}: {case.pixels} px, batch {case.batch}, {case.micro} at once, peak so far {peak:.1f} GiB")
    for templates in ("batch", "picture"):
        mine, least = medians[f"ours, {templates}"], medians[f"floor, {templates}"]
        ratio = medians["published"] / mine
        print(f"  {templates:<8} ours {mine:7.3f} s   ours / floor {mine / least:.3f}   published / ours {ratio:.2f}")


def main(arguments: list[str] | None = None) -> None:
    """Measure the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="only show that the published recipe learns")
    options = parser.parse_args(arguments)
    if options.check:
        check(pp.load("pocket"))
        return
    for name in options.cases:
        measure(name, pp.load("pocket") if name == "pocket" else stable_diffusion(), options.rounds)


def check(pipe: Any, steps: int = 60) -> None:
    """The published recipe's loss on the pocket, first and last twenty steps."""
    pixels = to_pixels(load_pictures(sorted((CONCEPTS / "robot").glob("*.png"))), CASES["pocket"].pixels)
    with pp.PPlus(pipe) as pplus, frozen(pipe.unet, pipe.vae, pipe.text_encoder):
        cache = LatentCache.encode(pipe.vae, pixels)
        step = published(pplus, cache, CASES["pocket"], pixels)
        losses = [float(step()) for _ in range(steps)]
    print(f"published: loss {statistics.mean(losses[:20]):.4f} → {statistics.mean(losses[-20:]):.4f}")


if __name__ == "__main__":
    main()
