"""A hub reference: weights and config of one commit, from a server or the cache; every failure is one line that says what to do.

The server is ours, on this machine. Its variables are read by huggingface_hub when it is imported, so each case is a process.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import safetensors.numpy

from fteng.backbones.files.hub import fetch
from fteng.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "1123456789abcdef0123456789abcdef01234567"
WEIGHTS = safetensors.numpy.save({"w": np.arange(3, dtype=np.float32)})
FIELDS = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "input_size": [3, 224, 224],
    "interpolation": "bilinear",
    "crop_pct": 0.875,
}
CONFIG = {"architecture": "vgg16", "num_classes": 1000, "pretrained_cfg": {**FIELDS, "crop_mode": "center", "first_conv": "f"}}


def _repository(config, weights: str = "model.safetensors", commit: str = COMMIT) -> dict[str, tuple[str, bytes]]:
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    return {f"main/{weights}": (commit, WEIGHTS), f"{commit}/config.json": (commit, text)}


def _bad(**fields) -> dict[str, tuple[str, bytes]]:
    return _repository({**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], **fields}})


REPOSITORIES: dict[str, dict[str, tuple[str, bytes]]] = {
    "timm/vgg16.tv_in1k": {
        **_repository(CONFIG),
        "v1/model.safetensors": (OLDER, WEIGHTS[:-1] + b"\x41"),
        f"{OLDER}/config.json": (OLDER, json.dumps({**FIELDS, "architecture": "vgg16_old"}).encode()),
    },
    "timm/pickle": _repository(CONFIG, "pytorch_model.bin"),
    "timm/noweights": {"main/README.md": (COMMIT, b"")},
    "timm/noconfig": {"main/model.safetensors": (COMMIT, WEIGHTS)},
    "timm/nojson": _repository(b"<html>"),
    "timm/list": _repository([1]),
    "timm/nostd": _bad(std=[0, 1, 1]),
    "timm/nomean": _bad(mean=None),
    "timm/nan": _bad(mean=[0.5, float("nan"), 0.5]),
    "timm/size": _bad(input_size=[3, 224.5, 224]),
    "timm/interpolation": _bad(interpolation="area"),
    "timm/crop": _bad(crop_pct=0),
    "timm/squash": _bad(crop_mode="squash"),
    "timm/noname": _repository({"pretrained_cfg": FIELDS}),
}


class _Hub(BaseHTTPRequestHandler):
    """What the hub answers to a request for a file."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, format, *args):
        pass

    def _answer(self, *, body: bool) -> None:
        self.asked.append(self.path)
        repository, _, place = self.path.lstrip("/").partition("/resolve/")
        files = REPOSITORIES.get(repository, {})
        if repository == "timm/gated":
            return self._refuse(403, "GatedRepo")
        if repository == "timm/broken":
            return self._refuse(500, "")
        if repository not in REPOSITORIES:
            return self._refuse(401, "RepoNotFound")
        if place.split("/")[0] not in {name.split("/")[0] for name in files}:
            return self._refuse(404, "EntryNotFound" if place.startswith(COMMIT) else "RevisionNotFound")
        if place not in files:
            return self._refuse(404, "EntryNotFound")
        commit, content = files[place]
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hash(content) & 0xFFFFFFFF:x}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)
        return None

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if code == "EntryNotFound":
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


# The hub's own waits between attempts, 23 s in all, are left out.
SCRIPT = """
import json, sys, time
time.sleep = lambda _: None
from fteng.backbones.files.hub import fetch
from fteng.errors import UserError
for reference in sys.argv[1:]:
    try:
        file = fetch(reference)
        print(json.dumps([str(file.path), file.config]))
    except UserError as error:
        print(json.dumps(str(error)))
"""


