"""How the pocket's U-Net is trained: resumed runs, the growing pool of pictures, the optimiser's arithmetic."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from pocket_training import bundled, checkpoints, muon, pool, unet, watch
from pocket_training import loop as common
from promptplus import pocket as package


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four pictures a step, eight to begin with and four more every second step, a checkpoint every second step."""
    sizes = {
        pool: {"FIRST": 8, "FRESH": 4, "EVERY": 2},
        unet: {"CHANNELS": (16, 16, 16, 16), "LENGTHS": {"cpu": (24, 4)}, "note": lambda *args: None},
        watch: {"HELD": 4, "CHECKED": 4},
        common: {"CHECKPOINT_EVERY": 2},
    }
    for module, values in sizes.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


def prepared(work: Path, monkeypatch: pytest.MonkeyPatch, steps: int | None = 6) -> common.Options:
    """A work folder with the bundled parts, and a start that fits the tiny U-Net."""
    root, cpu = Path(package.__file__).parent, torch.device("cpu")
    options = common.Options(work=work, package=root, device=cpu, threads=1, pictures=4, steps=steps, count=0)
    work.mkdir()
    bundled.run(options)
    torch.manual_seed(0)
    unet.build().save_pretrained(work / "start")
    return options


def weights(work: Path) -> dict[str, torch.Tensor]:
    return UNet2DConditionModel.from_pretrained(work / "unet").state_dict()


@pytest.mark.usefixtures("tiny")
def test_a_killed_run_goes_on_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, killed = (prepared(tmp_path / name, monkeypatch) for name in ("straight", "killed"))
    unet.run(straight)

    learn = unet.learn

    def until_five(training: common.Training, *rest: Any) -> None:
        learn(training, *rest)
        if training.step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(unet, "learn", until_five)
    with pytest.raises(KeyboardInterrupt):
        unet.run(killed)
    monkeypatch.setattr(unet, "learn", learn)
    latents = killed.work / "latents.pool"
    assert latents.stat().st_size == pool.size(5) * pool.BYTES
    latents.write_bytes(latents.read_bytes()[:-3000])  # its last write was cut short
    unet.run(killed)

    assert latents.read_bytes() == (straight.work / "latents.pool").read_bytes()
    first, second = weights(straight.work), weights(killed.work)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("tiny")
def test_a_pool_does_not_depend_on_how_it_grew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = prepared(tmp_path / "work", monkeypatch)
    vae: Any = unet.AutoencoderKL.from_pretrained(options.work / "vae").eval()
    at_once, slowly = (pool.Pool(tmp_path / name, vae, options.device) for name in ("at once", "slowly"))
    at_once.grow(16)
    for count in (4, 8, 16):
        slowly.grow(count)
    numbers = torch.tensor([15, 0, 7])
    assert torch.equal(at_once[numbers], slowly[numbers])
    assert torch.equal(at_once[numbers], pool.Pool(slowly.path, vae, options.device)[numbers])


def test_a_training_begins_with_the_bundled_weights(tmp_path: Path) -> None:
    root, cpu = Path(package.__file__).parent, torch.device("cpu")
    options = common.Options(work=tmp_path, package=root, device=cpu, threads=1, pictures=4, steps=1, count=0)
    bundled.run(options)
    given = UNet2DConditionModel.from_pretrained(root / "pipeline" / "unet", torch_dtype=torch.float32).state_dict()
    begun = unet.begin(options).state_dict()
    assert all(torch.equal(begun[name], given[name]) for name in given)


def test_a_damaged_checkpoint_costs_no_more_than_the_last_minutes(tmp_path: Path) -> None:
    path = tmp_path / "unet.checkpoint.pt"
    assert checkpoints.newest_whole(path) is None
    for step in (100, 200):
        checkpoints.save_atomically({"step": step}, path)
    assert checkpoints.newest_whole(path) == {"step": 200}
    path.write_bytes(path.read_bytes()[:-100])
    assert checkpoints.newest_whole(path) == {"step": 100}
    checkpoints.previous(path).write_bytes(b"")
    with pytest.raises(RuntimeError, match="no checkpoint can be read"):
        checkpoints.newest_whole(path)


def test_a_run_may_be_made_longer_until_its_rate_falls() -> None:
    shorter, longer = ([common.trapezoid(step, steps, 1.0, 10) for step in range(750)] for steps in (1000, 2000))
    assert shorter == longer
    assert shorter[-1] == 1.0
    assert common.trapezoid(999, 1000, 1.0, 10) < 0.03


def test_moves_are_made_orthogonal_as_the_plain_rounds_make_them() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 24, 60, dtype=torch.float64)
    a, b, c = muon.COEFFICIENTS
    plain = matrices / matrices.norm(dim=(-2, -1), keepdim=True)
    for _ in range(muon.ROUNDS):
        gram = plain @ plain.mT
        plain = a * plain + (b * gram + c * gram @ gram) @ plain
    assert torch.allclose(muon.orthogonal(matrices), plain, atol=1e-9)
    assert torch.allclose(muon.orthogonal(matrices.mT), plain.mT, atol=1e-9)
    values = torch.linalg.svdvals(plain)
    assert values.min() > 0.6
    assert values.max() < 1.3
