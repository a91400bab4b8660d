"""Options of the one training loop: tying, presets, where rows may lie, and several concepts side by side."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import promptplus as pp
from benchmarks import gpu
from promptplus.concept import Tying, tie
from promptplus.denoiser_calls import DenoiserCall
from promptplus.density import TokenDensity, common_words
from promptplus.errors import ConceptError, SettingsError
from promptplus.pictures import to_pixels
from promptplus.pocket import CONCEPTS
from promptplus.training.batches import Batch, BatchRule, LatentCache, jittered
from promptplus.training.compilation import faster
from promptplus.training.distributed import Distributed
from promptplus.training.first_rows import initial_rows
from promptplus.training.invert import run_inversion, run_inversions
from promptplus.training.loss import denoising_losses
from promptplus.training.noise_schedule import training_scheduler
from promptplus.training.result import InversionResult
from promptplus.training.settings import PRESETS, InversionSettings
from promptplus.training.token_rows import rows_step
from promptplus.training.trainable import frozen

Pictures = list[Image.Image]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def learn(pplus: pp.PPlus, pictures: Pictures, **options: Any) -> InversionResult:
    call = {"steps": 3, "batch_size": 2, "progress": False, "preview_every": 0, **options}
    return run_inversion(pplus, pictures, "<x>", "house", **call)


@pytest.fixture
def exact() -> Any:
    with pp.PPlus(pp.load("pocket", device="cpu", dtype=torch.float64)) as pplus:
        yield pplus


# ---- tying


@pytest.mark.parametrize(("tying", "rows"), [("layer", 16), ("block", 7), ("resolution", 4), ("all", 1)])
def test_layers_share_rows_as_tied(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, tying: Tying, rows: int
) -> None:
    concept = learn(pplus, pictures, tying=tying).concept
    groups = tie(tying, pplus.layers)
    assert len(set(groups)) == rows
    assert len(torch.unique(concept.rows, dim=0)) == rows
    assert torch.equal(concept.rows, concept.rows[[groups.index(g) for g in groups]])
    assert pp.Concept.load(concept.save(tmp_path / "x.safetensors")).tying == tying


def test_blocks_and_resolutions(pplus: pp.PPlus) -> None:
    by_block, by_resolution = (tie(tying, pplus.layers) for tying in ("block", "resolution"))
    assert by_block == (0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6)
    assert by_resolution == (0, 0, 1, 1, 2, 2, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0)


# ---- presets


def test_presets_are_settings_and_what_is_given_beside_them_wins(pplus: pp.PPlus, pictures: Pictures) -> None:
    run = learn(pplus, pictures, preset="paper-single")
    assert (run.settings.learning_rate, run.settings.steps, run.settings.batch_size) == (0.001, 3, 2)
    assert PRESETS["paper-ti"]["steps"] == 10 * PRESETS["paper-xti"]["steps"]
    with pytest.raises(SettingsError, match="no preset 'paper'; there are paper-ti"):
        learn(pplus, pictures, preset="paper")


# ---- where rows may lie


@pytest.mark.parametrize("constraint", ["norm", "direction"])
def test_rows_keep_the_vocabularys_norm(pplus: pp.PPlus, pictures: Pictures, constraint: str) -> None:
    table = pplus.pipe.text_encoder.get_input_embeddings().weight
    run = learn(pplus, pictures, constraint=constraint)
    norms = run.concept.rows.norm(dim=-1)
    torch.testing.assert_close(norms, table.norm(dim=-1).mean().expand_as(norms).detach(), rtol=1e-5, atol=0)
    assert min(run.share_moved) > 0.01
    assert (learn(pplus, pictures).concept.rows.norm(dim=-1) - norms).abs().max() > 0.01


def test_directions_turn_along_the_sphere(pplus: pp.PPlus, pictures: Pictures) -> None:
    """The two constraints differ: one follows the whole gradient and comes back, one its tangent."""
    by_norm, by_direction = (learn(pplus, pictures, constraint=c).concept.rows for c in ("norm", "direction"))
    assert not torch.equal(by_norm, by_direction)


@pytest.mark.slow
def test_the_density_regulariser_keeps_rows_among_words(pplus: pp.PPlus, pictures: Pictures) -> None:
    density = TokenDensity.over_words(pplus.encoders)
    free, held = (learn(pplus, pictures, steps=8, density=weight).concept.rows for weight in (0.0, 1.0))
    assert density.log_density(held).mean() > density.log_density(free).mean() + 1


def test_common_words_are_whole_words(pplus: pp.PPlus) -> None:
    tokenizer = pplus.pipe.tokenizer
    words = tokenizer.convert_ids_to_tokens(common_words(tokenizer))
    assert "house</w>" in words
    assert all(word.endswith("</w>") and len(word) > 5 for word in words)


# ---- how rows move


def test_the_schedule() -> None:
    settings = InversionSettings(steps=10, learning_rate=0.1, schedule="cosine", warmup=2)
    rates = [settings.rate(step) for step in range(10)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[5] == pytest.approx(0.05)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 0 < rates[9] < 0.003
    assert {InversionSettings(learning_rate=0.1).rate(step) for step in (0, 250, 499)} == {0.1}


def test_rows_move_by_the_scheduled_rate(pplus: pp.PPlus, pictures: Pictures) -> None:
    """AdamW's first step is the rate itself, whatever the gradient."""
    one = learn(pplus, pictures, steps=1, warmup=2)
    start = initial_rows(pplus, "house", one.settings)
    assert (one.concept.rows - start).abs().max().item() == pytest.approx(0.005 / 2, rel=1e-3)


