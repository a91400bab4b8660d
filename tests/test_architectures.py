"""P+ and XTI on every kind of model: tiny random pipelines of the real classes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import promptplus as pp
from promptplus.denoiser_calls import DenoiserCall
from promptplus.denoisers import denoiser_of, models_of
from promptplus.errors import ConceptError, ModelError, PromptError
from promptplus.shared_hooks import SharedHook
from promptplus.text_states import PackedText
from promptplus.training.dreambooth import dreambooth
from promptplus.training.invert import run_inversion
from tests import tiny_models

TINY = ("Stable Diffusion 2", "SDXL", "PixArt-Sigma", "Sana")
# random token embeddings have norms of five and more: a high rate
QUICK: dict[str, Any] = {"steps": 2, "batch_size": 1, "learning_rate": 0.2, "progress": False, "preview_every": 0}
MADE: dict[str, Any] = {}


@pytest.fixture(params=TINY)
def pplus(request: pytest.FixtureRequest) -> Iterator[pp.PPlus]:
    with pp.PPlus(made(request.param)) as pplus:
        yield pplus


@pytest.fixture
def sdxl() -> Iterator[pp.PPlus]:
    with pp.PPlus(made("SDXL")) as pplus:
        yield pplus


def made(name: str) -> Any:
    """A pipeline, made once for all tests."""
    if name not in MADE:
        MADE[name] = tiny_models.MODELS[name]()
    return MADE[name]


def draw(pplus: pp.PPlus, prompt: Any, **options: Any) -> Tensor:
    """Latents of two denoising steps."""
    call = {**tiny_models.small(pplus.pipe), "output_type": "latent", "generator": torch.Generator().manual_seed(0)}
    return pplus.pipe(**pplus.encode(prompt, **options), **call).images


def inputs(pplus: pp.PPlus, prompt: Any) -> list[Tensor]:
    """The text that each layer gets in the first denoising step."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
            seen.setdefault(name, kwargs["encoder_hidden_states"].clone())

        return hook

    denoiser, layers = denoiser_of(pplus.pipe), pplus.layers
    handles = [
        denoiser.get_submodule(path).register_forward_pre_hook(keep(name), with_kwargs=True)
        for name, path in zip(layers.names, layers.module_paths(), strict=True)
    ]
    draw(pplus, prompt)
    for handle in handles:
        handle.remove()
    return [seen[name] for name in layers.names]


def word_concept(pplus: pp.PPlus, word: str) -> pp.Concept:
    """A concept whose rows are a word's token embeddings."""
    row = torch.cat(
        [e.table[e.tokenizer(f" {word}", add_special_tokens=False).input_ids] for e in pplus.encoders], dim=-1
    )
    assert row.shape == (1, pplus.width)
    encoders = tuple(pplus.widths.items()) if len(pplus.widths) > 1 else ()
    rows = row.detach().expand(len(pplus.layers), 1, -1)
    return pp.Concept("<x>", rows, pplus.layers, initializer=word, class_word=word, encoders=encoders)


def test_only_the_named_layer_sees_its_text(pplus: pp.PPlus) -> None:
    before = inputs(pplus, "a red house")
    for layer in (0, len(pplus.layers) // 2, len(pplus.layers) - 1):
        after = inputs(pplus, {"default": "a red house", pplus.layers.names[layer]: "a blue cat"})
        changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [number == layer for number in range(len(pplus.layers))]


def test_a_concept_made_of_a_words_embedding_means_that_word(pplus: pp.PPlus) -> None:
    expected = pplus.encode("a red house")
    pplus.add(word_concept(pplus, "house"))
    found = pplus.encode("a red <x>")
    for name, value in expected.items():
        if value is None:
            assert found[name] is None  # type: ignore[literal-required]
        else:  # the mean of equal rows differs in its last bit
            tolerance = 1e-5 if "pooled" in name else 0
            torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance)  # type: ignore[literal-required]


def test_three_steps_move_every_row_and_nothing_else(pplus: pp.PPlus, tmp_path: Path) -> None:
    pictures = [Image.effect_noise((64, 64), 90).convert("RGB") for _ in range(2)]
    before = {name: [p.detach().clone() for p in m.parameters()] for name, m in models_of(pplus.pipe).items()}
    run = run_inversion(pplus, pictures, "<x>", "house", **{**QUICK, "steps": 3, "batch_size": 2})
    assert all(share > 0 for share in run.share_moved)
    for part in run.concept.by_encoder(run.concept.rows - word_concept(pplus, "house").rows).values():
        assert (part.abs().amax(dim=-1) > 0).all()
    for name, model in models_of(pplus.pipe).items():
        assert all(torch.equal(a, b) for a, b in zip(before[name], model.parameters(), strict=True)), name
    loaded = pp.Concept.load(run.concept.save(tmp_path / "x.safetensors"))
    assert vars(loaded) | {"rows": 0} == vars(run.concept) | {"rows": 0}
    assert torch.equal(loaded.rows, run.concept.rows)
    pplus.add(loaded)
    assert torch.isfinite(draw(pplus, "a <x>")).all()


