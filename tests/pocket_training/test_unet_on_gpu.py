"""Training on a GPU: arithmetic of the loss, stream of pictures, plan of steps. All but the capture runs on a CPU."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from pocket_training import bundled, data, denoising, loop, picture_stream, unet, unet_on_gpu
from promptplus import pocket as package

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> loop.TrainingConfig:
    """A work folder with the bundled parts, a tiny U-Net, eight pictures in chunks of four."""
    root = Path(package.__file__).parent
    for module, values in {
        picture_stream: {"CHUNK": 4},
        unet: {"CHANNELS": (16, 16, 16, 16)},
        unet_on_gpu: {"CHUNK": 4, "FIRST": 8, "FRESH": 4, "EVERY": 2, "BATCH": 4, "WARMUP": 2, "CAPACITY": 16},
    }.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    config = loop.TrainingConfig(work=tmp_path, package=root, device=CPU, threads=1, pictures=4, steps=4, count=0)
    bundled.run(config)
    return config


@pytest.fixture
def drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn in this process."""

    class Stream:
        def __init__(self, tokenizer: Path, count: int) -> None:
            picture_stream._tokenizer = CLIPTokenizer.from_pretrained(tokenizer)
            self.chunks = map(picture_stream.draw_chunk, range(0, count, picture_stream.CHUNK))

        def __next__(self) -> Any:
            return next(self.chunks)

        def close(self) -> None:
            pass

    monkeypatch.setattr(unet_on_gpu, "PictureStream", Stream)


def step_of(config: loop.TrainingConfig) -> unet_on_gpu.GraphStep:
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(config.work / "vae")
    samples = unet_on_gpu.Samples(config, vae)
    samples.grow(8)
    text = CLIPTextModel.from_pretrained(config.work / "clip")
    model = nn.ModuleDict({"unet": unet.build(), "text": text})
    loss = denoising.DenoisingLoss(CLIPTokenizer.from_pretrained(config.work / "clip"), CPU)
    return unet_on_gpu.GraphStep(model, samples, loss, batch=4, compiled=False)


def test_noise_and_velocity_are_those_of_diffusers() -> None:
    loss = denoising.DenoisingLoss(None, CPU)  # pyright: ignore[reportArgumentType]
    stock = DDPMScheduler(**denoising.NOISES)
    clean, noise = torch.randn(2, 5, 8, 4, 4)
    times = torch.tensor([0, 7, 500, 998, 999])
    noisy, velocity = loss.noisy_and_velocity(clean, noise, times)
    torch.testing.assert_close(noisy, stock.add_noise(clean, noise, times))
    torch.testing.assert_close(velocity, stock.get_velocity(clean, noise, times))


@pytest.mark.usefixtures("drawn_here")
def test_a_step_moves_every_weight_and_its_average(config: loop.TrainingConfig) -> None:
    step = step_of(config)
    before = copy.deepcopy(step.parameters)
    step(1e-3)
    after = [torch.equal(old, new) for old, new in zip(before, step.parameters, strict=True)]
    same_gradient = [not gradient.any() for gradient in step.gradients]
    assert after == same_gradient  # a weight stays if and only if it has no gradient, as a token that is not in a text
    assert sum(after) < len(after) / 10
    for old, new, mean in zip(before, step.parameters, step.averages, strict=True):
        torch.testing.assert_close(mean, old + (1 - unet_on_gpu.EMA) * (new - old))
    computed = zip(step.computed, step.parameters, strict=True)
    assert all(torch.equal(one, other) for one, other in computed)


@pytest.mark.usefixtures("drawn_here")
def test_samples_are_the_pictures_and_captions_of_their_seeds(config: loop.TrainingConfig) -> None:
    samples = step_of(config).samples
    vae, tokenizer = samples.vae, picture_stream._tokenizer
    pictures = np.stack([data.draw(data.SEEDS["train"] + i) for i in range(4)])
    with torch.no_grad(), loop.autocast(CPU):
        means = vae.encode(loop.to_pixels(torch.from_numpy(pictures), CPU)).latent_dist.mean
    torch.testing.assert_close(samples.latents[:4].float(), means.float(), atol=2e-2, rtol=2e-2)
    words = tokenizer.decode(samples.ids[0, 0].tolist(), skip_special_tokens=True).split()
    assert words
    latents, ids = samples.choose(200)
    assert len({tuple(row) for row in ids.tolist()}) > 20  # of 8 pictures with 6 captions each
    known = {tuple(row.tolist()) for row in samples.latents[:8, 0, 0].float()}
    assert {tuple(row.tolist()) for row in latents[:, 0, 0]} == known


@pytest.mark.slow
def test_processes_draw_in_the_order_of_the_seeds(config: loop.TrainingConfig) -> None:
    stream = picture_stream.PictureStream(config.work / "clip", 12)
    firsts = [pictures[0] for pictures, _ in stream]
    stream.close()
    # the processes have the module's own CHUNK
    expected = [data.draw(data.SEEDS["train"] + first) for first in range(0, 12, picture_stream.CHUNK)]
    assert all(np.array_equal(a, b) for a, b in zip(firsts, expected, strict=True))


@pytest.mark.usefixtures("drawn_here")
def test_a_run_writes_what_export_reads(config: loop.TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    validated: list[int] = []
    monkeypatch.setattr(unet_on_gpu, "log_validation", lambda *args: validated.append(args[3]))
    monkeypatch.setattr(unet_on_gpu, "check_colours", lambda *args: None)
    monkeypatch.setattr("pocket_training.validation.PICTURES", 4)
    unet_on_gpu.run(config)
    assert validated == [4]
    assert {path.name for path in (config.work / "unet").iterdir()} > {"config.json"}
    CLIPTextModel.from_pretrained(config.work / "text")


def test_the_number_of_steps_follows_the_pace_until_the_rate_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(unet_on_gpu.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(unet_on_gpu, "FINISH", 10)
    monkeypatch.setattr(unet_on_gpu, "WARMUP", 5)
    config = loop.TrainingConfig(Path(), Path(), CPU, 1, 0, None, 0, seconds=210)
    plan = unet_on_gpu.Plan(config, began=100.0)
    now[0] = 110.0
    plan.measure(10)  # one step a second, 190 seconds left
    assert plan.steps == 200
    now[0] = 260.0
    plan.measure(160)  # the rate falls since step 150
    assert plan.steps == 200
