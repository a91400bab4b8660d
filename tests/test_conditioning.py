"""Prompt parts with strength, time and place, on the pocket model and on a tiny SDXL; time and strength on all models.

Oracles: the denoiser's own attention layers, called with plain states, and the same prompt without parts.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import promptplus as pp
from promptplus.conditioning import Frame, StagedPrompt
from promptplus.denoisers import denoiser_of
from promptplus.errors import LayerError, ModelError, PromptError
from promptplus.generation import generate
from promptplus.packing import Layout, at_timestep, pack_stages
from promptplus.pipelines import SCHEDULERS, own_pipeline
from promptplus.start_image import StartImage
from tests import tiny_models

DEFAULT, PART = "a red house", "a blue car"


@functools.cache
def tiny(model: str) -> Any:
    """A tiny pipeline, which all tests leave as it was."""
    return tiny_models.MODELS[model]()


@pytest.fixture(params=["pocket", "SDXL"])
def pplus(request: pytest.FixtureRequest, pipe: Any) -> Iterator[pp.PPlus]:
    with pp.PPlus(pipe if request.param == "pocket" else tiny("SDXL")) as pplus:
        yield pplus


@pytest.fixture(params=tiny_models.MODELS)
def any_pplus(request: pytest.FixtureRequest) -> Iterator[pp.PPlus]:
    with pp.PPlus(tiny(request.param)) as pplus:
        yield pplus


def states_of(pplus: pp.PPlus, prompt: Any, **options: Any) -> Tensor:
    return pplus.encode(prompt, **options)["prompt_embeds"]


def by_layer(pplus: pp.PPlus, packed: Tensor) -> Tensor:
    """The states of a simple prompt: [layers, tokens, width]."""
    return packed[0].unflatten(-1, (len(pplus.layers), -1)).transpose(0, 1)


def call(pplus: pp.PPlus, embeds: Any, timestep: int = 500, size: tuple[int, int] = (16, 16)) -> Tensor:
    """One call of the denoiser with a pipeline's arguments."""
    denoiser, packed = denoiser_of(pplus.pipe), embeds["prompt_embeds"]
    noise = torch.randn(1, denoiser.config.in_channels, *size, generator=torch.Generator().manual_seed(7))
    more: dict[str, Any] = {}
    if "pooled_prompt_embeds" in embeds:
        more["added_cond_kwargs"] = {"text_embeds": embeds["pooled_prompt_embeds"], "time_ids": torch.zeros(1, 6)}
    if "prompt_attention_mask" in embeds:
        more["encoder_attention_mask"] = embeds["prompt_attention_mask"]
        more |= (
            {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}
            if "PixArt" in type(denoiser).__name__
            else {}
        )
    with torch.no_grad():
        return denoiser(noise, encoder_hidden_states=packed, timestep=torch.tensor([timestep]), **more).sample


# ---- strength


def test_strength_extrapolates_from_the_default(any_pplus: pp.PPlus) -> None:
    pplus = any_pplus
    group = pplus.layers.bands[-1]
    default, part = (by_layer(pplus, states_of(pplus, f"{DEFAULT} || {group}: {text}")) for text in (DEFAULT, PART))
    for strength in (0, 0.5, 1, 2.5, -1):
        made = by_layer(pplus, states_of(pplus, f"{DEFAULT} || {group}*{strength}: {PART}"))
        assert torch.allclose(made, default + strength * (part - default), atol=1e-5)


@pytest.mark.parametrize(("strength", "text"), [(1, PART), (0, DEFAULT)])
def test_strengths_zero_and_one_are_exact(pplus: pp.PPlus, strength: int, text: str) -> None:
    made = states_of(pplus, f"{DEFAULT} || fine*{strength}: {PART}")
    assert torch.equal(made, states_of(pplus, DEFAULT if text == DEFAULT else f"{DEFAULT} || fine: {PART}"))


