"""A real trial in small: EfficientNet-Lite0 with its weights on 200 real digits of 32 px, two epochs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fteng.backbones.catalogue import load
from fteng.backbones.flops import stage_flops
from fteng.config import BackboneConfig, Config
from fteng.data.pixels import Resampling
from fteng.data.prepare import prepare
from fteng.entry import Entry, entry_of
from fteng.feed import make_feed
from fteng.freeze.plan import FreezePlan, prefix_plan
from fteng.prefix import cache
from fteng.prefix.walk import Walk
from fteng.train.batches import class_shares
from fteng.train.compilations import count_compilations
from fteng.train.evaluate import make_forward
from fteng.train.population import advance, answers_of
from fteng.train.shape import shape_of
from fteng.train.start import Start, untrained
from fteng.train.step import compile_step, initial_state, lower_step
from fteng.train.trial import Bench, Expected, begin, end
from fteng.trials import TrialSpec, Variant, study_context

USUAL = Variant()


class Lab(NamedTuple):
    backbone: Any
    bench: Bench
    feed: Any
    start: Start
    config: Config
    flops: Any
    forwards: dict[Any, Any]
    inputs: dict[Any, Any]

    @property
    def head(self):
        """That every tap starts from."""
        return self.start.heads["conv_head"]

    def program(self, plan: FreezePlan, recipe=None, head=None, variant=USUAL):
        """The compiled step of a plan."""
        recipe = recipe or self.bench.recipe
        shape, size = shape_of(plan, variant, recipe), recipe.batch_size
        network = untrained(self.start if head is None else self.start._replace(heads={plan.tap: head}), shape)
        state, frozen = initial_state(network, recipe)
        x = Walk(self.backbone, recipe, [shape.entry]).shapes(self.start, self.config.data.image_size, size)[shape.entry]
        shares, labels = class_shares(self.bench.dataset), jax.ShapeDtypeStruct((size,), np.int32)
        arguments = (state, frozen, x, labels, jnp.zeros(len(plan.stages) + 1), jax.random.key(0))
        return compile_step(lower_step(self.backbone, shape, network.mask, recipe, shares, self.flops, arguments))

    def spec(self, plan: FreezePlan, rate=1e-3, seed=0, variant=USUAL) -> TrialSpec:
        return TrialSpec(plan, variant, rate, seed, study_context(self.config, weights_digest="w", data_digest="d", preprocess={}))

    def entry(self, plan: FreezePlan, variant=USUAL) -> Entry:
        """Where trials of a plan enter the network."""
        return entry_of(plan, variant, self.bench.recipe)

    def recomputed(self, entry: Entry):
        """What trials of an entry take; made once, as in a study."""
        if (entry, self.feed.where) not in self.inputs:
            recipe = self.bench.recipe
            layout = cache.make_layout(self.bench.dataset, recipe)
            walk = Walk(self.backbone, recipe, [entry])
            job = cache.CacheJob(walk, self.start, self.bench.dataset, self.feed, layout, recipe.batch_size, {})
            self.inputs[entry, self.feed.where] = cache.inputs_at(job, {}, entry)
        return self.inputs[entry, self.feed.where]

    def begin(self, spec, program, where, *, bench=None, head=None):
        start = self.start if head is None else self.start._replace(heads={spec.plan.tap: head})
        key = self.entry(spec.plan, spec.variant), len(spec.plan.stages)
        forward = self.forwards.setdefault(key, make_forward(self.backbone, *key))
        expected = Expected(1.0, 0.0)
        return begin(bench or self.bench, start, spec, program=program, forward=forward, where=where, expected=expected)

    def run(self, spec, program, where, *, bench=None, head=None, on_step=lambda _: None, first=True):
        """A trial alone. on_step: told the number of each step."""
        bench = bench or self.bench
        member = self.begin(spec, program, where, bench=bench, head=head)
        inputs = self.recomputed(self.entry(spec.plan, spec.variant))
        advance(bench, [member], inputs, bench.length.steps, lambda live: on_step(live[0].step))
        sound = [member] if member.lost_at is None else []
        answers = {split: found[0] for split in ("val", "test") if (found := answers_of(bench, sound, inputs, split))}
        return end(bench, member, answers, first_of_shape=first)


@pytest.fixture(scope="session")
def lab() -> Lab:
    config = Config()
    config.data.source, config.data.image_size, config.data.limit = "digits", 32, 200
    config.train.epochs, config.train.batch_size, config.train.checkpoint_every = 2, 32, 1
    config.train.augment = ("shift",)
    backbone, weights = load(BackboneConfig("efficientnet_lite0", "package"))
    dataset = prepare(config.data, Resampling("bicubic"), lambda *_: None)
    name = {"backbone": backbone.name, "weights": weights.digest}
    bench = Bench(
        dataset,
        config.train,
        lambda: False,
        count_compilations(),
        {},
        print,
    )
    rng = np.random.default_rng(0)
    head = {"kernel": jnp.asarray(rng.normal(0, 0.01, (1280, 10)), jnp.float32), "bias": jnp.zeros(10)}
    start = Start(weights.params, weights.stats, {"conv_head": head}, name, (weights.params, weights.stats))
    flops = stage_flops(backbone, weights, 32, 32, {4, 16, 17})
    return Lab(backbone, bench, make_feed(dataset.images), start, config, flops, {}, {})


@pytest.fixture(scope="session")
def deep_plan(lab) -> FreezePlan:
    return prefix_plan(lab.backbone.stages, 16)


@pytest.fixture(scope="session")
def deep_program(lab, deep_plan):
    return lab.program(deep_plan)
