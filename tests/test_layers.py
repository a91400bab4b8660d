from itertools import pairwise

import pytest
import torch
from diffusers import UNet2DConditionModel

from promptplus import PPlus
from promptplus.errors import LayerError
from promptplus.layers import LayerMap

SD1 = [
    ("IN01", "down_blocks.0.attentions.0", 64),
    ("IN02", "down_blocks.0.attentions.1", 64),
    ("IN04", "down_blocks.1.attentions.0", 32),
    ("IN05", "down_blocks.1.attentions.1", 32),
    ("IN07", "down_blocks.2.attentions.0", 16),
    ("IN08", "down_blocks.2.attentions.1", 16),
    ("MID", "mid_block.attentions.0", 8),
    ("OUT03", "up_blocks.1.attentions.0", 16),
    ("OUT04", "up_blocks.1.attentions.1", 16),
    ("OUT05", "up_blocks.1.attentions.2", 16),
    ("OUT06", "up_blocks.2.attentions.0", 32),
    ("OUT07", "up_blocks.2.attentions.1", 32),
    ("OUT08", "up_blocks.2.attentions.2", 32),
    ("OUT09", "up_blocks.3.attentions.0", 64),
    ("OUT10", "up_blocks.3.attentions.1", 64),
    ("OUT11", "up_blocks.3.attentions.2", 64),
]


def unet(**config: object) -> UNet2DConditionModel:
    """A U-Net without weights; the default configuration is Stable Diffusion 1's."""
    with torch.device("meta"):
        return UNet2DConditionModel(**config)


def sdxl() -> UNet2DConditionModel:
    return unet(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
    )


@pytest.fixture(scope="module")
def layers() -> LayerMap:
    return LayerMap.of(unet(sample_size=64, cross_attention_dim=768))


def test_the_sixteen_layers_of_stable_diffusion_1(layers: LayerMap) -> None:
    found = [
        (layer.kohya, path.removesuffix(".transformer_blocks.0.attn2"), layer.resolution)
        for layer, path in zip(layers, layers.module_paths(), strict=True)
    ]
    assert found == SD1


def test_the_pocket_has_the_same_layers(pplus: PPlus, layers: LayerMap) -> None:
    assert pplus.layers.names == layers.names
    assert [layer.kohya for layer in pplus.layers] == [kohya for kohya, *_ in SD1]


def test_groups_by_resolution(layers: LayerMap) -> None:
    assert layers.group("coarse") == (4, 5, 6, 7, 8, 9)
    assert layers.group("medium") == (2, 3, 10, 11, 12)
    assert layers.group("fine") == (0, 1, 13, 14, 15)
    assert layers.group("down") + layers.group("mid") + layers.group("up") == tuple(range(16))


def test_nested_subsets_have_the_paper_sizes_and_grow(layers: LayerMap) -> None:
    subsets = layers.subsets()
    assert [len(s) for s in subsets] == [0, 1, 3, 6, 8, 11, 13, 16]
    assert all(set(a) < set(b) for a, b in pairwise(subsets))
    assert subsets[1] == (6,)
    assert subsets[2] == (4, 5, 6)


@pytest.mark.parametrize(
    ("spec", "indices"),
    [
        ("down.0.1", (1,)),
        ("down.0", (0, 1)),
        ("IN08, OUT03", (5, 7)),
        ("in08", (5,)),
        ("MID", (6,)),
        ("mid", (6,)),
        ("4-9", (4, 5, 6, 7, 8, 9)),
        ("15,0,0", (0, 15)),
        ("mid,13-15", (6, 13, 14, 15)),
        ("coarse,medium,fine", tuple(range(16))),
    ],
)
def test_select(layers: LayerMap, spec: str, indices: tuple[int, ...]) -> None:
    assert layers.select(spec) == indices


@pytest.mark.parametrize("spec", ["corse", "", "16", "9-4", "3-16", "down.9", "IN03", "coarse,,fine", "-1", "dow"])
def test_select_refuses_by_name_and_says_what_is_allowed(layers: LayerMap, spec: str) -> None:
    with pytest.raises(LayerError, match=r"coarse, medium, fine.*down\.0\.0 … up\.3\.2, IN01 … OUT11.*0–15"):
        layers.select(spec)


def test_sdxl_has_seventy_layers_in_forward_order() -> None:
    layers = LayerMap.of(sdxl())
    assert len(layers) == 70
    assert layers.names[:5] == ("down.1.0.0", "down.1.0.1", "down.1.1.0", "down.1.1.1", "down.2.0.0")
    assert layers.select("mid") == tuple(range(24, 34))
    assert layers.select("up.0.1") == tuple(range(44, 54))
    assert {layer.resolution for layer in layers} == {64, 32}
    assert layers.group("coarse") + layers.group("fine") != ()
    assert layers[0].kohya is None
    with pytest.raises(LayerError, match="no medium layers"):
        layers.select("medium")


def test_every_module_path_leads_to_a_cross_attention_layer() -> None:
    model = sdxl()
    for path in LayerMap.of(model).module_paths():
        assert model.get_submodule(path).is_cross_attention


def test_rebuilt_from_names(layers: LayerMap) -> None:
    assert LayerMap.from_names([(layer.name, layer.resolution) for layer in layers]) == layers


def test_no_cross_attention_is_said(layers: LayerMap) -> None:
    with pytest.raises(LayerError, match="no cross-attention layers"):
        LayerMap.of(torch.nn.Linear(2, 2))


def test_a_denoiser_whose_self_attention_reads_text_is_refused() -> None:
    with pytest.raises(LayerError, match="takes text too"):
        LayerMap.of(unet(sample_size=8, block_out_channels=(32, 64, 64, 64), only_cross_attention=True))


def test_prints_as_a_table(layers: LayerMap) -> None:
    assert str(layers).splitlines()[1].split() == ["0", "down.0.0", "IN01", "64²", "fine"]


def test_describe_names_a_group_or_the_layers(layers: LayerMap) -> None:
    assert layers.describe(tuple(range(16))) == "all layers"
    assert layers.describe(layers.group("coarse")) == "the coarse layers"
    assert layers.describe((1,)) == "layer down.0.1"