def test_padding_that_is_cut_off_changes_nothing(pplus: pp.PPlus) -> None:
    """Training leaves it out: with T5 it would be nearly all of the memory."""
    texts = [["a red house"] * len(pplus.layers), ["a photo of a red house in the snow"] * len(pplus.layers)]
    whole, short = (pplus.text_states(texts, cut_padding=cut) for cut in (False, True))
    noisy = torch.randn(
        2, denoiser_of(pplus.pipe).config.in_channels, 16, 16, generator=torch.Generator().manual_seed(0)
    )
    call = DenoiserCall.of(pplus.pipe)
    with torch.no_grad():
        expected, found = (call(noisy, torch.tensor(500), states.packed()) for states in (whole, short))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (short.states.shape[2] < whole.states.shape[2]) == (whole.mask is not None)


def test_a_training_repeats_bit_for_bit(pplus: pp.PPlus) -> None:
    pictures = [Image.effect_noise((64, 64), 90).convert("RGB")]
    options = {**QUICK, "batch_size": 2}
    whole = run_inversion(pplus, pictures, "<x>", "house", **options).concept
    parts = run_inversion(pplus, pictures, "<x>", "house", micro_batch=1, **options).concept
    again = run_inversion(pplus, pictures, "<x>", "house", **options).concept
    assert torch.equal(whole.rows, again.rows)
    torch.testing.assert_close(parts.rows, whole.rows, rtol=1e-3, atol=1e-3)  # Adam enlarges the last bits


def test_gradient_checkpointing_changes_no_gradient(pplus: pp.PPlus) -> None:
    """Its second pass runs outside the denoiser's call, so no hook may keep anything of that."""
    pictures = [Image.effect_noise((64, 64), 90).convert("RGB")]
    plain = run_inversion(pplus, pictures, "<x>", "house", **QUICK).concept
    denoiser = denoiser_of(pplus.pipe)
    denoiser.enable_gradient_checkpointing()
    try:
        assert torch.equal(run_inversion(pplus, pictures, "<x>", "house", **QUICK).concept.rows, plain.rows)
    finally:
        denoiser.disable_gradient_checkpointing()


@pytest.mark.parametrize("name", TINY)
def test_remove_leaves_no_trace(name: str) -> None:
    pipe = tiny_models.MODELS[name]()
    pplus = pp.PPlus(pipe)
    pplus.encode("a house")
    pplus.remove()
    for model in models_of(pipe).values():
        hooks = [
            hook for m in model.modules() for own in (m._forward_pre_hooks, m._forward_hooks) for hook in own.values()
        ]
        assert not [hook for hook in hooks if isinstance(hook, SharedHook)]  # transformers leaves some of its own


def test_states_of_another_width_are_one_sentence(pplus: pp.PPlus) -> None:
    denoiser = denoiser_of(pplus.pipe)
    noisy = torch.zeros(1, denoiser.config.in_channels, 16, 16)
    call = DenoiserCall.of(pplus.pipe)
    text = PackedText(torch.zeros(1, 3, 7), pooled=torch.zeros(1, 48))
    with pytest.raises(ModelError, match=r"text states of width 7; it takes \d+, or \d+ as PPlus\.encode packs them"):
        call(noisy, torch.tensor(1), text)


def test_transformers_share_rows_by_default(sdxl: pp.PPlus) -> None:
    pictures = [Image.effect_noise((64, 64), 90).convert("RGB")]
    shared = run_inversion(sdxl, pictures, "<x>", "house", **QUICK).concept
    own = run_inversion(sdxl, pictures, "<x>", "house", tying="layer", **QUICK).concept
    assert shared.tying == "transformer"
    assert len(shared.rows.unique(dim=0)) == len(sdxl.layers.transformers) < len(sdxl.layers)
    assert len(own.rows.unique(dim=0)) == len(sdxl.layers)


