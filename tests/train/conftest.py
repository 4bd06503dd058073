"""A real trial in small: EfficientNet-Lite0 with its weights on 200 real digits of 32 px, two epochs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fteng.backbones.catalogue import load
from fteng.backbones.flops import stage_flops
from fteng.config import BackboneConfig, Config
from fteng.data.prepare import prepare
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan, prefix_plan
from fteng.train.compilations import count_compilations
from fteng.train.evaluate import make_forward
from fteng.train.feed import make_feed
from fteng.train.step import batch_norm_modes, compile_step, initial_state, lower_step
from fteng.train.trial import Bench, Start, class_shares, run_trial
from fteng.trials import TrialSpec, Variant, study_context

USUAL = Variant()


class Lab(NamedTuple):
    backbone: Any
    bench: Bench
    start: Start
    config: Config
    forward: Any
    flops: Any

    @property
    def head(self):
        """That every tap starts from."""
        return self.start.heads["conv_head"]

    def program(self, plan: FreezePlan, recipe=None, head=None, variant=USUAL):
        """The compiled step of a plan."""
        recipe, modes = recipe or self.bench.recipe, batch_norm_modes(plan, variant)
        end = len(plan.stages)
        parameters = Parameters(self.start.stages[:end], self.head if head is None else head)
        mask = partition.trainable_mask(plan, parameters)
        state, frozen = initial_state(parameters, self.start.stats[:end], mask, modes, recipe)
        rows = self.bench.dataset.splits["train"][: recipe.batch_size]
        images, labels = self.bench.feed.take(rows), jnp.asarray(self.bench.dataset.labels[rows].astype(np.int32))
        shares = class_shares(self.bench.dataset)
        arguments = (state, frozen, images, labels, jnp.zeros(end + 1), jax.random.key(0))
        return compile_step(lower_step(self.backbone, plan, mask, modes, recipe, shares, self.flops, arguments))

    def spec(self, plan: FreezePlan, rate=1e-3, seed=0, variant=USUAL) -> TrialSpec:
        return TrialSpec(plan, variant, rate, seed, study_context(self.config, weights_digest="w", data_digest="d", preprocess={}))

    def run(self, spec, program, where, *, bench=None, head=None, on_step=lambda _: None, first=True):
        start = self.start if head is None else self.start._replace(heads={spec.plan.tap: head})
        return run_trial(
            bench or self.bench,
            start,
            spec,
            program,
            self.forward,
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
    backbone, weights = load(BackboneConfig("efficientnet_lite0", "package"))
    dataset = prepare(config.data, "bicubic", lambda *_: None)
    name = {"backbone": backbone.name, "weights": weights.digest}
    bench = Bench(
        dataset,
        make_feed(dataset.images),
        config.train,
        lambda: False,
        count_compilations(),
        {},
        print,
    )
    rng = np.random.default_rng(0)
    head = {"kernel": jnp.asarray(rng.normal(0, 0.01, (1280, 10)), jnp.float32), "bias": jnp.zeros(10)}
    start = Start(weights.params, weights.stats, {"conv_head": head}, name, (weights.params, weights.stats))
    return Lab(backbone, bench, start, config, make_forward(backbone, 18), stage_flops(backbone, weights, 32, 32, lowest=0))


@pytest.fixture(scope="session")
def deep_plan(lab) -> FreezePlan:
    return prefix_plan(lab.backbone.stages, 16)


@pytest.fixture(scope="session")
def deep_program(lab, deep_plan):
    return lab.program(deep_plan)