def fetched(home: Path, endpoint: str, *references: str, **variables: str) -> list:
    """What a process of its own gets for each reference."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()}
    environment = {**kept, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", **variables}
    command = [sys.executable, "-c", SCRIPT, *references]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_weights_and_config_of_one_commit_then_offline_then_with_no_hub(tmp_path, endpoint):
    references = ("hf:timm/vgg16.tv_in1k", "hf:timm/vgg16.tv_in1k@v1", "hf:timm/pickle")
    first = fetched(tmp_path, endpoint, *references)
    (path, config), (older_path, older_config), (pickle_path, _) = first
    assert Path(path).read_bytes() == WEIGHTS
    assert Path(path).name == "model.safetensors"
    assert (Path(path).parent.name, Path(older_path).parent.name) == (COMMIT, OLDER)
    assert config == {"architecture": "vgg16", **FIELDS}
    assert Path(older_path).read_bytes() == WEIGHTS[:-1] + b"\x41"
    assert older_config == {"architecture": "vgg16_old", **FIELDS}
    assert Path(pickle_path).name == "pytorch_model.bin"
    *again, line = fetched(tmp_path, endpoint, *references, "hf:timm/nostd", HF_HUB_OFFLINE="1")
    assert again == first
    nothing = (
        f"model.safetensors or pytorch_model.bin is not in the cache {tmp_path}/hub; "
        "go online once, or download the file elsewhere and give its path"
    )
    assert line == f"backbone.weights=hf:timm/nostd: HF_HUB_OFFLINE is set and {nothing}"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        again, line = fetched(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}", references[0], "hf:timm/nostd")
    assert again == first[0]
    assert line.startswith("backbone.weights=hf:timm/nostd: the hub did not answer (")
    assert line.endswith(f"Connection refused) and {nothing}")


def test_every_refusal_is_one_line(tmp_path, endpoint):
    wanted = {
        "timm/absent": "the hub has no repository timm/absent, or it is private; check the name, set HF_TOKEN, or download",
        "timm/gated": "access to timm/gated is granted on request only; ask for it on its page and set HF_TOKEN, or download",
        "timm/vgg16.tv_in1k@v9": "timm/vgg16.tv_in1k has no revision 'v9'; give a branch, tag or commit of it",
        "timm/noweights": "timm/noweights has no model.safetensors or pytorch_model.bin at revision main; take another",
        "timm/noconfig": f"timm/noconfig has no config.json at revision {COMMIT}; take another repository, or download",
        "timm/nojson": "its config.json is not JSON",
        "timm/list": "its config.json is not an object",
        "timm/nostd": "has std=[0, 1, 1], allowed: three positive numbers",
        "timm/nomean": "has mean=None, allowed: three numbers",
        "timm/nan": "has mean=[0.5, nan, 0.5], allowed: three numbers",
        "timm/size": "has input_size=[3, 224.5, 224], allowed: channels, height and width",
        "timm/interpolation": "has interpolation='area', allowed: bicubic",
        "timm/crop": "has crop_pct=0, allowed: a number above 0, at most 1",
        "timm/squash": "has crop_mode='squash', allowed: center",
        "timm/noname": "has architecture=None, allowed: timm's name of the network",
        "timm/a--b": "write hf:OWNER/NAME",
        "timm/broken": "the hub did not answer (Server error '500 Internal Server Error'",
    }
    lines = fetched(tmp_path, endpoint, *(f"hf:{name}" for name in wanted))
    for (name, words), line in zip(wanted.items(), lines, strict=True):
        assert isinstance(line, str), name
        assert words in line
        assert line.startswith(f"backbone.weights=hf:{name}: ")
        assert "\n" not in line
    # A hub that does not answer is not asked for the next file: each costs 23 s of waiting.
    assert {path.split("/")[-1] for path in _Hub.asked if path.startswith("/timm/broken/")} == {"model.safetensors"}


@pytest.mark.parametrize("reference", ["hf:", "hf:vgg16", "hf:a/b/c", "hf:timm/vgg16@", "hf:../../x", "timm/vgg16", "hf:a/b@c d"])
def test_what_is_no_reference_is_refused(reference):
    with pytest.raises(UserError, match=r"is no hub reference; write hf:OWNER/NAME"):
        fetch(reference)


def test_without_huggingface_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"hf:timm/vgg16 needs huggingface_hub, .*; pip install 'fteng\[hub\]'"):
        fetch("hf:timm/vgg16")
