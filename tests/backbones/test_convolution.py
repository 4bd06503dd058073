"""Our convolutions and their gradients against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fteng.backbones import convolution


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(2, 7, 9), (3, 8, 8), (1, 2, 1)])
def test_depthwise_is_the_native_convolution(shape, size, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((*shape, 6), np.float32))
    kernel = jnp.asarray(rng.standard_normal((size, size, 1, 6), np.float32))
    _assert_same(convolution.depthwise, x, kernel, stride)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("shape", [(2, 7, 9), (3, 8, 8)])
def test_dense_is_the_native_convolution(shape, size, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((*shape, 3), np.float32))
    kernel = jnp.asarray(rng.standard_normal((size, size, 3, 4), np.float32))
    _assert_same(convolution.dense, x, kernel, stride)


def test_elsewhere_than_on_a_cpu_the_native_convolution_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, kernel = jnp.ones((1, 4, 4, 6)), jnp.ones((3, 3, 1, 6))
    for function, weights in ((convolution.depthwise, kernel), (convolution.dense, jnp.ones((1, 1, 6, 2)))):
        assert "conv_general_dilated" in str(jax.make_jaxpr(lambda x, w, f=function: f(x, w, 1))(x, weights))


def _assert_same(function, x, kernel, stride):
    def values(convolve, x, kernel):
        y, pullback = jax.vjp(lambda x, kernel: convolve(x, kernel, stride), x, kernel)
        return y, *pullback(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    compiled = jax.jit(values, static_argnums=0)
    for got, wanted in zip(compiled(function, x, kernel), compiled(convolution.native, x, kernel), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-5)
