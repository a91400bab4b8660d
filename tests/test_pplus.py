import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import promptplus as pp
from promptplus.errors import ConceptError, ModelError, PromptError, PromptPlusError
from tests.conftest import latents

PROMPT, NEGATIVE = "a red house on a white background", "blurry"


def sample(pipe: Any, batch: int = 1) -> Tensor:
    return torch.randn(batch, pipe.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(7))


def forward(pipe: Any, states: Tensor) -> Tensor:
    with torch.no_grad():
        return pipe.unet(sample(pipe, len(states)), 500, encoder_hidden_states=states).sample


# ---- the hooks


def test_equal_states_in_every_layer_equal_the_bare_denoiser(pipe: Any) -> None:
    states = torch.randn(2, 7, 128)
    bare = forward(pipe, states)
    with pp.per_layer(pipe.unet):
        assert torch.equal(forward(pipe, states.repeat(1, 1, 16)), bare)
        assert torch.equal(forward(pipe, states), bare)


def test_pack_puts_layer_i_in_slice_i() -> None:
    states = torch.randn(2, 16, 5, 8)
    packed = pp.pack(states)
    assert packed.shape == (2, 5, 128)
    assert torch.equal(packed[..., 3 * 8 : 4 * 8], states[:, 3])


@pytest.mark.parametrize("layer", range(16))
def test_only_the_named_layer_sees_its_text(pplus: pp.PPlus, layer: int) -> None:
    seen: list[Tensor] = []
    handles = [
        pplus.pipe.unet.get_submodule(path).to_k.register_forward_pre_hook(
            lambda _m, args: seen.append(args[0].clone())
        )
        for path in pplus.layers.module_paths()
    ]
    forward(pplus.pipe, pplus.encode("a red house")["prompt_embeds"])
    forward(pplus.pipe, pplus.encode(f"a red house || {layer}: a blue car")["prompt_embeds"])
    for handle in handles:
        handle.remove()
    order = {path: i for i, path in enumerate(pplus.layers.module_paths())}
    assert len(order) == 16
    changed = [i for i, (a, b) in enumerate(zip(seen[:16], seen[16:], strict=True)) if not torch.equal(a, b)]
    assert changed == [layer]


def test_positional_states_and_tuples_are_sliced_too(pplus: pp.PPlus) -> None:
    attention = pplus.pipe.unet.get_submodule(pplus.layers.module_paths()[3])
    states = torch.randn(1, 5, 16 * 128)
    hidden = torch.randn(1, 9, attention.to_q.in_features)
    own = states[..., 3 * 128 : 4 * 128]
    with torch.no_grad():
        assert torch.equal(attention(hidden, states), attention(hidden, encoder_hidden_states=own))
    hook = next(iter(attention._forward_pre_hooks.values()))
    pictures = [torch.zeros(1)]
    _, kwargs = hook(attention, (hidden,), {"encoder_hidden_states": (states, pictures)})
    assert torch.equal(kwargs["encoder_hidden_states"][0], own)
    assert kwargs["encoder_hidden_states"][1] is pictures


def hooks(unet: torch.nn.Module) -> dict[str, tuple[int, int]]:
    return {n: (len(m._forward_pre_hooks), len(m._forward_pre_hooks_with_kwargs)) for n, m in unet.named_modules()}


def test_remove_leaves_no_trace(pipe: Any) -> None:
    modules, before, bare = list(pipe.unet.named_modules()), hooks(pipe.unet), latents(pipe, prompt=PROMPT)
    state = copy.deepcopy(pipe.unet.state_dict())
    pplus = pp.PPlus(pipe)
    latents(pipe, **pplus.encode("a red house || coarse: a blue car"))
    assert hooks(pipe.unet) != before
    pplus.remove()
    pplus.remove()
    assert hooks(pipe.unet) == before
    assert list(pipe.unet.named_modules()) == modules
    assert all(torch.equal(v, state[k]) for k, v in pipe.unet.state_dict().items())
    assert torch.equal(latents(pipe, prompt=PROMPT), bare)
    with pytest.raises(PromptPlusError, match="was removed"):
        pplus.encode("a")


