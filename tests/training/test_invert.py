import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import promptplus as pp
from promptplus.denoiser_calls import DenoiserCall
from promptplus.errors import ConceptError, PromptPlusError, SettingsError, TrainingError
from promptplus.pictures import to_pixels
from promptplus.templates import OBJECT_TEMPLATES, STYLE_TEMPLATES, captions
from promptplus.text_states import TextStates
from promptplus.training.batches import Batch, BatchRule, LatentCache
from promptplus.training.first_rows import initial_rows
from promptplus.training.invert import run_inversion
from promptplus.training.loss import denoising_loss, denoising_losses
from promptplus.training.noise_schedule import training_scheduler
from promptplus.training.settings import InversionSettings
from promptplus.training.token_rows import TokenRows, rows_step
from promptplus.training.trainable import frozen

Pictures = list[Image.Image]


def learn(pplus: pp.PPlus, pictures: Pictures, **options: Any) -> pp.Concept:
    return pp.invert(pplus, pictures, "<x>", "house", progress=False, **{"steps": 2, "batch_size": 2, **options})


@pytest.fixture
def cache(pipe: Any, pictures: Pictures) -> LatentCache:
    return LatentCache.encode(pipe.vae, to_pixels(pictures, 64))


def draw(cache: LatentCache, key: str = "0/<x>", step: int = 3, batch: int = 8, flip: bool = True) -> Batch:
    return Batch.of(key, step, cache, BatchRule(batch, 1000, 27, flip=flip))


# ---- what is trained


def test_every_row_moves_and_nothing_else(pplus: pp.PPlus, pictures: Pictures) -> None:
    pipe = pplus.pipe
    models = {"unet": pipe.unet, "vae": pipe.vae, "text_encoder": pipe.text_encoder}
    before = {name: [p.detach().clone() for p in model.parameters()] for name, model in models.items()}
    flags = [p.requires_grad for model in models.values() for p in model.parameters()]
    run = run_inversion(pplus, pictures, "<x>", "house", steps=2, batch_size=2, progress=False)
    assert len(run.moved) == 16
    assert min(run.moved) > 0
    for name, model in models.items():
        assert all(torch.equal(a, b) for a, b in zip(before[name], model.parameters(), strict=True)), name
        assert all(p.grad is None for p in model.parameters()), name
        assert not model.training
    assert [p.requires_grad for model in models.values() for p in model.parameters()] == flags
    assert len(pipe.tokenizer) == pipe.text_encoder.config.vocab_size
    assert not pplus.concepts


def test_ti_keeps_one_row_for_all_layers(pplus: pp.PPlus, pictures: Pictures) -> None:
    concept = learn(pplus, pictures, method="ti", vectors=2)
    assert concept.tying == "all"
    assert concept.rows.shape == (16, 2, 128)
    assert torch.equal(concept.rows, concept.rows[:1].expand_as(concept.rows))


def test_equal_runs_give_equal_bits_and_other_seeds_other_rows(pplus: pp.PPlus, pictures: Pictures) -> None:
    first, again, other = (learn(pplus, pictures, seed=seed).rows for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_does_not_depend_on_the_worlds_random_state(pplus: pp.PPlus, pictures: Pictures) -> None:
    first = learn(pplus, pictures).rows
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(learn(pplus, pictures).rows, first)
    assert torch.equal(torch.get_rng_state(), state)


class PlainTextualInversion:
    """The oracle: stock textual inversion by the book. A new token, a larger table, its gradient row alone kept."""

    def __init__(self, pipe: Any, token: str, word: str) -> None:
        self.pipe = pipe
        pipe.tokenizer.add_tokens([token])
        pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer), mean_resizing=False)
        self.table = pipe.text_encoder.get_input_embeddings().weight
        self.row = pipe.tokenizer.convert_tokens_to_ids(token)
        with torch.no_grad():
            self.table[self.row] = self.table[pipe.tokenizer.convert_tokens_to_ids(f"{word}</w>")]

    def train(
        self, cache: LatentCache, steps: int, batch: int, token: str, betas: tuple[float, float] = (0.9, 0.999)
    ) -> Tensor:
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler.from_config(self.pipe.scheduler.config)
        optimiser = torch.optim.AdamW([self.table], lr=0.005, betas=betas, weight_decay=0.0)
        for step in range(steps):
            drawn = draw(cache, f"0/{token}", step, batch)
            ids = self.pipe.tokenizer(
                captions("object", token, drawn.template), padding="max_length", return_tensors="pt"
            ).input_ids
            states = self.pipe.text_encoder(ids)[0]
            latents = cache.sample(drawn)
            noisy = scheduler.add_noise(latents, drawn.noise, drawn.timestep).double()
            predicted = self.pipe.unet(noisy, drawn.timestep, encoder_hidden_states=states).sample
            optimiser.zero_grad()
            velocity = scheduler.config.prediction_type == "v_prediction"
            target = scheduler.get_velocity(latents, drawn.noise, drawn.timestep) if velocity else drawn.noise
            (predicted - target).square().mean().backward()
            assert self.table.grad is not None
            others = torch.arange(len(self.table)) != self.row
            self.table.grad[others] = 0
            optimiser.step()
        return self.table[self.row].detach()


