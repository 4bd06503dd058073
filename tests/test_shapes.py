"""The shapes in the signatures of the numeric rooms are checked while the tests run."""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from fteng.backbones import convolution
from fteng.data.augment import mixup
from fteng.feed import padded
from fteng.probe.logistic import fit
from fteng.train.step import head_logits

ROOT = Path(__file__).parent.parent
ANNOTATED = [path.relative_to(ROOT) for path in sorted((ROOT / "fteng").rglob("*.py")) if "jaxtyping" in path.read_text()]


def test_every_annotated_module_is_under_the_hook():
    assert len(ANNOTATED) >= 10
    modules = [importlib.import_module(".".join(path.with_suffix("").parts)) for path in ANNOTATED]
    unchecked = [module.__name__ for module in modules if not type(module.__loader__).__module__.startswith("jaxtyping")]
    assert not unchecked, "add them to the list in tests/conftest.py"


def test_a_wrong_shape_is_refused():
    head = {"kernel": jnp.ones((4, 2)), "bias": jnp.zeros(2)}
    assert head_logits(head, jnp.ones((3, 4))).shape == (3, 2)
    key, images, targets = jax.random.key(0), jnp.ones((4, 8, 8, 3)), jnp.ones((4, 2))
    wrong = (
        lambda: head_logits(head, jnp.ones((3, 5, 5, 4))),
        lambda: mixup(key, images, targets[:3], 0.2),
        lambda: mixup(key, images, targets[0], 0.2),
        lambda: mixup(key, images.astype(jnp.uint8), targets, 0.2),
        lambda: convolution.depthwise(images, jnp.ones((3, 3, 1, 4)), 1),
        lambda: convolution.dense(images, jnp.ones((3, 5, 3, 4)), 1),
        lambda: fit(np.ones((8, 3), np.float32), np.zeros(7, int), 2, np.ones(1)),
        lambda: padded(np.ones(4), 2),
    )
    for call in wrong:
        with pytest.raises(TypeCheckError):
            call()


def test_a_wrong_shape_is_refused_while_tracing():
    with pytest.raises(TypeCheckError):
        jax.eval_shape(mixup, jax.random.key(0), jnp.ones((4, 8, 8, 3)), jnp.ones((5, 2)), 0.2)
