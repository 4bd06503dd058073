"""What the original network says to drawn weights and images, kept as a small file. Needs torch; run by the scripts beside it.

A golden file `NAME.npz` holds: shapes (the state dict's names and shapes, JSON), versions, size, `logits` (n, classes), and one
`tap/STAGE` (n, channels) a stage; for networks with batch norm the same under `train/`, in training mode without dropout.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from drawn import draw, image_batch

HERE = Path(__file__).parent
Pool = Callable[[torch.Tensor], torch.Tensor]


def average(y: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) -> (n, c)."""
    return y.mean((2, 3))


def record(
    name: str,
    model: torch.nn.Module,
    taps: Mapping[str, str],
    *,
    size: int,
    versions: str,
    pool: Pool | Mapping[str, Pool] = average,
    images: int = 2,
    train: bool = False,
) -> None:
    """Writes NAME.npz. taps: our stage -> the torch module whose output is the stage's; pool: of all stages, or one a stage."""
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(draw(key, shape)) for key, shape in shapes.items()})
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    kept: dict[str, np.ndarray] = {
        "shapes": np.array(json.dumps(shapes)),
        "versions": np.array(f"torch {torch.__version__}, {versions}"),
        "size": np.array(size),
    }
    x = torch.from_numpy(image_batch(images, size)).permute(0, 3, 1, 2).contiguous()
    # Training mode last: it moves the running statistics.
    for prefix, mode in (("", False), *((("train/", True),) if train else ())):
        kept |= {f"{prefix}{key}": value for key, value in _run(model.train(mode), x, taps, pool).items()}
    np.savez_compressed(HERE / f"{name}.npz", **kept)
    print(f"{name}.npz: {(HERE / f'{name}.npz').stat().st_size / 1024:.0f} KiB")


def _run(
    model: torch.nn.Module, x: torch.Tensor, taps: Mapping[str, str], pool: Pool | Mapping[str, Pool]
) -> dict[str, np.ndarray]:
    seen: dict[str, np.ndarray] = {}
    modules = dict(model.named_modules())
    hooks = []
    for stage, module in taps.items():
        pooled = pool[stage] if isinstance(pool, Mapping) else pool

        def keep(_module, _inputs, output, stage=stage, pooled=pooled) -> None:
            seen[f"tap/{stage}"] = pooled(output).numpy()

        hooks.append(modules[module].register_forward_hook(keep))
    with torch.no_grad():
        logits = model(x).numpy()
    for hook in hooks:
        hook.remove()
    return seen | {"logits": logits}