def test_an_unpatched_denoiser_fails_instead_of_painting_garbage(pplus: pp.PPlus) -> None:
    packed = pplus.encode("a")["prompt_embeds"]
    pplus.remove()
    with pytest.raises(RuntimeError, match="shapes"):
        forward(pplus.pipe, packed)


# ---- encode against the stock pipeline


def test_one_prompt_and_one_negative_equal_the_stock_pipeline(pipe: Any) -> None:
    bare = latents(pipe, prompt=PROMPT, negative_prompt=NEGATIVE)
    with pp.PPlus(pipe) as pplus:
        assert torch.equal(latents(pipe, **pplus.encode(PROMPT, NEGATIVE)), bare)


@pytest.mark.parametrize("negative", [NEGATIVE, ["blurry", "dark"]])
def test_batches_equal_the_stock_pipeline(pipe: Any, negative: Any) -> None:
    prompts = [PROMPT, "a blue car"]
    spread = [negative] * 2 if isinstance(negative, str) else negative
    bare = latents(pipe, prompt=prompts, negative_prompt=spread)
    with pp.PPlus(pipe) as pplus:
        ours = latents(pipe, **pplus.encode(prompts, negative))
    assert (ours - bare).norm() / bare.norm() < 1e-5


def test_a_batch_of_two_equals_two_of_one(pplus: pp.PPlus, concept: pp.Concept) -> None:
    pplus.add(concept)
    prompts = ["a <thing> || fine: a red car", "a house || coarse: a <thing>"]
    together = pplus.encode(prompts, NEGATIVE)
    for i, prompt in enumerate(prompts):
        alone = pplus.encode(prompt, NEGATIVE)
        for key, states in alone.items():
            torch.testing.assert_close(together[key][i : i + 1], states, rtol=1e-5, atol=1e-5)


def test_num_images_per_prompt(pplus: pp.PPlus) -> None:
    kwargs = pplus.encode(["a red house", "a blue car || coarse: a fish"])
    two = latents(pplus.pipe, **kwargs, num_images_per_prompt=2)
    assert two.shape[0] == 4
    repeated = {k: v.repeat_interleave(2, dim=0) for k, v in kwargs.items()}
    assert torch.equal(latents(pplus.pipe, **repeated), two)


def test_shapes_dtype_and_device(pipe: Any) -> None:
    with pp.PPlus(pipe) as pplus:
        kwargs = pplus.encode([PROMPT, {"default": "a", "coarse": "b"}, pp.PPlusPrompt("c")])
        length = pipe.tokenizer.model_max_length
        assert set(kwargs) == {"prompt_embeds", "negative_prompt_embeds"}
        for states in kwargs.values():
            assert states.shape == (3, length, 16 * 128)
            assert (states.dtype, states.device) == (torch.float32, pipe.device)
            assert not states.requires_grad


def test_encodes_in_the_encoders_dtype(pipe: Any) -> None:
    half = {**pipe.components, "text_encoder": copy.deepcopy(pipe.text_encoder).bfloat16()}
    with pp.PPlus(type(pipe)(**half, requires_safety_checker=False)) as pplus:
        assert {s.dtype for s in pplus.encode("a").values()} == {torch.bfloat16}


def test_text_forms_agree(pplus: pp.PPlus) -> None:
    forms = ["a red house || coarse: a car", {"default": "a red house", "coarse": "a car"}]
    forms.append(pp.PPlusPrompt("a red house", (("coarse", "a car"),)))
    first, *others = [pplus.encode(form)["prompt_embeds"] for form in forms]
    assert all(torch.equal(first, other) for other in others)