def test_the_average_is_that_of_the_steps(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    after = [learn(pplus, pictures, steps=steps).concept.rows for steps in (1, 2, 3)]
    shares = torch.tensor([0.25, 0.5, 1.0]) / 1.75
    wanted = sum(share * rows for share, rows in zip(shares, after, strict=True))
    averaged = learn(pplus, pictures, average=0.5)
    torch.testing.assert_close(averaged.concept.rows, wanted, rtol=1e-5, atol=1e-7)
    learn(pplus, pictures, average=0.5, steps=2, out=tmp_path / "x")
    again = learn(pplus, pictures, average=0.5, steps=3, out=tmp_path / "x")
    assert torch.equal(again.concept.rows, averaged.concept.rows)


def test_a_schedule_ends_with_its_steps(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    learn(pplus, pictures, schedule="cosine", out=tmp_path / "x")
    with pytest.raises(SettingsError, match="steps 3, not 4; its schedule ends with them"):
        learn(pplus, pictures, schedule="cosine", steps=4, out=tmp_path / "x")


# ---- what a step sees


@pytest.fixture
def cache(pplus: pp.PPlus, pictures: Pictures) -> LatentCache:
    return LatentCache.encode(pplus.pipe.vae, to_pixels(pictures, 64))


@pytest.mark.parametrize("antithetic", [False, True])
def test_stratified_timesteps_are_one_of_each_part(cache: LatentCache, antithetic: bool) -> None:
    rule = BatchRule(8, 1000, 27, stratified=True, antithetic=antithetic)
    parts = 4 if antithetic else 8
    steps = [Batch.of("k", step, cache, rule) for step in range(40)]
    for batch in steps:
        own = batch.timestep[::2] if antithetic else batch.timestep
        assert sorted((own // (1000 // parts)).tolist()) == list(range(parts))
    seen = torch.stack([batch.timestep for batch in steps]).float()
    assert (seen.mean(0) - 499.5).abs().max() < 4 * 289 / 40**0.5, "no sample may keep to one part"


def test_antithetic_pairs_differ_in_the_sign_of_their_noise(cache: LatentCache) -> None:
    batch = Batch.of("k", 0, cache, BatchRule(5, 1000, 27, antithetic=True))
    plain = Batch.of("k", 0, cache, BatchRule(3, 1000, 27))
    for first, second in ((0, 1), (2, 3)):
        assert torch.equal(batch.noise[second], -batch.noise[first])
        for name in ("picture", "flip", "timestep", "posterior"):
            assert torch.equal(getattr(batch, name)[second], getattr(batch, name)[first])
    assert torch.equal(batch.noise[::2], plain.noise)


@pytest.mark.parametrize("count", [2, 4, 5])
def test_antithetic_pairs_show_every_picture_equally_often(pplus: pp.PPlus, pictures: Pictures, count: int) -> None:
    cache = LatentCache.encode(pplus.pipe.vae, to_pixels(pictures[:count], 64))
    rule = BatchRule(4, 1000, 27, antithetic=True)
    shown = torch.cat([Batch.of("k", step, cache, rule).picture for step in range(count)])
    assert shown.bincount(minlength=count).tolist() == [4] * count


@pytest.mark.parametrize("name", ["stratified", "antithetic"])
def test_one_sample_has_no_parts_and_no_partner(pplus: pp.PPlus, pictures: Pictures, name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} needs a batch_size of 2 or more, not 1"):
        learn(pplus, pictures, batch_size=1, **{name: True})


def test_a_bias_draws_late_timesteps_more_often(cache: LatentCache) -> None:
    rule = BatchRule(200, 1000, 27, timestep_bias=3.0)
    timesteps = torch.cat([Batch.of("k", step, cache, rule).timestep for step in range(5)]).float()
    assert timesteps.mean() == pytest.approx(750, abs=4 * 194 / 1000**0.5)  # of 1 - u³: 3/4, deviation .194
    assert 0 <= timesteps.min() <= timesteps.max() < 1000


# ---- what is minimised


def test_min_snr_weighs_early_timesteps_down(pplus: pp.PPlus, pictures: Pictures) -> None:
    pipe = pplus.pipe
    cache = LatentCache.encode(pipe.vae, to_pixels(pictures, 64))
    batch = Batch.of("0/<x>", 0, cache, BatchRule(4, 1000, 27))
    scheduler, states = training_scheduler(pipe), pplus.text_states([["a house"] * 16] * 4)
    with torch.no_grad():
        plain, weighed = (
            denoising_losses(DenoiserCall.of(pipe), scheduler, cache.sample(batch), batch, states, m)
            for m in (None, 5.0)
        )
    clean = scheduler.alphas_cumprod[batch.timestep]
    snr = clean / (1 - clean)
    torch.testing.assert_close(weighed / plain, snr.clamp(max=5.0) / (snr + 1), rtol=1e-5, atol=1e-6)


def test_colour_copies_are_the_same_every_time_and_leave_the_pictures_first(pictures: Pictures) -> None:
    pixels = to_pixels(pictures, 64)
    copies = jittered(pixels, 2, "0/<x>")
    assert torch.equal(copies, jittered(pixels, 2, "0/<x>"))
    assert torch.equal(copies[: len(pixels)], pixels)
    changes = (copies.view(3, *pixels.shape) - pixels).abs().mean((1, 2, 3, 4))
    assert (changes[1:] > 0.01).all()
    assert copies.abs().max() <= 1


def test_every_colour_copy_is_drawn(pplus: pp.PPlus, pictures: Pictures) -> None:
    cache = LatentCache.encode(pplus.pipe.vae, jittered(to_pixels(pictures, 64), 1, "k"), variants=2)
    drawn = Batch.of("k", 0, cache, BatchRule(100, 1000, 2, flip=False)).picture
    assert set(drawn.tolist()) == set(range(10))
    assert (drawn % 5).tolist() == [i % 5 for i in range(100)]


# ---- side by side


def folders() -> list[Path]:
    return [CONCEPTS / name for name in ("robot", "teapot")]


@pytest.mark.slow
def test_together_is_alone_in_float64(exact: pp.PPlus, tmp_path: Path) -> None:
    options: Any = {"steps": 20, "batch_size": 2, "preview_every": 0, "progress": False}
    together = run_inversions(exact, folders(), out=tmp_path, **options)
    for folder, run in zip(folders(), together, strict=True):
        alone = run_inversion(exact, folder, **options)
        torch.testing.assert_close(run.concept.rows, alone.concept.rows, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(torch.tensor(run.losses), torch.tensor(alone.losses), rtol=1e-6, atol=0)
        assert pp.Concept.load(tmp_path / folder.name / "concept.safetensors").sha256 == run.concept.sha256


def test_one_that_is_behind_catches_up(pplus: pp.PPlus, tmp_path: Path) -> None:
    options: Any = {"batch_size": 2, "preview_every": 0, "progress": False}
    straight = run_inversions(pplus, folders(), out=tmp_path / "straight", steps=4, **options)
    run_inversion(pplus, folders()[0], out=tmp_path / "x" / "robot", steps=3, **options)
    resumed = run_inversions(pplus, folders(), out=tmp_path / "x", steps=4, **options)
    assert [run.resumed for run in resumed] == [3, 0]
    for run, whole in zip(resumed, straight, strict=True):
        torch.testing.assert_close(run.concept.rows, whole.concept.rows, rtol=1e-3, atol=1e-4)
    assert [run.resumed for run in run_inversions(pplus, folders(), out=tmp_path / "x", steps=4, **options)] == [4, 4]


def test_two_of_one_name_are_refused(pplus: pp.PPlus, tmp_path: Path) -> None:
    with pytest.raises(ConceptError, match="two concepts have the token <robot>"):
        run_inversions(pplus, [folders()[0]] * 2, out=tmp_path / "x", steps=1)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    place = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*call, "-m", "tests.training.shared_run", str(tmp_path / "two")], check=True, timeout=300, env=place
    )
    subprocess.run(
        [sys.executable, "-m", "tests.training.shared_run", str(tmp_path / "one")], check=True, timeout=300, env=place
    )
    for name in ("robot", "teapot"):
        two, one = (pp.Concept.load(tmp_path / n / name / "concept.safetensors").rows for n in ("two", "one"))
        torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-6)
    two, one = (load_file(tmp_path / n / "denoiser/pipeline/unet" / WEIGHTS) for n in ("two", "one"))
    for key, weight in one.items():
        torch.testing.assert_close(two[key], weight, rtol=1e-9, atol=1e-9)
    started = pp.Concept.load(tmp_path / "one" / "robot" / "concept.safetensors")
    assert started.provenance["steps"] == 20


def test_a_process_without_samples_has_gradients_of_zero(pplus: pp.PPlus, pictures: Pictures) -> None:
    """Else it would miss the sums that the others wait in."""
    cache = LatentCache.encode(pplus.pipe.vae, to_pixels(pictures, 64))
    settings = InversionSettings(batch_size=1, steps=1)
    blank = pp.Concept("<x>", initial_rows(pplus, "house", settings).expand(16, -1, -1), pplus.layers)
    trainer = rows_step(pplus, [(blank, cache)], settings)
    summed: list[torch.Tensor] = []
    trainer.distributed.share = lambda _samples: range(0)
    trainer.distributed.add = lambda *tensors: summed.extend(tensors)
    with frozen(pplus.pipe.unet, pplus.pipe.text_encoder):
        trainer.gradients(trainer.trainables, [trainer.trainables[0].next_batch()])
    assert [tuple(tensor.shape) for tensor in summed] == [(1,), (16, 1, pplus.width)]
    assert all((tensor == 0).all() for tensor in summed)


def test_a_batch_is_shared_without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for rank in range(3):
        processes = Distributed()
        processes.count, processes.rank = 3, rank
        shares += list(processes.share(8))
    assert shares == list(range(8))


# ---- how the denoiser runs


def denoised(pplus: pp.PPlus, unet: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What ``unet`` predicts, and the gradient at its sixteen contexts."""
    generator = torch.Generator().manual_seed(0)
    own = pplus.pipe.unet
    noisy = torch.randn(2, own.config.in_channels, 16, 16, generator=generator).to(own.device, own.dtype)
    context = torch.randn(2, pplus.positions, 16 * pplus.width, generator=generator).to(own.device, own.dtype)
    context.requires_grad_()
    timestep = torch.tensor([10, 900], device=own.device)
    predicted = unet(noisy, timestep, encoder_hidden_states=context, return_dict=False)[0]
    predicted.square().sum().backward()
    assert context.grad is not None
    return predicted.detach(), context.grad


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_denoiser_is_the_same_one_with_its_hooks(pplus: pp.PPlus) -> None:
    with frozen(pplus.pipe.unet):
        wanted = denoised(pplus, pplus.pipe.unet)
        compiled = faster(pplus.pipe.unet, "compiled", backend="aot_eager")
        for _ in range(2):
            for found, value in zip(denoised(pplus, compiled), wanted, strict=True):
                torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)
        assert compiled.dtype is pplus.pipe.unet.dtype


@pytest.mark.gpu
def test_a_graph_is_the_same_denoiser_with_its_hooks() -> None:
    with pp.PPlus(pp.load("pocket", device="cuda")) as pplus, frozen(pplus.pipe.unet):
        wanted = denoised(pplus, pplus.pipe.unet)
        graphed = faster(pplus.pipe.unet, "graphed")
        for _ in range(3):
            for found, value in zip(denoised(pplus, graphed), wanted, strict=True):
                torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)


def test_a_graph_needs_cuda(pplus: pp.PPlus, pictures: Pictures) -> None:
    with pytest.raises(SettingsError, match="speed graphed needs CUDA, not cpu"):
        learn(pplus, pictures, speed="graphed")


def test_the_speed_may_change_when_a_run_goes_on(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = learn(pplus, pictures)
    learn(pplus, pictures, steps=2, out=tmp_path / "x")
    asked: list[str] = []
    monkeypatch.setattr("promptplus.training.token_rows.faster", lambda unet, speed: asked.append(speed) or unet)
    again = learn(pplus, pictures, speed="compiled", out=tmp_path / "x")
    assert asked == ["compiled"]
    assert torch.equal(again.concept.rows, straight.concept.rows)


@pytest.mark.slow
def test_the_gpu_benchmark_runs_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--smallest"])
    printed = capsys.readouterr().out
    assert all(f"{part.__name__}: " in printed for part in gpu.PARTS)
    assert "published / ours" in printed
    if not torch.cuda.is_available():
        gpu.main([])
        assert "nothing was measured" in capsys.readouterr().out