def test_strength_reaches_its_layers_only(pplus: pp.PPlus) -> None:
    plain, made = (by_layer(pplus, states_of(pplus, text)) for text in (DEFAULT, f"{DEFAULT} || coarse*.5: {PART}"))
    changed = tuple(i for i in range(len(plain)) if not torch.equal(plain[i], made[i]))
    assert changed == pplus.layers.select("coarse")


# ---- time


def test_a_schedule_that_always_says_the_same_is_no_schedule(any_pplus: pp.PPlus) -> None:
    group = any_pplus.layers.bands[-1]
    always = any_pplus.encode(f"{DEFAULT} || {group}: {PART}")
    for parts in (f"{group}@0-1: {PART}", f"{group}@0-.5: {PART} || {group}@.5-1: {PART}"):
        scheduled = any_pplus.encode(f"{DEFAULT} || {parts}")
        assert all(torch.equal(scheduled[name], value) for name, value in always.items() if value is not None)


@pytest.mark.parametrize("timestep", [999, 500, 400, 0])
def test_the_denoiser_takes_the_stage_that_holds_at_its_timestep(any_pplus: pp.PPlus, timestep: int) -> None:
    """0.6 of the denoising is timestep 400 of 1000. Bit for bit, whatever other stages there are."""
    pplus, group = any_pplus, any_pplus.layers.bands[-1]
    scheduled = pplus.encode(f"{DEFAULT} || {group}@0.6-1: {PART}")
    assert scheduled["prompt_embeds"].shape[-1] == 2 * len(pplus.layers) * pplus.width + 2
    held = pplus.encode(f"{DEFAULT} || {group}: {PART}")  # the same two texts, so equal bits
    if timestep > 400:
        layers = by_layer(pplus, held["prompt_embeds"])
        other = pplus.layers.select(pplus.layers.bands[0])[0]  # it reads the default text
        held["prompt_embeds"] = pp.pack(layers[other].expand(layers.shape)[None])
        if (mask := held.get("prompt_attention_mask")) is not None:
            mask = mask.unflatten(1, (len(layers), -1))[:, other]
            held["prompt_attention_mask"] = mask.repeat(1, len(layers))
    assert torch.equal(call(pplus, scheduled, timestep), call(pplus, held, timestep))


def test_rows_of_a_batch_and_the_negative_prompt_have_schedules_of_their_own(pplus: pp.PPlus) -> None:
    embeds: Any = pplus.encode([f"{DEFAULT} || fine@0.5-1: {PART}", DEFAULT], negative="bad || coarse@0-.2: worse")
    assert embeds["prompt_embeds"].shape == embeds["negative_prompt_embeds"].shape
    pooled = embeds.get("pooled_prompt_embeds")
    for row, texts in enumerate([(DEFAULT, DEFAULT, f"{DEFAULT} || fine: {PART}"), (DEFAULT,) * 3]):
        for timestep, text in zip((900, 600, 100), texts, strict=True):
            one = {"prompt_embeds": embeds["prompt_embeds"][row : row + 1]}
            one |= {} if pooled is None else {"pooled_prompt_embeds": pooled[row : row + 1]}
            torch.testing.assert_close(call(pplus, one, timestep), call(pplus, pplus.encode(text), timestep))


def test_all_stages_are_encoded_at_once(pplus: pp.PPlus) -> None:
    calls: list[Any] = []
    handle = pplus.pipe.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    pplus.encode(f"{DEFAULT} || fine@0-.3: {PART} || fine@.3-.6*.5: a green cup", negative="bad")
    handle.remove()
    assert len(calls) == 2


