"""Stage `unet_on_gpu`: train the U-Net and its text encoder in minutes, with each step as one CUDA graph.

The loss, the optimiser and the data are those of the stage `unet`. Everything that a step needs is on the GPU: latents
and captions of pictures that other processes draw meanwhile, noise, timesteps, optimiser and averages. So a step is one
call, and does not wait for Python. The set of pictures grows with the steps: step and seed decide what a step sees.
The weights begin at random, except for the text encoder's.
"""

import copy
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from .denoising import DenoisingLoss
from .loop import CLIP_NORM, COOLING, TrainingConfig, autocast, channels_last, copy_weights, to_pixels, trapezoid
from .muon import MuonAndAdamW
from .picture_stream import CAPTIONS, CHUNK, PictureStream
from .text_encoder import LENGTH, token_ids
from .unet import DROP, EMA, SEED, WEIGHT_DECAY, build, build_pipeline
from .vae import LATENT_CHANNELS, LATENT_SIZE
from .validation import ValidationLoss, check_colours, log_validation

BATCH, SAMPLES = 512, 10_000_000
"""Batch size, and number of samples unless `--samples` or `--seconds` names another."""
PEAK, WARMUP = 1.2e-3, 500
"""Greatest learning rate and steps of warm-up. The batch is 16 times that of `unet`, the rate twice (our choice)."""
FIRST, FRESH, EVERY = 20_000, 600, 20
"""Number of pictures at the first step; `FRESH` new pictures every `EVERY` steps (multiples of `CHUNK`)."""
CAPACITY = 1_500_000
"""Greatest number of pictures (8 GB of the GPU's memory)."""
VALIDATE_EVERY, LOG_EVERY = 6000, 200
"""Steps between two validations and between two lines of the log."""
FINISH = 15
"""Seconds for the last validation and writing the weights, when the time is given."""
TRIAL_STEPS = 3
"""Steps before the capture, as PyTorch's CUDA graphs want."""


