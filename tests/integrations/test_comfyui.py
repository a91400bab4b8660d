"""The nodes in ComfyUI's runs. They run on real ComfyUI, or on the stand-in: see hosts.py.

Nothing here needs a trained model: the weights are random.
"""

import logging
from typing import Any

import diffusers
import pytest
import torch

import promptplus as pp
from tests.integrations import hosts
from tests.integrations.conftest import Bench

DEFAULT, OTHER, NEGATIVE = "a red house", "a blue car", "blurry"


def test_the_same_text_in_all_layers_is_the_stock_run_bit_for_bit(bench: Bench) -> None:
    stock = bench.sample(bench.stock(DEFAULT), bench.stock(NEGATIVE), bench.stock_model)
    ours = bench.sample(bench.encode(f"{DEFAULT} || coarse: {DEFAULT}"), bench.encode(NEGATIVE))
    assert torch.equal(ours, stock)
    assert not torch.equal(stock, bench.sample(bench.stock(OTHER), bench.stock(NEGATIVE), bench.stock_model))


def test_a_patched_model_runs_stock_conditionings_as_before(bench: Bench) -> None:
    positive, negative = bench.stock(DEFAULT), bench.stock(NEGATIVE)
    assert torch.equal(bench.sample(positive, negative), bench.sample(positive, negative, bench.stock_model))


def test_only_the_named_layers_take_another_text(bench: Bench) -> None:
    plain, _ = bench.contexts(bench.encode(DEFAULT), bench.encode(NEGATIVE))
    for index, layer in enumerate(bench.layers.layers):
        changed, _ = bench.contexts(bench.encode(f"{DEFAULT} || {layer.name}: {OTHER}"), bench.encode(NEGATIVE))
        different = [i for i, (a, b) in enumerate(zip(plain, changed, strict=True)) if not torch.equal(a, b)]
        assert different == [index]


def test_a_layer_takes_the_stock_states_of_its_text(bench: Bench) -> None:
    positive = bench.encode(f"{DEFAULT} || fine: {OTHER}")
    contexts, _ = bench.contexts(positive, bench.encode(NEGATIVE))
    fine = bench.layers.layers.group("fine")
    for index, context in enumerate(contexts):
        expected = bench.stock(OTHER if index in fine else DEFAULT)[0][0]
        assert any(torch.equal(part, expected) for part in context.split(1))
        assert any(torch.equal(part, bench.stock(NEGATIVE)[0][0]) for part in context.split(1))


def test_the_layers_are_in_comfyuis_own_order(bench: Bench) -> None:
    """transformer_index counts the transformers as they run; with block_index it gives our index."""
    _, places = bench.contexts(bench.encode(DEFAULT), bench.encode(NEGATIVE))
    transformers = [*bench.layers.layers.transformers.values()]
    assert [transformers[p["transformer_index"]][p["block_index"]] for p in places] == [*range(len(places))]
    assert [(*p["block"], p["block_index"]) for p in places] == [*bench.layers.places]


def test_the_layers_have_the_names_of_the_library(bench: Bench) -> None:
    from tests import tiny_models

    unet = tiny_models.MODELS[{"sd1": "Stable Diffusion 1", "sdxl": "SDXL"}[bench.kind]]().unet
    library = pp.LayerMap.of(unet)
    assert bench.layers.layers.names == library.names
    assert [layer.kohya for layer in bench.layers.layers] == [layer.kohya for layer in library]
    assert {g: bench.layers.layers.group(g) for g in library.groups} == {g: library.group(g) for g in library.groups}


def test_positive_and_negative_may_both_have_layers(bench: Bench) -> None:
    positive, negative = f"{DEFAULT} || coarse: {OTHER}", f"{NEGATIVE} || fine: {OTHER}"
    both = bench.sample(bench.encode(positive), bench.encode(negative))
    swapped = bench.sample(bench.encode(negative), bench.encode(positive))
    assert not torch.allclose(both, swapped, atol=1e-3)


def test_a_stock_negative_beside_a_prompt_by_layers(bench: Bench) -> None:
    """They differ in width, so they run one after the other: the same up to rounding."""
    positive = bench.encode(f"{DEFAULT} || coarse: {OTHER}")
    packed = bench.sample(positive, bench.encode(NEGATIVE))
    assert torch.allclose(bench.sample(positive, bench.stock(NEGATIVE)), packed, atol=1e-4)