@pytest.mark.parametrize("betas", [(0.9, 0.999), pytest.param((0.8, 0.95), marks=pytest.mark.slow)])
def test_ti_equals_plain_stock_textual_inversion_in_float64(cache: LatentCache, betas: tuple[float, float]) -> None:
    stock = pp.load("pocket", device="cpu", dtype=torch.float64)
    ours = pp.load("pocket", device="cpu", dtype=torch.float64)
    oracle = PlainTextualInversion(stock, "<x>", "house").train(cache, 10, 2, "<x>", betas)
    settings = InversionSettings(
        method="ti", steps=10, batch_size=2, beta1=betas[0], beta2=betas[1], templates="picture"
    )
    with pp.PPlus(ours) as pplus, frozen(ours.unet, ours.text_encoder):
        start = initial_rows(pplus, "house", settings)
        blank = pp.Concept("<x>", start.expand(16, -1, -1), pplus.layers, tying="all")
        trainer = rows_step(pplus, [(blank, cache)], settings)
        for _step in range(settings.steps):
            trainer.advance()
    row = trainer.trainables[0].rows.unique.detach()
    assert (row - start).norm() > 0.1
    torch.testing.assert_close(row[0, 0], oracle, rtol=1e-9, atol=1e-11)


def test_xti_with_tied_gradients_is_ti(pplus: pp.PPlus, cache: LatentCache) -> None:
    """The sum of XTI's gradients over the layers is TI's gradient, when all rows are equal."""
    batch = draw(cache, batch=2)
    scheduler = training_scheduler(pplus.pipe)
    start = initial_rows(pplus, "house", InversionSettings())
    gradients = []
    with frozen(pplus.pipe.unet, pplus.pipe.text_encoder):
        for groups in ((0,) * 16, tuple(range(16))):
            rows = TokenRows(nn.Parameter(start.repeat(max(groups) + 1, 1, 1)), groups)
            texts = [[caption] * 16 for caption in captions("object", "<x>", batch.template)]
            states = pplus.text_states(texts, {"<x>": rows.placeholder})
            denoising_loss(DenoiserCall.of(pplus.pipe), scheduler, cache.sample(batch), batch, states).backward()
            assert rows.unique.grad is not None
            gradients.append(rows.unique.grad.sum(dim=0))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_loss_is_the_error_against_what_the_model_predicts(pplus: pp.PPlus, cache: LatentCache, kind: str) -> None:
    """A denoiser that answers with the exact target has no loss."""
    batch, latents = draw(cache), cache.sample(draw(cache))
    scheduler = type(training_scheduler(pplus.pipe)).from_config(pplus.pipe.scheduler.config, prediction_type=kind)
    alpha = scheduler.alphas_cumprod[batch.timestep].view(-1, 1, 1, 1)
    velocity = alpha.sqrt() * batch.noise - (1 - alpha).sqrt() * latents
    target = batch.noise if kind == "epsilon" else velocity

    class Perfect:
        dtype = torch.float32

        def __call__(self, *_args: Any, **_kwargs: Any) -> tuple[Tensor]:
            return (target,)

    call, text = DenoiserCall.of(pplus.pipe, Perfect()), TextStates(torch.zeros(8, 16, 4, 8))
    assert denoising_loss(call, scheduler, latents, batch, text) < 1e-10
    target = target + 1
    assert denoising_loss(call, scheduler, latents, batch, text).item() == pytest.approx(1, abs=1e-5)


# ---- batch and latents


def test_draws_are_a_function_of_seed_concept_step_and_sample(cache: LatentCache) -> None:
    one = draw(cache)
    for other in (draw(cache, key="1/<x>"), draw(cache, key="0/<y>"), draw(cache, step=4)):
        assert not torch.equal(one.noise, other.noise)
    few = draw(cache, batch=2)
    assert torch.equal(one.noise[:2], few.noise)
    assert torch.equal(one.timestep[:2], few.timestep)
    assert one.template[:2] == few.template


def test_draws_cover_what_they_should(cache: LatentCache) -> None:
    many = [draw(cache, step=step) for step in range(100)]
    timesteps = torch.cat([d.timestep for d in many]).float()
    assert timesteps.min() >= 0
    assert timesteps.max() < 1000
    assert abs(timesteps.mean() - 499.5) < 4 * 289 / math.sqrt(800)
    assert {t for d in many for t in d.template} == set(range(27))
    assert torch.cat([d.picture for d in many]).bincount().tolist() == [160] * 5
    mirrored = torch.cat([d.flip for d in many]).float().mean()
    assert abs(mirrored - 0.5) < 4 * 0.5 / math.sqrt(800)
    assert draw(cache, flip=False).flip.sum() == 0


