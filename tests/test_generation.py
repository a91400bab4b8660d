"""Drawing: samplers, sizes, start pictures and masks; the stock pipeline's own results are the oracle."""

import copy
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image

import promptplus as pp
from promptplus.errors import PictureError, SettingsError
from promptplus.generation import generate
from promptplus.kept_pictures import keeping
from promptplus.pipelines import SCHEDULERS, own_pipeline, scheduler_class
from promptplus.start_image import StartImage

PROMPT = "a red house || coarse: a car"


@pytest.fixture(scope="module")
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


def stock(pipe: Any, pplus: pp.PPlus, **call: Any) -> Image.Image:
    pipe.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(3)]
    return pipe(**pplus.encode([PROMPT]), guidance_scale=3.0, generator=generator, **call).images[0]


def test_the_pipeline_is_not_touched(pplus: pp.PPlus) -> None:
    before, config = dict(vars(pplus.pipe)), dict(pplus.pipe.config)
    state = copy.deepcopy(vars(pplus.pipe.scheduler))
    generate(pplus, [PROMPT], [0], steps=2, scheduler="euler", safety_checker=False)
    assert vars(pplus.pipe) == before
    assert dict(pplus.pipe.config) == config
    assert vars(pplus.pipe.scheduler).keys() == state.keys()
    assert pplus.pipe.scheduler.num_inference_steps == state["num_inference_steps"]


def test_a_sampler_and_a_size_give_the_stock_pictures(pplus: pp.PPlus) -> None:
    ours = generate(pplus, [PROMPT], [3], steps=4, guidance=3.0, scheduler="euler", width=96, height=64)[0]
    other = type(pplus.pipe)(**pplus.pipe.components, requires_safety_checker=False)
    other.scheduler = EulerDiscreteScheduler.from_config(pplus.pipe.scheduler.config)
    assert np.array_equal(ours, stock(other, pplus, num_inference_steps=4, width=96, height=64))


def test_a_start_picture_gives_the_stock_pictures(pplus: pp.PPlus, noise: Image.Image) -> None:
    ours = generate(pplus, [PROMPT], [3], steps=5, guidance=3.0, start=StartImage(noise, 0.6))[0]
    other = StableDiffusionImg2ImgPipeline(**pplus.pipe.components, requires_safety_checker=False)
    other.scheduler = copy.deepcopy(other.scheduler)
    assert np.array_equal(ours, stock(other, pplus, num_inference_steps=5, image=noise, strength=0.6))


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept")  # raised inside diffusers' DEIS
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_sampler_draws_and_keeps_what_the_mask_covers(
    pplus: pp.PPlus, noise: Image.Image, scheduler: str
) -> None:
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    start = StartImage(noise, 0.8, mask)
    picture = np.asarray(generate(pplus, [PROMPT], [3], steps=4, scheduler=scheduler, start=start)[0])
    assert np.array_equal(picture[:, 32:], np.asarray(noise)[:, 32:])
    assert not np.array_equal(picture[:, :32], np.asarray(noise)[:, :32])
    assert generate(pplus, [PROMPT], [3], steps=1, scheduler=scheduler)[0].size == (64, 64)


def test_a_white_mask_is_no_mask(pplus: pp.PPlus, noise: Image.Image) -> None:
    white = StartImage(noise, 0.6, Image.new("L", noise.size, 255))
    masked, plain = (
        generate(pplus, [PROMPT], [3], steps=4, start=start)[0] for start in (white, StartImage(noise, 0.6))
    )
    assert np.array_equal(masked, plain)