def seen_texts(pplus: pp.PPlus, run: Callable[[], Any]) -> list[tuple[float, bool]]:
    """For each call of the denoiser the timestep, and whether the last layer read the part's text."""
    part = by_layer(pplus, states_of(pplus, f"{DEFAULT} || fine: {PART}"))[-1]
    denoiser, seen, now = pplus.pipe.unet, [], []
    last = denoiser.get_submodule(pplus.layers.module_paths()[-1]).to_k
    handles = [
        denoiser.register_forward_pre_hook(lambda _m, args: now.append(float(args[1]))),
        last.register_forward_pre_hook(lambda _m, args: seen.append((now[-1], torch.equal(args[0][-1], part)))),
    ]
    run()
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of DEIS
@pytest.mark.parametrize("scheduler", [*SCHEDULERS, "leading", "karras"])
def test_windows_hold_with_any_scheduler(pipe: Any, scheduler: str) -> None:
    own = own_pipeline(pipe, scheduler=scheduler if scheduler in SCHEDULERS else "euler")
    changes = {"leading": {"timestep_spacing": "leading"}, "karras": {"use_karras_sigmas": True}}
    own.scheduler = type(own.scheduler).from_config(own.scheduler.config, **changes.get(scheduler, {}))
    with pp.PPlus(own) as pplus:
        embeds = pplus.encode(f"{DEFAULT} || fine@0.3-0.8: {PART}")
        seen = seen_texts(pplus, lambda: own(**embeds, num_inference_steps=10, output_type="latent"))
    assert len(seen) >= 10
    assert all(part == (200 < timestep <= 700) for timestep, part in seen)
    assert {part for _, part in seen} == {True, False}


def test_windows_of_a_start_picture_count_from_pure_noise(pipe: Any) -> None:
    """Image to image begins in the middle of the denoising: its first step already reads what holds there."""
    with pp.PPlus(pipe) as pplus:
        start = StartImage(Image.new("RGB", (64, 64), "white"), strength=0.5)
        prompt = f"{DEFAULT} || fine@0.4-0.8: {PART}"
        seen = seen_texts(pplus, lambda: generate(pplus, [prompt], [0], steps=8, start=start))
    assert len(seen) == 4
    assert seen[0][1]
    assert all(part == (200 < timestep <= 600) for timestep, part in seen)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_borders_of_windows_are_exact_in_half_precision(dtype: torch.dtype) -> None:
    states = torch.arange(3.0).view(1, 3, 1, 1, 1, 1).expand(1, 3, 1, 1, 4, 8).to(dtype)
    packed = pack_stages(states, torch.zeros(1, 3, 0, 8, 8), torch.zeros(1, 3, 0, 1), [1000, 667.333, 333.001])
    layout = Layout.of(packed.shape[-1], 1, 8)
    assert layout == Layout(1, 8, stages=3)
    for timestep, stage in [(999, 0), (667.334, 0), (667.332, 1), (333.01, 1), (333, 2), (0, 2)]:
        assert (at_timestep(packed, layout, timestep) == stage).all()


# ---- place