def test_cached_latents_are_what_encoding_would_give(pipe: Any, pictures: Pictures, cache: LatentCache) -> None:
    pixels = to_pixels(pictures, 64)
    batch = draw(cache)
    latents = cache.sample(batch)
    for i in range(8):
        picture = pixels[batch.picture[i]]
        seen = picture.flip(-1) if batch.flip[i] else picture
        with torch.no_grad():
            posterior = pipe.vae.encode(seen[None]).latent_dist
        expected = (posterior.mean + posterior.std * batch.posterior[i]) * pipe.vae.config.scaling_factor
        torch.testing.assert_close(latents[i], expected[0], rtol=1e-4, atol=1e-4)


def test_templates_have_one_place_for_the_token() -> None:
    for template in OBJECT_TEMPLATES + STYLE_TEMPLATES:
        assert template.count("{}") == 1
    assert (len(set(OBJECT_TEMPLATES)), len(set(STYLE_TEMPLATES))) == (27, 18)


# ---- the run folder and its settings


def test_a_run_folder_holds_all_of_the_run(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptplus.training.previews.SEEDS", (0,))
    out = tmp_path / "runs" / "x"
    run = run_inversion(
        pplus, pictures, "<x>", "house", steps=3, batch_size=2, out=out, preview_every=2, progress=False
    )
    concept = run.concept
    assert torch.equal(pp.Concept.load(out / "concept.safetensors").rows, concept.rows)
    settings = json.loads((out / "settings.json").read_text())
    assert settings["provenance"]["steps"] == 3
    assert settings["initializer"] == "house"
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [0, 1, 2]
    assert all(0 < entry["loss"] < 10 for entry in log)
    strips = sorted(p.name for p in (out / "previews").iterdir())
    assert strips == ["class-word.png", *(f"step-{step:05d}.png" for step in (0, 2, 3))]
    assert [step for step, _ in run.previews] == [0, 2, 3]
    assert run.losses == tuple(entry["loss"] for entry in log)
    assert (out / "learned_embeds.safetensors").is_file()
    with pytest.raises(SettingsError, match="was begun with"):
        learn(pplus, pictures, out=out)


def test_a_folders_note_names_the_concept(pplus: pp.PPlus, pictures: Pictures, tmp_path: Path) -> None:
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    note = {"token": "<x>", "initializer": "car", "class_word": "toy", "kind": "style"}
    (tmp_path / "concept.json").write_text(json.dumps(note))
    concept = pp.invert(pplus, tmp_path, steps=1, batch_size=1, progress=False)
    assert {k: getattr(concept, k) for k in note} == note


def test_an_initializer_of_several_pieces_starts_from_their_mean_said_aloud(pplus: pp.PPlus) -> None:
    with pytest.warns(UserWarning, match="starting at their mean"):
        rows = initial_rows(pplus, "red car", InversionSettings(vectors=2))
    table = pplus.pipe.text_encoder.get_input_embeddings().weight
    words = [table[pplus.pipe.tokenizer(w, add_special_tokens=False).input_ids[0]] for w in ("red", "car")]
    torch.testing.assert_close(rows, ((words[0] + words[1]) / 2).detach().expand(1, 2, -1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token": None}, "name the token"),
        ({"initializer": ""}, "name the token"),
        ({"token": "cat"}, "looks like <cat>"),
        ({"steps": 0}, "steps: .* not 0"),
        ({"learning_rate": -1.0}, "learning_rate: "),
        ({"method": "lora"}, "method: "),
        ({"vectors": 0}, "vectors: "),
        ({"stepps": 5}, "stepps is no option"),
        ({"initializer": " "}, "is no word"),
    ],
)
def test_bad_settings_are_refused_before_anything_happens(
    pplus: pp.PPlus, pictures: Pictures, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    call = {"token": "<x>", "initializer": "house", "out": tmp_path / "out", **changes}
    with pytest.raises(PromptPlusError, match=message):
        pp.invert(pplus, pictures, progress=False, **call)
    assert not (tmp_path / "out").exists()


def test_half_precision_gives_the_same_direction(pipe: Any, cache: LatentCache) -> None:
    """Float16's gradients are lifted out of its subnormal range: their direction is float32's."""
    gradients = []
    for dtype in (torch.float32, torch.float16):
        half = pp.load("pocket", device="cpu", dtype=dtype)
        with pp.PPlus(half) as pplus, frozen(half.unet, half.text_encoder):
            start = initial_rows(pplus, "house", InversionSettings())
            blank = pp.Concept("<x>", start.expand(16, -1, -1), pplus.layers)
            trainer = rows_step(pplus, [(blank, cache)], InversionSettings(steps=1, batch_size=2))
            trainer.advance()
            rows = trainer.trainables[0].rows
            assert rows.unique.grad is not None
            assert rows.unique.dtype == torch.float32
            gradients.append(rows.unique.grad.flatten())
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99


def test_a_token_in_use_is_refused(pplus: pp.PPlus, pictures: Pictures, concept: pp.Concept) -> None:
    pplus.add(concept)
    with pytest.raises(ConceptError, match="was added already"):
        pp.invert(pplus, pictures, "<thing>", "house", progress=False)


def test_a_loss_that_is_not_finite_stops_the_run(
    pplus: pp.PPlus, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptplus.training.step.denoising_losses", lambda *a: denoising_losses(*a) * float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        learn(pplus, pictures)
