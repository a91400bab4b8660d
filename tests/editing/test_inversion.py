"""Inversion: oracles are diffusers' DDIM schedulers, and that the same denoiser gives the same latents back."""

from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from promptplus.editing.inversion import Inversion, Steps, ddim_inversion, noise_maps
from promptplus.errors import ModelError

SHAPE = (2, 4, 6, 6)
STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
POCKET = {**STABLE_DIFFUSION, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "set_alpha_to_one": True}
SCHEDULERS = [
    {**STABLE_DIFFUSION, "prediction_type": "epsilon"},
    {**STABLE_DIFFUSION, "prediction_type": "v_prediction"},
    {**STABLE_DIFFUSION, "prediction_type": "sample", "timestep_spacing": "trailing"},
    {**POCKET, "prediction_type": "v_prediction"},
]


def scheduler(config: dict[str, Any]) -> Any:
    return DDIMScheduler(**config)


def network(seed: int = 0) -> Any:
    """A denoiser of our own: not linear, and different at every timestep."""
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed)).double()

    def predict(latents: torch.Tensor, timestep: int) -> torch.Tensor:
        mixed = torch.einsum("oc,bchw->bohw", weight, latents)
        return torch.tanh(mixed * (1 + timestep / 500)) + 0.1 * latents.flip(-1)

    return predict


def generators(seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(SHAPE[0])]


def clean() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(9)).double()


@pytest.mark.parametrize("config", SCHEDULERS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_step_is_that_of_diffusers(config: dict[str, Any], eta: float) -> None:
    stock, noisy = scheduler(config), clean()
    steps = Steps.of(stock, 10)
    stock.set_timesteps(10)
    for index, timestep in enumerate(stock.timesteps):
        predicted = torch.randn(SHAPE, generator=torch.Generator().manual_seed(index)).double()
        noise = torch.zeros(SHAPE, dtype=torch.float64)
        expected = stock.step(predicted, timestep, noisy, eta=eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(steps.mean(noisy, predicted, index, eta), expected, rtol=1e-3, atol=1e-3)  # float32
        stock_noise = torch.full(SHAPE, 0.5, dtype=torch.float64)
        if int(timestep) < 990:
            expected = stock.add_noise(noisy, stock_noise, timestep.expand(2))
            torch.testing.assert_close(steps.noisy(noisy, stock_noise, index), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", SCHEDULERS)
@pytest.mark.parametrize("count", [7, 10])
def test_noise_maps_give_the_latents_back(config: dict[str, Any], count: int) -> None:
    steps, predict = Steps.of(scheduler(config), count), network()
    inversion = noise_maps(predict, steps, clean(), generators())
    assert len(inversion.maps) == count
    assert len(inversion.path) == count + 1
    torch.testing.assert_close(inversion.denoise(predict), clean(), rtol=1e-9, atol=1e-9)
    other = inversion.denoise(network(seed=1))
    assert (other - clean()).abs().mean() > 0.01


def test_noise_maps_are_drawn_from_each_seed() -> None:
    steps, predict = Steps.of(scheduler(SCHEDULERS[0]), 5), network()
    one, same, other = (noise_maps(predict, steps, clean(), generators(seed)) for seed in (0, 0, 5))
    assert all(torch.equal(a, b) for a, b in zip(one.maps, same.maps, strict=True))
    assert not torch.equal(one.maps[0], other.maps[0])
    alone = noise_maps(predict, steps, clean()[1:], generators()[1:])
    torch.testing.assert_close(alone.path[0], one.path[0][1:])


@pytest.mark.parametrize("skipped", [0.2, 0.6])
def test_leaving_out_first_steps_changes_no_other_step(skipped: float) -> None:
    steps, predict = Steps.of(scheduler(SCHEDULERS[0]), 5), network()
    whole = noise_maps(predict, steps, clean(), generators()).skipping(skipped)
    short = noise_maps(predict, steps.skipping(skipped), clean(), generators())
    assert whole.steps == short.steps
    assert len(whole.steps) == 5 - round(5 * skipped)
    for a, b in zip((*whole.path, *whole.maps), (*short.path, *short.maps), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(whole.denoise(predict), clean())


@pytest.mark.parametrize("config", [*SCHEDULERS[:2], SCHEDULERS[3]])
def test_ddim_inversion_is_that_of_diffusers(config: dict[str, Any]) -> None:
    stock = scheduler(config)
    inverse: Any = DDIMInverseScheduler.from_config(stock.config)
    inverse.set_timesteps(10)
    predict, latents = network(), clean()
    expected = [latents]
    for timestep in inverse.timesteps:
        latents = inverse.step(predict(latents, int(timestep)), timestep, latents).prev_sample
        expected.append(latents)
    inversion = ddim_inversion(predict, Steps.of(stock, 10), clean())
    assert inversion.maps == ()
    # diffusers begins at timestep 0 - 100 + offset, where the first levels of noise differ by 1e-3
    for ours, theirs in zip(inversion.path, reversed(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


def test_ddim_gives_the_latents_back_where_the_denoiser_changes_little() -> None:
    steps = Steps.of(scheduler(SCHEDULERS[0]), 200)
    inversion = ddim_inversion(lambda latents, _: 0.3 * latents, steps, clean())
    assert (inversion.denoise(lambda latents, _: 0.3 * latents) - clean()).abs().max() < 0.05


def test_outside_the_mask_latents_stay_on_the_path() -> None:
    steps = Steps.of(scheduler(SCHEDULERS[0]), 5)
    inversion = noise_maps(network(), steps, clean(), generators())
    mask = torch.zeros(1, 1, 6, 6).double()
    mask[..., :3] = 1
    edited = inversion.denoise(network(seed=1), mask)
    assert torch.equal(edited[..., 3:], clean()[..., 3:])
    assert not torch.allclose(edited[..., :3], clean()[..., :3], atol=0.1)


def test_an_inversion_can_be_repeated_for_a_batch() -> None:
    steps = Steps.of(scheduler(SCHEDULERS[0]), 3)
    one = noise_maps(network(), steps, clean()[:1], generators()[:1])
    many = one.repeated(3).denoise(network(seed=1))
    assert torch.equal(many[0], one.denoise(network(seed=1))[0])
    assert torch.equal(many[0], many[2])


def test_an_unknown_prediction_is_refused() -> None:
    steps = Steps((5,), (0.5, 1.0), "flow")
    with pytest.raises(ModelError, match="predicts 'flow'"):
        Inversion(steps, (clean(), clean()), (), 0.0).denoise(network())