def outputs(pplus: pp.PPlus, embeds: Any, size: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """For each layer what goes into it and what comes out, in a call of the U-Net."""
    found: list[tuple[Tensor, Tensor]] = []
    layers = [pplus.pipe.unet.get_submodule(path) for path in pplus.layers.module_paths()]
    handles = [layer.register_forward_hook(lambda _m, args, out: found.append((args[0], out))) for layer in layers]
    call(pplus, embeds, size=size)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("size", [(16, 16), (12, 24), (10, 14)])
def test_inside_a_mask_a_layer_says_what_the_part_says_and_outside_the_default(
    pplus: pp.PPlus, size: tuple[int, int]
) -> None:
    """At each layer's own grid: the layer itself, called with plain states of either text, is the oracle."""
    group = pplus.layers.select("coarse")
    default, part = (by_layer(pplus, states_of(pplus, f"{DEFAULT} || coarse: {text}")) for text in (DEFAULT, PART))
    masked = pplus.encode(f"{DEFAULT} || coarse#0,0,0.5,1: {PART}")
    paths = pplus.layers.module_paths()
    for i, (hidden, out) in enumerate(outputs(pplus, masked, size)):
        layer = pplus.pipe.unet.get_submodule(paths[i])
        with torch.no_grad():
            outside, inside = (layer(hidden, encoder_hidden_states=text[i][None]) for text in (default, part))
        if i not in group:
            assert torch.equal(out, outside)
            continue
        grids = [tuple(-(-side // 2**halvings) for side in size) for halvings in range(4)]
        (rows, columns) = next(grid for grid in grids if grid[0] * grid[1] == hidden.shape[1])
        left, right = columns // 2, -(-columns // 2)  # a column in the middle is half inside
        grid = (1, rows, columns, -1)
        assert torch.equal(out.view(grid)[:, :, :left], inside.view(grid)[:, :, :left])
        assert torch.equal(out.view(grid)[:, :, right:], outside.view(grid)[:, :, right:])
        half = torch.lerp(outside, inside, 0.5).view(grid)[:, :, left:right]
        torch.testing.assert_close(out.view(grid)[:, :, left:right], half)


def test_a_mask_of_ones_is_no_mask_and_of_zeros_the_default(pplus: pp.PPlus) -> None:
    black: Any = Image.new("L", (32, 32))
    for mask, text in [((0, 0, 1, 1), PART), (black, DEFAULT)]:
        prompt = pp.PPlusPrompt(DEFAULT, (pp.Part("fine", PART, mask=mask),))
        plain = DEFAULT if text == DEFAULT else f"{DEFAULT} || fine: {text}"
        assert torch.equal(states_of(pplus, prompt), states_of(pplus, plain))


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_hooks_are_exact_for_masks_of_ones_and_zeros(pplus: pp.PPlus, weight: float) -> None:
    """The general way, which a whole mask does not take: states of both texts, and the mask, in one tensor."""
    texts = [by_layer(pplus, states_of(pplus, f"{DEFAULT} || fine: {text}")) for text in (DEFAULT, PART)]
    states = torch.stack(texts)[None, None]
    packed = pack_stages(
        states, torch.full((1, 1, 1, 128, 128), weight), torch.ones(1, 1, 1, len(pplus.layers)), [1000]
    )
    plain: Any = pplus.encode(f"{DEFAULT} || fine: {PART if weight else DEFAULT}")
    assert torch.equal(call(pplus, {**plain, "prompt_embeds": packed}), call(pplus, plain))


def test_masks_lie_over_one_another_and_change_with_time(pplus: pp.PPlus) -> None:
    """Early: left is the car, with a green cup over its upper half. Late: the cup covers all, in one half."""
    prompt = f"{DEFAULT} || fine@0-.5#0,0,.5,1: {PART} || fine#0,0,1,.5: a green cup"
    embeds: Any = pplus.encode(prompt, negative="bad")
    layout = Layout.of(embeds["prompt_embeds"].shape[-1], len(pplus.layers), pplus.width)
    assert (layout.stages, layout.regions) == (2, 2)
    late = pplus.encode(f"{DEFAULT} || fine#0,0,1,.5: a green cup")
    torch.testing.assert_close(call(pplus, embeds, 100), call(pplus, late, 100))
    early = pplus.encode(f"{DEFAULT} || fine#0,0,.5,1: {PART} || fine#0,0,1,.5: a green cup")
    torch.testing.assert_close(call(pplus, embeds, 900), call(pplus, early, 900))


def test_pictures_of_a_masked_prompt_do_not_depend_on_their_batch(pplus: pp.PPlus) -> None:
    prompt = f"{DEFAULT} || fine#0,0,0.5,1*0.8@0.2-1: {PART}"
    size = {"width": 64, "height": 64} if "XL" in type(pplus.pipe).__name__ else {}
    made = [generate(pplus, [prompt] * 3, [1, 2, 3], steps=2, batch=batch, **size) for batch in (1, 3)]
    for alone, together in zip(*made, strict=True):
        a, b = (torch.tensor(list(picture.tobytes()), dtype=torch.int16) for picture in (alone, together))
        assert (a - b).abs().max() <= 1


def test_masks_need_a_unet() -> None:
    with (
        pp.PPlus(tiny_models.pixart()) as pplus,
        pytest.raises(PromptError, match="masks of prompt parts need a U-Net"),
    ):
        pplus.encode(f"{DEFAULT} || late#0,0,.5,1: {PART}")


def test_a_picture_too_large_for_its_masks_is_refused(pipe: Any) -> None:
    with pp.PPlus(pipe) as pplus, pytest.raises(ModelError, match="cells on a layer of this picture"):
        call(pplus, pplus.encode(f"{DEFAULT} || fine#0,0,.5,1: {PART}"), size=(80, 80))


# ---- states of one's own


def test_own_states_replace_a_layers_text(pplus: pp.PPlus) -> None:
    own = torch.randn(pplus.positions, pplus.width)
    made = by_layer(pplus, states_of(pplus, f"{DEFAULT} || fine: {PART}", states={"coarse": own}))
    plain = by_layer(pplus, states_of(pplus, f"{DEFAULT} || fine: {PART}"))
    for i in range(len(pplus.layers)):
        assert torch.equal(made[i], own if i in pplus.layers.select("coarse") else plain[i])


def test_own_states_hold_at_all_times_and_everywhere(pplus: pp.PPlus) -> None:
    own = torch.randn(2, pplus.positions, pplus.width)
    parts = f"{DEFAULT} || fine@.5-1#0,0,.5,1: {PART}"
    made: Any = pplus.encode([parts] * 2, states={"fine": own})
    layout = Layout.of(made["prompt_embeds"].shape[-1], len(pplus.layers), pplus.width)
    blocks = made["prompt_embeds"][..., : -layout.stages]
    blocks = blocks.unflatten(-1, (layout.stages, len(pplus.layers), layout.blocks, pplus.width))
    for i in pplus.layers.select("fine"):
        assert torch.equal(blocks[:, :, :, i, 0], own[:, :, None].expand(-1, -1, layout.stages, -1))
        assert not blocks[:, :, :, i, 2].any()


@pytest.mark.parametrize("model", ["PixArt-Sigma", "Sana"])
def test_all_tokens_of_own_states_count(model: str) -> None:
    """Also those that are padding in the prompt."""
    with pp.PPlus(tiny(model)) as pplus:
        own = torch.randn(pplus.positions, pplus.width)
        changed = own.clone()
        changed[-1] += 10
        first, second = (call(pplus, pplus.encode("a", states={"late": given})) for given in (own, changed))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(
    ("states", "error", "message"),
    [
        ({"fine": torch.zeros(3, 4)}, PromptError, r"not \[3, 4\]"),
        ({"fine": [1.0]}, PromptError, "states of a layer are a tensor"),
        ([1], PromptError, "what is given for states is a Mapping"),
        ({"nose": torch.zeros(3, 4)}, LayerError, "no layer 'nose'"),
    ],
)
def test_own_states_of_another_form_are_refused(
    pplus: pp.PPlus, states: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pplus.encode(DEFAULT, states=states)


def test_the_pooled_text_is_what_its_layers_read() -> None:
    with pp.PPlus(tiny("SDXL")) as pplus:
        made = pplus.encode(f"{DEFAULT} || fine*0: {PART}", pooled_layers="fine")["pooled_prompt_embeds"]
        torch.testing.assert_close(made, pplus.encode(DEFAULT)["pooled_prompt_embeds"])


def test_a_frame_is_what_all_prompts_share() -> None:
    layers = pp.LayerMap.from_names([("down.0.0", 16), ("up.0.0", 16)])
    texts = ("a || 0@.2-.4: b", "a || 1#0,0,.5,1: b || 1#0,0,1,.5: c", "a")
    frame = Frame.of([StagedPrompt.of(pp.PPlusPrompt.parse(text), layers) for text in texts])
    assert frame == Frame((0, 0.2, 0.4), regions=2)
