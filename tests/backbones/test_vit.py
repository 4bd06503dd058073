"""Vision transformers: positions at other image sizes, features, what their files must hold."""

import json

import golden_file
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fteng.backbones import vit
from fteng.backbones.resize import antialiased_bicubic, offset_bicubic
from fteng.backbones.weights import fit, named
from fteng.errors import UserError

SMALL, DINOV2 = vit.small_patch16(), vit.small_patch14_dinov2()
METHODS = {"antialiased": antialiased_bicubic, "offset": offset_bicubic}
with np.load(golden_file.GOLDEN / "resize.npz", allow_pickle=False) as loaded:
    RESIZED = dict(loaded)


def _drawn(golden: str) -> dict[str, np.ndarray]:
    with np.load(golden_file.GOLDEN / f"{golden}.npz", allow_pickle=False) as file:
        return golden_file.draw_all(json.loads(str(file["shapes"])))


@pytest.fixture(scope="module")
def small_file() -> dict[str, np.ndarray]:
    return _drawn("vit_small_patch16_timm")


@pytest.mark.parametrize("case", sorted(RESIZED.keys() - {"grid"}))
def test_positions_are_resized_as_torch_does(case):
    method, rows, columns = case.split("_")
    down, across = METHODS[method](14, int(rows)), METHODS[method](14, int(columns))
    np.testing.assert_allclose(np.einsum("yi,ijc,xj->yxc", down, RESIZED["grid"], across), RESIZED[case], atol=1e-5)


def test_rows_and_columns_of_a_wide_image_are_not_confused(small_file):
    weights = fit(SMALL, small_file, "", "a file")
    drawn = golden_file.image_batch(1, 96)[:, :48]
    tokens, _ = SMALL.backbone.apply(weights.params, weights.stats, jnp.asarray(drawn), stop=1)
    kernel = small_file["patch_embed.proj.weight"]
    position = small_file["pos_embed"][0]
    grid = np.einsum(
        "yi,ijc,xj->yxc", METHODS["antialiased"](14, 3), position[1:].reshape(14, 14, -1), METHODS["antialiased"](14, 6)
    )
    patch = drawn[0, 32:48, 80:96]
    last = np.einsum("yxi,oiyx->o", patch, kernel) + small_file["patch_embed.proj.bias"] + grid[2, 5]
    assert tokens.shape == (1, 1 + 3 * 6, 384)
    np.testing.assert_allclose(tokens[0, -1], last, atol=1e-4)
    np.testing.assert_allclose(tokens[0, 0], small_file["cls_token"][0, 0] + position[0], atol=1e-6)


@pytest.mark.parametrize(("size", "below", "above"), [(225, 224, 240), (15, 16, 32)])
def test_an_image_that_patches_do_not_cover_is_refused_in_one_line(size, below, above):
    params, stats = SMALL.shapes
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    with pytest.raises(UserError, match=rf"data\.image_size: .* got {size}, .*multiples of 16; take {below} or {above}") as caught:
        jax.eval_shape(SMALL.backbone.apply, params, stats, x)
    assert "\n" not in str(caught.value)


def test_half_precision_stays_half_precision_at_another_size():
    params, stats = DINOV2.shapes
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), params)
    tokens, _ = jax.eval_shape(DINOV2.backbone.apply, half, stats, jax.ShapeDtypeStruct((1, 42, 42, 3), jnp.bfloat16))
    assert (tokens.shape, tokens.dtype) == ((1, 10, 384), jnp.bfloat16)


def test_features_are_the_class_token_and_the_mean_of_the_patches():
    tokens = jnp.arange(24.0).reshape(2, 4, 3)
    np.testing.assert_allclose(SMALL.backbone.pool(tokens), [[0, 1, 2, 6, 7, 8], [12, 13, 14, 18, 19, 20]])


@pytest.mark.parametrize(
    ("network", "golden", "left"),
    [
        (SMALL, "vit_small_patch16_timm", set()),
        (DINOV2, "vit_small_patch14_dinov2_authors", {"mask_token"}),
        (DINOV2, "vit_small_patch14_dinov2_timm", set()),
    ],
)
def test_a_file_comes_back_as_it_was(network, golden, left):
    tensors = _drawn(golden)
    weights = fit(network, tensors, "", "a file")
    back = named(network.namings[0], weights.params, weights.stats, weights.source_head)
    assert tensors.keys() - back.keys() == left
    for name, tensor in back.items():
        np.testing.assert_array_equal(tensor, tensors[name], err_msg=name)


def test_torchvision_names_come_back_as_they_were():
    """Of one block: the whole is 350 MB."""
    base = vit.base_patch16()
    torchvision = base.namings[1]
    params, stats = base.shapes
    with np.load(golden_file.GOLDEN / "vit_base_patch16_torchvision.npz", allow_pickle=False) as file:
        shapes = json.loads(str(file["shapes"]))
    assert torchvision.slots.keys() == shapes.keys()
    first = {name: slot for name, slot in torchvision.slots.items() if slot.collection == "params" and slot.stage < 2}
    drawn = golden_file.draw_all({name: shapes[name] for name in first})
    for name, slot in first.items():
        node = params[slot.stage]
        for key in slot.path[:-1]:
            node = node[key]
        placed = (drawn[name].reshape(slot.view) if slot.view else drawn[name]).transpose(slot.axes)
        assert placed.shape == node[slot.path[-1]].shape, name
        node[slot.path[-1]] = placed
    back = named(torchvision._replace(slots=first), params, stats, None)
    for name, tensor in drawn.items():
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)


def test_a_truncated_file_is_refused_in_one_line(small_file):
    kept = dict(list(small_file.items())[:100])
    with pytest.raises(UserError, match=r"does not fit vit_small_patch16 \(timm names\): missing") as caught:
        fit(SMALL, kept, "", "a file")
    assert "\n" not in str(caught.value)


def test_positions_of_another_size_are_refused_by_shape(small_file):
    wrong = small_file | {"pos_embed": np.zeros((1, 577, 384), np.float32)}
    with pytest.raises(UserError, match=r"wrong shape 1 \(pos_embed \(1, 577, 384\) for \(1, 197, 384\)\)"):
        fit(SMALL, wrong, "", "a file")


def test_a_head_of_the_class_token_alone_is_taken(small_file):
    head = fit(SMALL, small_file, "", "a file").source_head
    assert head is not None
    assert head["kernel"].shape == (384, 1000)
