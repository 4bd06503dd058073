"""Our convolutions and their gradients against XLA's own, for each kind of layer that the networks have."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.test_util import check_grads

from fteng.backbones import convolution, winograd


class _Layer(NamedTuple):
    """shape: n, h, w, inputs. A depthwise layer has no outputs of its own."""

    shape: tuple[int, int, int, int]
    outputs: int | None
    size: int
    stride: int
    padding: Any


_LAYERS = {
    "vgg first": _Layer((2, 6, 5, 3), 64, 3, 1, "SAME"),
    "vgg 64": _Layer((2, 5, 8, 64), 64, 3, 1, 1),
    "vgg 64 to 128": _Layer((3, 7, 6, 64), 128, 3, 1, "SAME"),
    "winograd, padding wider than the kernel": _Layer((1, 3, 2, 64), 128, 3, 1, 3),
    "winograd, one pixel": _Layer((2, 1, 1, 128), 64, 3, 1, "SAME"),
    "all-cnn stride 2, same pads unevenly": _Layer((2, 8, 6, 96), 96, 3, 2, "SAME"),
    "all-cnn last": _Layer((2, 4, 4, 96), 192, 3, 1, "VALID"),
    "resnet stem": _Layer((2, 15, 16, 3), 8, 7, 2, 3),
    "resnet 3x3 stride 2": _Layer((2, 7, 8, 8), 6, 3, 2, 1),
    "resnet 1x1": _Layer((2, 4, 3, 8), 5, 1, 1, 0),
    "resnet 1x1 stride 2": _Layer((2, 7, 8, 5), 8, 1, 2, "SAME"),
    "1x1 padded": _Layer((1, 3, 4, 2), 3, 1, 2, 1),
    "few channels": _Layer((3, 5, 4, 6), 7, 3, 1, 2),
    "one channel": _Layer((1, 5, 5, 1), 1, 3, 1, "SAME"),
    "even size": _Layer((2, 5, 6, 3), 4, 4, 3, "SAME"),
    "stride larger than kernel": _Layer((2, 8, 9, 3), 4, 2, 3, "VALID"),
    "convnext patches, image not a multiple": _Layer((2, 9, 14, 3), 8, 4, 4, "VALID"),
    "convnext between stages": _Layer((2, 6, 4, 6), 8, 2, 2, "VALID"),
    "patches padded": _Layer((2, 5, 7, 3), 4, 2, 2, "SAME"),
    "vit patches": _Layer((1, 32, 48, 3), 8, 16, 16, "VALID"),
    "depthwise 3x3": _Layer((2, 7, 9, 6), None, 3, 1, "SAME"),
    "depthwise 3x3 stride 2, same pads unevenly": _Layer((3, 8, 6, 6), None, 3, 2, "SAME"),
    "depthwise 5x5 stride 2, symmetric": _Layer((2, 8, 7, 6), None, 5, 2, 2),
    "depthwise one column": _Layer((1, 2, 1, 6), None, 5, 2, "SAME"),
    "depthwise one channel": _Layer((2, 4, 5, 1), None, 3, 1, 1),
    "depthwise valid": _Layer((2, 6, 5, 4), None, 3, 2, "VALID"),
    "convnext 7x7": _Layer((1, 8, 6, 5), None, 7, 1, 3),
}
_WINOGRAD = "vgg 64 to 128"
# One of each way to compute and of each way to pad; the rest are slow.
_USUAL = (
    _WINOGRAD,
    "vgg first",
    "winograd, padding wider than the kernel",
    "resnet 3x3 stride 2",
    "resnet 1x1 stride 2",
    "1x1 padded",
    "one channel",
    "even size",
    "patches padded",
    "depthwise 3x3 stride 2, same pads unevenly",
    "depthwise 5x5 stride 2, symmetric",
    "depthwise valid",
)


def _layers(names: Iterable[str], usual: Collection[str] = _USUAL) -> Any:
    params = [pytest.param(name, marks=[pytest.mark.slow] * (name not in usual)) for name in names]
    return pytest.mark.parametrize("name", params)


@pytest.fixture(autouse=True)
def _small_layers_go_the_way_of_large_ones(monkeypatch: pytest.MonkeyPatch):
    """These are small so that they compile and run at once."""
    monkeypatch.setattr(convolution, "_WORTH", 0)
    monkeypatch.setattr(convolution, "_FEW_PIXELS", 0)


@_layers(_LAYERS)
def test_it_is_the_native_convolution_with_its_gradients(name: str):
    with jax.enable_x64(True):
        for got, wanted in zip(*_both(_LAYERS[name], np.float64), strict=True):
            assert got.dtype == np.float64
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


@_layers([_WINOGRAD, "resnet stem", "resnet 3x3 stride 2", "depthwise 5x5 stride 2, symmetric"])
def test_float32_is_exact_to_rounding_image_by_image(name: str, monkeypatch: pytest.MonkeyPatch):
    """As large images are worked on."""
    monkeypatch.setattr(winograd, "_TILES", 1)
    monkeypatch.setattr(convolution, "_PATCHES", 1)
    got = _values(_ours(_LAYERS[name]), _LAYERS[name], np.float32)
    with jax.enable_x64(True):
        wanted = _values(convolution.native, _LAYERS[name], np.float64)
    for ours, exact in zip(got, wanted, strict=True):
        assert ours.dtype == np.float32
        assert np.abs(ours - exact).max() < 1e-5 * np.abs(exact).max()


@_layers([_WINOGRAD, "resnet 3x3 stride 2", "resnet 1x1", "patches padded", "depthwise 3x3"], [_WINOGRAD, "depthwise 3x3"])
def test_bfloat16_is_no_less_exact_than_the_native_convolution(name: str):
    layer = _LAYERS[name]
    with jax.enable_x64(True):
        exact = _values(convolution.native, layer, np.float64)
    for ours, native, wanted in zip(*_both(layer, jnp.bfloat16), exact, strict=True):
        assert ours.dtype == jnp.bfloat16
        error, allowed = (np.abs(array.astype(np.float64) - wanted).max() for array in (ours, native))
        assert error <= 2 * allowed + 0.01 * np.abs(wanted).max()


@_layers(["vgg 64", "even size", "patches padded", "depthwise valid"], ["vgg 64", "depthwise valid"])
def test_gradients_are_finite_differences(name: str):
    layer = _LAYERS[name]
    with jax.enable_x64(True):
        x, kernel = _arguments(layer, np.float64)
        convolve = jax.jit(lambda x, kernel: _ours(layer)(x, kernel, layer.stride, layer.padding))
        check_grads(convolve, (x, kernel), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@_layers(["vgg 64", "resnet stem", "patches padded", "depthwise valid"], ["vgg 64", "depthwise valid"])
def test_under_vmap_each_member_has_its_own_kernel_and_gradient(name: str):
    layer = _LAYERS[name]
    x, kernel = _arguments(layer, np.float32)
    kernels = jnp.stack([kernel, -2 * kernel])

    def loss(kernel: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(_ours(layer)(x, kernel, layer.stride, layer.padding)))

    gradient = jax.grad(loss)
    one_by_one = jnp.stack([jax.jit(gradient)(kernel) for kernel in kernels])
    np.testing.assert_allclose(jax.jit(jax.vmap(gradient))(kernels), one_by_one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [_WINOGRAD, "resnet 3x3 stride 2"])
def test_a_small_layer_runs_natively(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    layer = _LAYERS[name]
    program = str(jax.make_jaxpr(partial(_run, convolution.dense, layer))(*_arguments(layer, np.float32)))
    assert program.count("conv_general_dilated[") == 3
    assert "dot_general" not in program
    for got, wanted in zip(*_both(layer, np.float32), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_no_loop_holds_a_convolution():
    """Inside a loop XLA:CPU leaves its fast path."""
    for name in (_WINOGRAD, "resnet stem", "resnet 3x3 stride 2"):
        layer = _LAYERS[name]._replace(shape=(4, *_LAYERS[name].shape[1:]))
        program = jax.make_jaxpr(partial(_run, convolution.dense, layer))(*_arguments(layer, np.float32))
        assert not [eqn for eqn in _inside_loops(program.jaxpr, False) if eqn.primitive.name == "conv_general_dilated"]


def test_elsewhere_than_on_a_cpu_the_native_convolution_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, kernel = jnp.ones((1, 4, 4, 6)), jnp.ones((3, 3, 1, 6))
    for function, weights in ((convolution.depthwise, kernel), (convolution.dense, jnp.ones((1, 1, 6, 2)))):
        assert "conv_general_dilated" in str(jax.make_jaxpr(lambda x, w, f=function: f(x, w, 1))(x, weights))


def _ours(layer: _Layer) -> Callable[..., jax.Array]:
    return convolution.depthwise if layer.outputs is None else convolution.dense


def _arguments(layer: _Layer, dtype: Any) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    inputs = layer.shape[-1]
    filters = (1, inputs) if layer.outputs is None else (inputs, layer.outputs)
    x = rng.standard_normal(layer.shape)
    kernel = rng.standard_normal((layer.size, layer.size, *filters))
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)


def _run(convolve: Callable[..., jax.Array], layer: _Layer, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, ...]:
    y, pullback = jax.vjp(lambda x, kernel: convolve(x, kernel, layer.stride, layer.padding), x, kernel)
    return y, *pullback(jnp.sin(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))


def _values(convolve: Callable[..., jax.Array], layer: _Layer, dtype: Any) -> list[np.ndarray]:
    """Output and both gradients, compiled."""
    # What is computed is under test, not how fast: without LLVM's optimizations it compiles in a third of the time.
    program = jax.jit(partial(_run, convolve, layer), compiler_options={"xla_backend_optimization_level": 0})
    return [np.asarray(array) for array in program(*_arguments(layer, dtype))]


def _both(layer: _Layer, dtype: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return _values(_ours(layer), layer, dtype), _values(convolution.native, layer, dtype)


def _inside_loops(jaxpr: Any, inside: bool) -> list[Any]:
    found = []
    for eqn in jaxpr.eqns:
        found += [eqn] if inside else []
        for inner in jaxprs_in_params(eqn.params):
            found += _inside_loops(inner, inside or eqn.primitive.name in ("scan", "while"))
    return found