def test_clip_skip_takes_an_earlier_layer_of_the_prompt_only(pplus: pp.PPlus) -> None:
    pipe = pplus.pipe
    ids = pipe.tokenizer(PROMPT, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        expected = pipe.text_encoder.final_layer_norm(hidden[-2])
    skipped, plain = pplus.encode(PROMPT, NEGATIVE, clip_skip=1), pplus.encode(PROMPT, NEGATIVE)
    assert torch.equal(skipped["prompt_embeds"], expected.repeat(1, 1, 16))
    assert torch.equal(skipped["negative_prompt_embeds"], plain["negative_prompt_embeds"])
    assert torch.equal(pplus.encode(PROMPT, clip_skip=0)["prompt_embeds"], plain["prompt_embeds"])


# ---- concepts, warnings, errors


def test_a_concept_changes_only_its_layers_and_never_the_pipeline(pplus: pp.PPlus, concept: pp.Concept) -> None:
    table = pplus.pipe.text_encoder.get_input_embeddings().weight.detach().clone()
    words = len(pplus.pipe.tokenizer)
    pplus.add(concept)
    packed = pplus.encode("a photo of a <thing>")["prompt_embeds"].unflatten(-1, (16, -1))
    assert all(not torch.equal(packed[:, :, 0], packed[:, :, i]) for i in range(1, 16))
    assert torch.equal(pplus.pipe.text_encoder.get_input_embeddings().weight, table)
    assert len(pplus.pipe.tokenizer) == words
    pplus.forget("<thing>")
    with pytest.raises(PromptError, match="no concept defines <thing>"):
        pplus.encode("a photo of a <thing>")


def test_a_concept_made_of_a_words_embedding_means_that_word(pplus: pp.PPlus) -> None:
    pipe = pplus.pipe
    word = pipe.text_encoder.get_input_embeddings().weight[pipe.tokenizer("car", add_special_tokens=False).input_ids[0]]
    pplus.add(pp.Concept("<auto>", word.detach().expand(16, 1, -1).clone(), pplus.layers))
    ours, plain = pplus.encode("a red <auto>, comic"), pplus.encode("a red car, comic")
    torch.testing.assert_close(ours["prompt_embeds"], plain["prompt_embeds"], rtol=1e-5, atol=1e-5)


def test_add_refuses_what_does_not_fit(pplus: pp.PPlus, concept: pp.Concept) -> None:
    pplus.add(concept)
    with pytest.raises(ConceptError, match="was added already"):
        pplus.add(concept)
    wide = pp.Concept("<wide>", torch.zeros(16, 1, 768), pplus.layers, base_model="CompVis/stable-diffusion-v1-4")
    with pytest.raises(ConceptError, match=r"width 768.*width 128.*CompVis/stable-diffusion-v1-4"):
        pplus.add(wide)
    few = pp.LayerMap(pplus.layers.layers[:7])
    with pytest.raises(ConceptError, match="7 layers"):
        pplus.add(pp.Concept("<few>", torch.zeros(7, 1, 128), few))
    with pytest.raises(ConceptError, match="no concept '<dog>'"):
        pplus.forget("<dog>")
    assert list(pplus.concepts) == ["<thing>"]


def test_a_concept_of_another_token_table_is_warned_about(pplus: pp.PPlus) -> None:
    foreign = pp.Concept("<far>", torch.zeros(16, 1, 128), pplus.layers, token_table="0" * 16)
    with pytest.warns(UserWarning, match="learned on another text encoder"):
        pplus.add(foreign)


def test_a_cut_text_is_warned_about_with_its_layers(pplus: pp.PPlus) -> None:
    room = pplus.pipe.tokenizer.model_max_length - 2
    with pytest.warns(UserWarning, match=r"the text of the coarse layers was cut .* left out: 'blue car'"):
        pplus.encode("a house || coarse: " + "red " * room + "blue car")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pplus.encode("red " * room)


@pytest.mark.parametrize(
    ("prompt", "negative", "message"),
    [
        ([], "", "a prompt is"),
        (3, "", "a prompt is"),
        ([3], "", "not 3"),
        (["a", "b"], ["c", "d", "e"], "2 prompts but 3 negatives"),
        ("a", "b || corse: c", "no layer 'corse'"),
    ],
)
def test_bad_input_to_encode(pplus: pp.PPlus, prompt: Any, negative: Any, message: str) -> None:
    with pytest.raises(PromptPlusError, match=message):
        pplus.encode(prompt, negative)


def test_pipelines_that_do_not_fit_are_refused(pipe: Any) -> None:
    class Other:
        unet, tokenizer, text_encoder = pipe.unet, pipe.tokenizer, None

    with pytest.raises(ModelError, match="has no text_encoder"):
        pp.PPlus(Other())
