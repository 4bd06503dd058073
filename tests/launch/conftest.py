"""A SLURM of four nodes on this machine, for the tests of one file."""

import os
import shutil
import subprocess

import pytest

from tests.launch.slurm_runs import BOX


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("needs root and Debian's packages")
    folder = tmp_path_factory.mktemp("box")
    started = subprocess.run(["bash", BOX, "up", folder], capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stderr
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    subprocess.run(["bash", BOX, "down", folder], check=False)
    del os.environ["SLURM_CONF"]
