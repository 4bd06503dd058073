"""A real trial in small: EfficientNet-Lite0 with its weights on 200 real digits of 32 px, two epochs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fteng.backbones.catalogue import load
from fteng.backbones.flops import stage_flops
from fteng.config import Config
from fteng.data.prepare import prepare
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan, prefix_plan
from fteng.train.compilations import count_compilations
from fteng.train.evaluate import make_forward
from fteng.train.feed import make_feed
from fteng.train.step import compile_step, initial_state, lower_step
from fteng.train.trial import Bench, class_shares, run_trial
from fteng.trials import TrialSpec, study_context


class Lab(NamedTuple):
    backbone: Any
    bench: Bench
    config: Config
    head: Any
    forward: Any
    flops: Any

    def program(self, plan: FreezePlan, recipe=None, head=None):
        """The compiled step of a plan."""
        recipe = recipe or self.bench.recipe
        end = len(plan.stages)
        parameters = Parameters(self.bench.stages[:end], self.head if head is None else head)
        mask = partition.trainable_mask(plan, parameters)
        state, frozen = initial_state(parameters, self.bench.stats[:end], mask, plan, recipe)
        rows = self.bench.dataset.splits["train"][: recipe.batch_size]
        images, labels = self.bench.feed.take(rows), jnp.asarray(self.bench.dataset.labels[rows].astype(np.int32))
        shares = class_shares(self.bench.dataset)
        arguments = (state, frozen, images, labels, jnp.float32(0), jax.random.key(0))
        return compile_step(lower_step(self.backbone, plan, mask, recipe, shares, self.flops, arguments))

    def spec(self, plan: FreezePlan, rate=1e-3, seed=0) -> TrialSpec:
        return TrialSpec(plan, rate, seed, study_context(self.config, weights_digest="w", data_digest="d"))

    def run(self, spec, program, where, *, bench=None, head=None, on_step=lambda _: None, first=True):
        return run_trial(
            bench or self.bench,
            spec,
            program,
            self.forward,
            self.head if head is None else head,
            where,
            on_step,
            first_of_shape=first,
        )


@pytest.fixture(scope="session")
def lab() -> Lab:
    config = Config()
    config.data.source, config.data.image_size, config.data.limit = "digits", 32, 200
    config.train.epochs, config.train.batch_size, config.train.checkpoint_every = 2, 32, 1
    config.train.augment = ("shift",)
    backbone, weights = load("efficientnet_lite0", "package")
    dataset = prepare(config.data, "bicubic", lambda *_: None)
    name = {"backbone": backbone.name, "weights": weights.digest}
    bench = Bench(
        dataset,
        make_feed(dataset.images),
        weights.params,
        weights.stats,
        config.train,
        name,
        lambda: False,
        count_compilations(),
        (weights.params, weights.stats),
        {},
        print,
    )
    rng = np.random.default_rng(0)
    head = {"kernel": jnp.asarray(rng.normal(0, 0.01, (1280, 10)), jnp.float32), "bias": jnp.zeros(10)}
    return Lab(backbone, bench, config, head, make_forward(backbone, 18), stage_flops(backbone, weights, 32))


@pytest.fixture(scope="session")
def deep_plan(lab) -> FreezePlan:
    return prefix_plan(lab.backbone.stages, 16)


@pytest.fixture(scope="session")
def deep_program(lab, deep_plan):
    return lab.program(deep_plan)