def test_each_picture_of_a_batch_takes_its_layers_texts(bench: Bench) -> None:
    positive, negative = bench.encode(f"{DEFAULT} || coarse: {OTHER}"), bench.encode(NEGATIVE)
    single, _ = bench.contexts(positive, negative)
    pair, _ = bench.contexts(positive, negative, batch=2)
    for one, two in zip(single, pair, strict=True):
        assert torch.equal(two, one.repeat_interleave(2, dim=0))


def test_several_conditionings_on_one_side(bench: Bench) -> None:
    """As ComfyUI's node Conditioning (Combine) puts them together."""
    first, second, negative = bench.encode(f"{DEFAULT} || coarse: {OTHER}"), bench.encode(OTHER), bench.encode(NEGATIVE)
    both = bench.sample([*first, *second], negative)
    assert torch.allclose(both, bench.sample([*second, *first], negative), atol=1e-4)
    assert not torch.allclose(both, bench.sample(first, negative), atol=1e-3)


def test_texts_of_different_lengths_in_one_prompt(bench: Bench) -> None:
    """A long text has more sections. A short one is repeated, which changes nothing in attention."""
    long = ", ".join([OTHER] * 40)
    [[states, _]] = bench.encode(f"{DEFAULT} || coarse: {long}")
    [coarse, *_], [fine, *_] = (bench.layers.layers.group(group) for group in ("coarse", "fine"))
    sections = bench.stock(long)[0][0].shape[1] // bench.stock(DEFAULT)[0][0].shape[1]
    assert sections > 1
    width = bench.layers.width
    assert torch.equal(states[..., coarse * width : (coarse + 1) * width], bench.stock(long)[0][0])
    assert torch.equal(
        states[..., fine * width : (fine + 1) * width], bench.stock(DEFAULT)[0][0].repeat(1, sections, 1)
    )
    repeated = bench.stock(DEFAULT)
    repeated[0][0] = repeated[0][0].repeat(1, 2, 1)
    plain = bench.sample(bench.stock(DEFAULT), bench.stock(NEGATIVE))
    assert torch.allclose(bench.sample(repeated, bench.stock(NEGATIVE)), plain, atol=1e-4)


def test_nothing_is_left_in_the_model(bench: Bench) -> None:
    network = bench.stock_model.model.diffusion_model
    before = {name: weights.clone() for name, weights in network.state_dict().items()}
    bench.sample(bench.encode(f"{DEFAULT} || coarse: {OTHER}"), bench.encode(NEGATIVE))
    assert "attn2_patch" not in bench.stock_model.model_options["transformer_options"].get("patches", {})
    for module in network.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        assert not any(hooks)
    assert all(torch.equal(before[name], weights) for name, weights in network.state_dict().items())
    again = bench.sample(bench.stock(DEFAULT), bench.stock(NEGATIVE), bench.stock_model)
    assert torch.equal(again, bench.sample(bench.stock(DEFAULT), bench.stock(NEGATIVE), bench.host.model(bench.kind)))


def test_applied_twice_is_applied_once(bench: Bench) -> None:
    twice, layers = bench.classes["PPlusApply"]().apply(bench.model)
    assert layers == bench.layers
    positive, negative = bench.encode(f"{DEFAULT} || coarse: {OTHER}"), bench.encode(NEGATIVE)
    assert torch.equal(bench.sample(positive, negative, twice), bench.sample(positive, negative))


def test_other_patches_see_plain_text_states_also_where_they_came_first(bench: Bench) -> None:
    widths: set[int] = set()

    def other(query: Any, context: Any, value: Any, options: Any) -> Any:
        widths.add(context.shape[-1])
        return query, context, value

    patched = bench.stock_model.clone()
    patched.set_model_attn2_patch(other)
    model, _ = bench.classes["PPlusApply"]().apply(patched)
    bench.sample(bench.encode(DEFAULT), bench.encode(NEGATIVE), model)
    assert widths == {bench.layers.width}


def test_values_that_another_patch_changed_are_split_too(bench: Bench) -> None:
    from custom_nodes_promptplus.model_layers import LayerPatch

    place, index = next((place, index) for place, index in bench.layers.places.items() if index == 1)
    packed = torch.randn(1, 3, bench.layers.packed_width)
    options = {"block": place[:2], "block_index": place[2]}
    query = torch.randn(1, 2, 4)
    part = slice(index * bench.layers.width, (index + 1) * bench.layers.width)
    patch = LayerPatch(bench.layers)
    _, keys, values = patch(query, packed, 2 * packed, options)
    assert torch.equal(keys, packed[..., part])
    assert torch.equal(values, 2 * packed[..., part])
    _, keys, values = patch(query, packed, None, options)
    assert values is keys