def test_the_latents_outside_the_mask_are_the_start_pictures_own(pplus: pp.PPlus, noise: Image.Image) -> None:
    """With a black mask the drawn latents end at the start picture's, so the decoded picture is the VAE's own copy."""
    black = StartImage(noise, 0.8, Image.new("L", noise.size, 0))
    latents: list[torch.Tensor] = []
    handle = pplus.pipe.vae.post_quant_conv.register_forward_pre_hook(lambda _m, args: latents.append(args[0]))
    generate(pplus, [PROMPT], [3], steps=4, start=black)
    handle.remove()
    pixels = torch.from_numpy(np.asarray(noise, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = pplus.pipe.vae.encode(pixels).latent_dist.mean
    torch.testing.assert_close(latents[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "given", "drawn"),
    [((128, 96), (None, None), (84, 64)), ((40, 400), (None, None), (64, 640)), ((128, 96), (64, 96), (64, 96))],
)
def test_a_start_picture_keeps_its_shape(
    pplus: pp.PPlus, size: tuple[int, int], given: tuple[int | None, int | None], drawn: tuple[int, int]
) -> None:
    start = StartImage(Image.new("RGB", size, "red"), 0.5)
    assert start.resized(pplus.pipe, *given).picture.size == drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance": float("inf")}, "guidance is a number"),
        ({"guidance": float("nan")}, "guidance is a number"),
        ({"guidance": -1.0}, "guidance is a number"),
        ({"steps": 0}, "steps are 1 to 1000"),
        ({"steps": 1001}, "steps are 1 to 1000"),
        ({"width": 63}, "width is a multiple of 4"),
        ({"height": 10**6}, "at most 8192"),
        ({"scheduler": "karras"}, "no scheduler 'karras'"),
    ],
)
def test_options_outside_their_range_are_refused(pplus: pp.PPlus, options: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        generate(pplus, [PROMPT], [0], **options)


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1, float("nan")])
def test_a_strength_outside_its_range_is_refused(noise: Image.Image, strength: float) -> None:
    with pytest.raises(SettingsError, match="strength is above 0"):
        StartImage(noise, strength)


def test_starts_that_leave_no_step_or_do_not_fit_are_refused(pplus: pp.PPlus, noise: Image.Image) -> None:
    with pytest.raises(SettingsError, match="leaves no step"):
        generate(pplus, [PROMPT], [0], steps=4, start=StartImage(noise, 0.1))
    with pytest.raises(PictureError, match="the mask is 8×8, the picture 64×64"):
        StartImage(noise, 0.5, Image.new("L", (8, 8)))


def test_schedulers_are_known_by_both_names() -> None:
    assert {scheduler_class(name) for name in SCHEDULERS} == set(map(scheduler_class, SCHEDULERS.values()))


def test_our_pipeline_leaves_the_checker_of_the_given_one(pipe: Any) -> None:
    guarded = copy.copy(pipe)
    guarded.safety_checker = torch.nn.Identity()
    assert own_pipeline(guarded, safety_checker=False).safety_checker is None
    assert guarded.safety_checker is not None


# ---- pictures of a stopped command


def test_kept_pictures_are_not_drawn_again(pplus: pp.PPlus, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = type(pplus.pipe).__call__
    monkeypatch.setattr(type(pplus.pipe), "__call__", lambda *a, **k: calls.append(1) or original(*a, **k))
    straight = generate(pplus, [PROMPT] * 3, [0, 1, 2], steps=2, batch=2)
    assert len(calls) == 2
    with suppress(KeyboardInterrupt), keeping(tmp_path):
        generate(pplus, [PROMPT] * 2, [0, 1], steps=2, batch=2)
        raise KeyboardInterrupt
    assert len(calls) == 3
    with keeping(tmp_path):
        resumed = generate(pplus, [PROMPT] * 3, [0, 1, 2], steps=2, batch=2)
        assert len(calls) == 4
        generate(pplus, [PROMPT] * 2, [0, 1], steps=3, batch=2)  # another number of steps is another picture
        assert len(calls) == 5
    assert [one.tobytes() for one in resumed] == [one.tobytes() for one in straight]
    assert not list(tmp_path.iterdir())


def test_kept_pictures_of_other_weights_are_not_taken(pplus: pp.PPlus, tmp_path: Any) -> None:
    with keeping(tmp_path):
        before = generate(pplus, [PROMPT], [0], steps=2)[0]
        weight = next(pplus.pipe.unet.parameters())
        original = weight.detach().clone()
        with torch.no_grad():
            weight.add_(0.1)
        after = generate(pplus, [PROMPT], [0], steps=2)[0]
        with torch.no_grad():
            weight.copy_(original)
    assert before.tobytes() != after.tobytes()
