"""PyTorch's side of `python -m benchmarks.backbones`, which starts it: builds one network and runs it when told to.

A script for any Python that has torch, timm, torchvision and safetensors; it needs nothing of fteng. One JSON object a line comes
in on stdin, one a line goes out on stdout, and between two of them this process sleeps:

    {"do": "hello"}                                          -> {"versions": {..}, "cuda": bool}
    {"do": "build", "model": "timm/NAME", "file": PATH, "device": "cpu", "precision": "float32", "threads": 2}    -> {}
    {"do": "prepare", "side": "torch compile", "pass": "forward"}            -> {"seconds": of the first call, "answer": [..]}
    {"do": "run", "side": "torch compile", "pass": "forward", "calls": 1}    -> {"seconds": of all calls}

The answer is the logits, row by row, or the gradient's norm. An exception is answered by {"error": its first line}.
"""

import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

# Outputs, size, stride and padding of each convolution of All-CNN-C.
_ALL_CNN_C = (
    (96, 3, 1, 1),
    (96, 3, 1, 1),
    (96, 3, 2, 1),
    (192, 3, 1, 1),
    (192, 3, 1, 1),
    (192, 3, 2, 1),
    (192, 3, 1, 0),
    (192, 1, 1, 0),
)


def main() -> None:
    # What torch and its compilers print is not to stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    runs: dict[tuple[str, str], Callable[[], Any]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _answer(asked, runs)
        # Whatever a compiler throws is that compiler's result here.
        except Exception as error:
            text = str(error).strip()
            answer = {"error": f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(asked: dict[str, Any], runs: dict[tuple[str, str], Callable[[], Any]]) -> dict[str, Any]:
    if asked["do"] == "hello":
        return _hello()
    if asked["do"] == "build":
        runs.clear()
        runs |= _build(asked)
        return {}
    run = runs[asked["side"], asked["pass"]]
    if asked["do"] == "prepare":
        started = time.perf_counter()
        result = run()
        _synchronise()
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "answer": _norm(result) if asked["pass"] == "backward" else result.float().tolist()}
    started = time.perf_counter()
    for _ in range(asked["calls"]):
        run()
    _synchronise()
    return {"seconds": time.perf_counter() - started}


def _hello() -> dict[str, Any]:
    import safetensors  # noqa: F401
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    import torchvision  # pyright: ignore[reportMissingImports]

    versions = {module.__name__: module.__version__ for module in (torch, timm, torchvision)}
    return {"versions": versions, "cuda": torch.cuda.is_available()}


def _build(asked: dict[str, Any]) -> dict[tuple[str, str], Callable[[], Any]]:
    """(side, pass) -> what to call. The file holds the state dict, and under `images` the batch (n, h, w, 3)."""
    import torch  # pyright: ignore[reportMissingImports]
    from safetensors.torch import load_file

    torch.set_num_threads(asked["threads"])
    # float32 is float32: cuDNN would take TF32. Its search for the fastest way is what XLA does too.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch._dynamo.reset()
    placed = {"device": asked["device"], "dtype": getattr(torch, asked["precision"]), "memory_format": torch.channels_last}
    tensors = load_file(asked["file"])
    images = tensors.pop("images").permute(0, 3, 1, 2).to(**placed)
    model = _model(asked["model"])
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{asked['model']}: missing {missing[:4]}, unexpected {unexpected[:4]}")
    model = model.eval().to(**placed)
    parameters = list(model.parameters())

    def loss(images: Any) -> Any:
        return model(images).float().square().mean()

    runs: dict[tuple[str, str], Callable[[], Any]] = {}
    for side in ("torch eager", "torch compile"):
        forward, objective = (torch.compile(model), torch.compile(loss)) if side == "torch compile" else (model, loss)
        runs[side, "forward"] = torch.no_grad()(lambda forward=forward: forward(images))
        runs[side, "backward"] = lambda objective=objective: torch.autograd.grad(objective(images), parameters)
    return runs


def _model(name: str) -> Any:
    """LIBRARY/NAME, where `.features` behind it is the convolutions alone and average pooling."""
    from torch import nn  # pyright: ignore[reportMissingImports]

    library, _, name = name.partition("/")
    if library == "fteng":
        return _all_cnn_c()
    if library == "timm":
        import timm  # pyright: ignore[reportMissingImports]

        return timm.create_model(name)
    import torchvision  # pyright: ignore[reportMissingImports]

    model = torchvision.models.get_model(name.removesuffix(".features"), weights=None)
    if not name.endswith(".features"):
        return model
    return nn.Sequential(OrderedDict(features=model.features, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()))


def _all_cnn_c() -> Any:
    from torch import nn  # pyright: ignore[reportMissingImports]

    parts: OrderedDict[str, Any] = OrderedDict()
    inputs = 3
    for number, (outputs, size, stride, padding) in enumerate(_ALL_CNN_C, 1):
        parts[f"conv{number}"] = nn.Conv2d(inputs, outputs, size, stride, padding)
        parts[f"relu{number}"] = nn.ReLU()
        inputs = outputs
    return nn.Sequential(parts | {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(inputs, 10)})


def _norm(gradients: Any) -> list[float]:
    return [sum(float(gradient.double().square().sum()) for gradient in gradients) ** 0.5]


def _synchronise() -> None:
    import torch  # pyright: ignore[reportMissingImports]

    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
