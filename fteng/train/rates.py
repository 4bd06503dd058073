"""The learning rate of every step and stage, reckoned before training: the step takes rates as an argument, so that neither
another schedule nor another length of study is another program."""

from functools import lru_cache

import numpy as np
import optax
from jaxtyping import Float32

from fteng.config import TrainConfig
from fteng.freeze.plan import FreezePlan
from fteng.trials import Variant

# Share of all steps over which gradual unfreezing goes down to the lowest trained stage.
_UNFREEZING = 0.5


def rates_of(
    peak: float, recipe: TrainConfig, plan: FreezePlan, variant: Variant, total_steps: int
) -> Float32[np.ndarray, "steps parts"]:
    """The rate at each step for each stage, and last the head. peak: before all factors."""
    return np.float32(peak) * rate_factors(recipe, total_steps)[:, None] * stage_factors(plan, variant, total_steps)


def rate_factors(recipe: TrainConfig, total_steps: int) -> Float32[np.ndarray, "steps"]:
    """Factor on the peak rate at each step: linear warm-up, then a half cosine to 0 (Loshchilov and Hutter 2017), or a tenth from
    each drop on."""
    warmup = round(recipe.warmup_fraction * total_steps)
    if recipe.schedule == "cosine":
        return _cosine(warmup, total_steps)
    step = np.arange(total_steps)
    rising = np.minimum((step + 1) / (warmup + 1), 1.0)
    dropped = sum(step >= share * total_steps for share in recipe.drops)
    return (rising * 0.1**dropped).astype(np.float32)


@lru_cache
def _cosine(warmup: int, total_steps: int) -> Float32[np.ndarray, "steps"]:
    # Kept, since optax traces it anew each time, which takes longer than a linear probe's steps.
    schedule = optax.schedules.warmup_cosine_decay_schedule(1.0 / (warmup + 1), 1.0, warmup, total_steps + 1)
    return np.asarray(schedule(np.arange(total_steps)), np.float32)


def stage_factors(plan: FreezePlan, variant: Variant, total_steps: int) -> Float32[np.ndarray, "steps parts"]:
    """Factor on that at each step for each stage, and last the head.

    Layer decay: the tap has layer_decay, the stage before it layer_decay ** 2, and so on (Clark et al. 2020). Gradual unfreezing:
    the head from the start, then the trained stages from the last to the first at even distances (Howard and Ruder 2018).
    """
    end = len(plan.stages)
    factors = np.ones((total_steps, end + 1), np.float32)
    factors[:, :end] *= np.float32(variant.layer_decay) ** np.arange(end, 0, -1, dtype=np.float32)
    if variant.unfreezing == "gradual":
        trained = [index for index, trains in enumerate(plan.trains) if trains]
        for place, index in enumerate(reversed(trained), 1):
            factors[: round(place / (len(trained) + 1) * _UNFREEZING * total_steps), index] = 0.0
    return factors