def pool_size(step: int) -> int:
    """The number of pictures that `step` chooses from."""
    return min(CAPACITY, FIRST + FRESH * (step // EVERY))


class Samples:
    """Latents and captions on the device. The pictures are drawn by other processes and encoded here."""

    def __init__(self, config: TrainingConfig, vae: Any) -> None:
        capacity, device = pool_size(config.steps) if config.steps else CAPACITY, config.device
        self.stream = PictureStream(config.work / "clip", capacity)
        self.vae, self.device, self.complete = vae, device, 0
        shape = (capacity, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
        self.latents = torch.empty(shape, dtype=torch.float16, device=device)
        self.ids = torch.empty(capacity, CAPTIONS, LENGTH, dtype=torch.int32, device=device)
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.side = torch.cuda.Stream() if device.type == "cuda" else None
        """Pictures are encoded beside the training steps, which read other entries."""

    def grow(self, count: int) -> float:
        """Take pictures from the other processes until there are `count`; return the seconds spent waiting."""
        waited = 0.0
        while self.complete < count:
            began = time.perf_counter()
            drawn = next(self.stream)
            waited += time.perf_counter() - began
            with torch.cuda.stream(self.side):
                self.add(*drawn)
        if self.side:
            torch.cuda.current_stream().wait_stream(self.side)
        self.count.fill_(count)
        return waited

    @torch.no_grad()
    def add(self, pictures: np.ndarray, ids: np.ndarray) -> None:
        """Encode pictures and append them."""
        part = slice(self.complete, self.complete + CHUNK)
        with autocast(self.device):
            means = self.vae.encode(to_pixels(torch.from_numpy(pictures), self.device)).latent_dist.mean
        self.latents[part] = means * self.vae.config.scaling_factor
        self.ids[part] = torch.from_numpy(ids).to(self.device)
        self.complete += CHUNK

    def choose(self, batch: int) -> tuple[Float[Tensor, "batch 8 16 16"], Int[Tensor, "batch tokens"]]:
        """Random latents and a caption of each."""
        chosen = (torch.rand(batch, dtype=torch.float64, device=self.device) * self.count).long()
        which = torch.randint(CAPTIONS, (batch,), device=self.device)
        return self.latents[chosen].float(), self.ids[chosen, which].long()


class GraphStep:
    """One training step. After `capture`, a call replays it as a CUDA graph; on a CPU it is always run as it is.

    The networks compute in bfloat16 on a GPU. The optimiser has the weights in single precision.
    """

    def __init__(self, model: Any, samples: Samples, denoising: DenoisingLoss, batch: int, compiled: bool) -> None:
        device = samples.device
        self.samples, self.batch, self.device = samples, batch, device
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        computed = copy.deepcopy(model).to(self.dtype)
        self.text, self.unet = computed["text"], channels_last(computed["unet"], device)
        self.computed, self.parameters = list(computed.parameters()), list(model.parameters())
        if compiled:
            self.unet = torch.compile(self.unet, dynamic=False)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.gradients = [p.grad for p in self.parameters]
        self.rate = torch.zeros((), device=device)
        self.optimiser = MuonAndAdamW(model, lr=self.rate, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)
        self.averages = [p.detach().clone() for p in self.parameters]
        self.denoising = denoising
        self.empty = token_ids(denoising.tokenizer, [""])[0].to(device)
        self.loss = torch.zeros((), device=device)
        self.graph: Any = None

    def errors(self) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Squared errors of the velocity on a random batch, and the weights of the timesteps."""
        clean, ids = self.samples.choose(self.batch)
        dropped = torch.rand(self.batch, 1, device=self.device) < DROP
        ids = torch.where(dropped, self.empty, ids)
        times = self.denoising.timesteps(self.batch)
        noisy, velocity = self.denoising.noisy_and_velocity(clean, torch.randn_like(clean), times)
        states = self.text(input_ids=ids).last_hidden_state
        predicted = self.unet(noisy.to(self.dtype), times, states).sample.float()
        return (predicted - velocity).square().mean((1, 2, 3)), self.denoising.weights[times]

    def run(self) -> None:
        """One step of the optimiser and of the averages; `loss` sums up the losses."""
        for parameter in self.computed:
            parameter.grad = None
        errors, weights = self.errors()
        loss = (errors * weights).mean()
        loss.backward()
        self.loss += loss.detach()
        with torch.no_grad():
            torch._foreach_copy_(self.gradients, [p.grad for p in self.computed])
            nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
            self.optimiser.step()
            torch._foreach_lerp_(self.averages, self.parameters, 1 - EMA)
            torch._foreach_copy_(self.computed, self.parameters)

    def capture(self) -> None:
        """Run `TRIAL_STEPS` steps at rate zero, then capture a step."""
        if self.device.type != "cuda":
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(TRIAL_STEPS):
                self.run()
        torch.cuda.current_stream().wait_stream(stream)
        for parameter in self.computed:
            parameter.grad = None
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.run()
        self.loss.zero_()

    def __call__(self, rate: float) -> None:
        self.rate.fill_(rate)
        if self.graph is None:
            self.run()
        else:
            self.graph.replay()


class Plan:
    """The number of steps: given, or as many as fit into a time. The second is measured again until the rate falls."""

    def __init__(self, config: TrainingConfig, began: float) -> None:
        self.steps = config.steps or (config.samples or SAMPLES) // BATCH
        self.end = began + config.seconds - FINISH if config.seconds else None
        self.began = time.perf_counter()

    def measure(self, done: int) -> None:
        """Set the number of steps by the pace of the `done` steps since the beginning."""
        now = time.perf_counter()
        if self.end and (done < WARMUP or done < self.steps * (1 - COOLING)):
            self.steps = max(done + 1, done + int((self.end - now) * done / (now - self.began)))


def train(config: TrainingConfig, step: GraphStep, plan: Plan, validate: Callable[[int], None]) -> None:
    """All steps. `validate` is called with the number of steps done, every `VALIDATE_EVERY` steps and at the end."""
    bar = tqdm(desc="unet", file=sys.stdout, mininterval=10, ascii=True)
    done, waited = 0, 0.0
    while done < plan.steps:
        if done % EVERY == 0:
            waited += step.samples.grow(pool_size(done))
        step(trapezoid(done, plan.steps, PEAK, WARMUP))
        done += 1
        if done == WARMUP:
            torch._foreach_copy_(step.averages, [p.detach() for p in step.parameters])
        if done % LOG_EVERY == 0 or done == plan.steps:
            loss = round(step.loss.item() / (done % LOG_EVERY or LOG_EVERY), 5)
            step.loss.zero_()
            if not math.isfinite(loss):
                raise RuntimeError(f"the loss is {loss} after {done} steps")
            pace = round((time.perf_counter() - plan.began) / done, 5)
            line = {"step": done, "loss": loss, "seconds_per_step": pace, "waited": round(waited, 1)}
            with (config.work / "unet.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            plan.measure(done)
            bar.total = plan.steps
            bar.set_postfix(loss=loss, refresh=False)
            bar.update(done - bar.n)
        if done % VALIDATE_EVERY == 0 or done == plan.steps:
            validate(done)
    bar.close()


def run(config: TrainingConfig) -> None:
    """Train, then write the averaged U-Net to the folder `unet` and the averaged text encoder to `text`."""
    began = time.perf_counter()
    torch.manual_seed(SEED)
    torch.set_float32_matmul_precision("high")  # for the products of the optimiser
    device = config.device
    vae: Any = channels_last(AutoencoderKL.from_pretrained(config.work / "vae"), device).eval()
    samples = Samples(config, vae)
    check_colours(config, vae)
    tokenizer = CLIPTokenizer.from_pretrained(config.work / "clip")
    text: Any = CLIPTextModel.from_pretrained(config.work / "clip")
    model: Any = nn.ModuleDict({"unet": build(), "text": text}).to(device).train()
    average: Any = copy.deepcopy(model).requires_grad_(False).eval()
    pipeline = build_pipeline(vae, average["text"], tokenizer, channels_last(average["unet"], device))
    denoising = DenoisingLoss(tokenizer, device)
    validation = ValidationLoss(denoising, vae)
    samples.grow(pool_size(0))
    step = GraphStep(model, samples, denoising, BATCH, compiled=config.compile and device.type == "cuda")
    step.capture()
    print(f"captured after {time.perf_counter() - began:.1f} s", flush=True)

    def validate(done: int) -> None:
        copy_weights(average, step.averages)
        log_validation(config, pipeline, validation, done, done * BATCH)
        average["unet"].save_pretrained(config.work / "unet")
        average["text"].save_pretrained(config.work / "text")

    try:
        train(config, step, Plan(config, began), validate)
    finally:
        samples.stream.close()
    print(f"finished after {time.perf_counter() - began:.1f} s", flush=True)