def test_a_model_without_the_patch_refuses_a_prompt_by_layers(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match="shape"):
        bench.sample(bench.encode(DEFAULT), bench.encode(NEGATIVE), bench.stock_model)


def test_a_controlnet_takes_the_default_text(bench: Bench) -> None:
    [[_, extra]] = bench.encode(f"{DEFAULT} || coarse: {OTHER}")
    [[stock, stock_extra]] = bench.stock(DEFAULT)
    assert torch.equal(extra["cross_attn_controlnet"], stock)
    if bench.kind == "sdxl":
        assert torch.equal(extra["pooled_output"], stock_extra["pooled_output"])


def test_a_controlnet_in_a_run_gets_plain_text_states(bench: Bench) -> None:
    """On the stand-in, whose control is a function of the text states; real ones need a model of their own."""
    if hosts.CHECKOUT:
        pytest.skip("ComfyUI's ControlNet needs a model file")
    positive, negative = bench.encode(f"{DEFAULT} || coarse: {OTHER}"), bench.encode(NEGATIVE)
    seen: list[torch.Tensor] = []
    positive[0][1]["control"] = negative[0][1]["control"] = seen.append
    bench.sample(positive, negative)
    assert torch.equal(seen[0], torch.cat([bench.stock(DEFAULT)[0][0], bench.stock(NEGATIVE)[0][0]]))


class Transformer(torch.nn.Module):
    """A model whose text is not in a U-Net's cross-attention, as Flux and Stable Diffusion 3."""

    def __init__(self) -> None:
        super().__init__()
        self.double_blocks = torch.nn.ModuleList()


class Loaded:
    def __init__(self, diffusion_model: Any) -> None:
        self.model = type("Wrapped", (), {"diffusion_model": diffusion_model})()


def test_an_unknown_model_passes_with_a_message(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    model = Loaded(Transformer())
    with caplog.at_level(logging.WARNING):
        passed, layers = bench.classes["PPlusApply"]().apply(model)
    assert passed is model
    assert layers is None
    [message] = caplog.messages
    assert message.startswith("P+ Apply passes Transformer unchanged")


def test_without_layers_the_default_text_is_encoded_with_a_message(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    encode = bench.classes["PPlusEncode"]().encode
    with caplog.at_level(logging.WARNING):
        [[[states, extra]]] = encode(bench.clip, None, f"{DEFAULT} || coarse: {OTHER}")
    assert torch.equal(states, bench.stock(DEFAULT)[0][0])
    assert "cross_attn_controlnet" not in extra
    assert "default text alone" in caplog.text


@pytest.mark.parametrize("fault", ["time_stack", "disable_self_attn", "attn2", "middle"])
def test_unets_that_take_text_elsewhere_are_unknown(bench: Bench, fault: str) -> None:
    """For videos; of the upscaler; without cross-attention in a block."""
    from custom_nodes_promptplus.model_layers import ModelLayers

    network = bench.host.model(bench.kind).model.diffusion_model
    assert ModelLayers.of(network) is not None
    transformer = next(m for block in network.input_blocks for m in block if hasattr(m, "transformer_blocks"))
    if fault == "time_stack":
        transformer.time_stack = torch.nn.ModuleList()
    elif fault == "disable_self_attn":
        transformer.transformer_blocks[0].disable_self_attn = True
    elif fault == "attn2":
        transformer.transformer_blocks[0].attn2 = None
    else:
        del network.middle_block
        layers = ModelLayers.of(network)  # some distilled models have no middle block
        assert layers is not None
        assert not layers.layers.group("mid")
        return
    assert ModelLayers.of(network) is None


def test_the_layers_of_the_released_sdxl() -> None:
    """Seventy, with the names that the library gives to diffusers' U-Net."""
    from custom_nodes_promptplus.model_layers import ModelLayers

    from tests.integrations.stand_in_unet import UNetModel

    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10],
        attention_head_dim=[2, 2, 2],
        cross_attention_dim=2048,
        norm_num_groups=2,
        sample_size=128,
    )
    layers = ModelLayers.of(UNetModel(2048, (0, 2, 10), 10))
    assert layers is not None
    assert layers.layers == pp.LayerMap.of(unet)
    assert len(layers.layers) == 70