def test_both_text_encoders_are_in_the_file(sdxl: pp.PPlus, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    concept = word_concept(sdxl, "house")
    names = load_file(concept.save(tmp_path / "x.safetensors")).keys()
    assert names == {f"{encoder}.{layer}" for encoder in ("clip_l", "clip_g") for layer in sdxl.layers.names}
    plain = load_file(concept.save_approximation(tmp_path / "y.safetensors"))
    assert {name: tuple(value.shape) for name, value in plain.items()} == {"clip_l": (1, 32), "clip_g": (1, 48)}


def test_dreambooth_trains_a_copy_that_draws(pplus: pp.PPlus, tmp_path: Path) -> None:
    pictures = [Image.effect_noise((64, 64), 90).convert("RGB")]
    options: dict[str, Any] = {"steps": 1, "batch_size": 1, "prior_weight": 0.0, "learning_rate": 0.1}
    run = dreambooth(pplus, pictures, "house", out=tmp_path / "run", progress=False, preview_every=1, **options)
    with pp.PPlus(pp.load(run.product, device="cpu")) as tuned:
        assert torch.isfinite(draw(tuned, "a sks house")).all()
        assert not torch.equal(draw(tuned, "a sks house"), draw(pplus, "a sks house"))


def test_pooled_layers_are_refused_where_nothing_is_pooled() -> None:
    with (
        pp.PPlus(made("PixArt-Sigma")) as pplus,
        pytest.raises(PromptError, match="takes no pooled embedding"),
    ):
        pplus.encode("a house", pooled_layers="early")


def test_a_mask_of_another_length_is_one_sentence() -> None:
    with pp.PPlus(made("Sana")) as pplus:
        embeds = pplus.encode("a house")
        embeds["prompt_attention_mask"] = embeds["prompt_attention_mask"][:, :7]  # type: ignore[typeddict-item]
        embeds["negative_prompt_attention_mask"] = embeds["negative_prompt_attention_mask"][:, :7]  # type: ignore[typeddict-item]
        with pytest.raises(ModelError, match="the mask has 7 tokens; it has 300"):
            pplus.pipe(**embeds, **tiny_models.small(pplus.pipe))


def test_previews_have_the_stock_pipelines_empty_negative_prompt(sdxl: pp.PPlus) -> None:
    states = sdxl.text_states([["a house"] * len(sdxl.layers)])
    assert not sdxl.without_negative(states).states.any()
    with pp.PPlus(made("Stable Diffusion 2")) as other:
        plain = other.text_states([["a house"] * 16])
        assert torch.equal(other.without_negative(plain).states, other.text_states([[""] * 16]).states)


def test_a_concept_of_one_text_encoder_is_refused(sdxl: pp.PPlus) -> None:
    rows = torch.zeros(len(sdxl.layers), 1, sdxl.width)
    with pytest.raises(ConceptError, match="use the model it was learned on"):
        sdxl.add(pp.Concept("<x>", rows, sdxl.layers))
    with pytest.raises(ConceptError, match="are not those of"):
        pp.Concept("<x>", rows, sdxl.layers, encoders=(("clip_l", 3), ("clip_g", 4)))


def test_the_pooled_embedding_is_of_the_default_text(sdxl: pp.PPlus) -> None:
    prompt = "a red house || coarse: a blue cat"
    pooled = sdxl.encode(prompt)["pooled_prompt_embeds"]  # type: ignore[typeddict-item]
    torch.testing.assert_close(pooled, sdxl.encode("a red house")["pooled_prompt_embeds"])  # type: ignore[typeddict-item]
    coarse = sdxl.encode(prompt, pooled_layers="coarse")["pooled_prompt_embeds"]  # type: ignore[typeddict-item]
    torch.testing.assert_close(coarse, sdxl.encode("a blue cat")["pooled_prompt_embeds"])  # type: ignore[typeddict-item]
    with pytest.raises(PromptError, match="pooled_layers have different texts"):
        sdxl.encode(prompt, pooled_layers="coarse,fine")


def test_no_negative_prompt_is_zeros_as_in_the_stock_pipeline(sdxl: pp.PPlus) -> None:
    stock = sdxl.pipe.encode_prompt("a house", negative_prompt=None)
    given, empty = sdxl.encode("a house"), sdxl.encode("a house", "")
    assert torch.equal(given["negative_prompt_embeds"][..., : sdxl.width], stock[1])
    assert not given["negative_prompt_embeds"].any()
    assert empty["negative_prompt_embeds"].any()


@pytest.mark.parametrize("skip", [None, 0, 1])
def test_clip_skip_is_the_stock_pipelines(sdxl: pp.PPlus, skip: int | None) -> None:
    stock = sdxl.pipe.encode_prompt("a house", clip_skip=skip)
    found = sdxl.encode("a house", clip_skip=skip)["prompt_embeds"]
    assert torch.equal(found[..., : sdxl.width], stock[0])
    with pytest.raises(PromptError, match="clip_skip is 0 to 2"):
        sdxl.encode("a house", clip_skip=3)
