"""What memory is free: that of the machine, of its control groups, and of the workers that share it."""

import sys

from fteng import machine
from fteng.machine import available_memory, left_in_groups


def write_group(root, group, **files):
    folder = root / "sys/fs/cgroup" / group
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"stat": "anon 5\ninactive_file 0", **files}.items():
        (folder / f"memory.{name}").write_text(f"{text}\n")


def test_what_control_groups_leave_is_no_more_than_the_tightest_of_them(tmp_path):
    assert left_in_groups(tmp_path) == sys.maxsize
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/slurm/job7/step0\n")
    assert left_in_groups(tmp_path) == sys.maxsize
    write_group(tmp_path, "slurm/job7/step0", max="max", current="300")
    write_group(tmp_path, "slurm/job7", max="1000", current="600", stat="inactive_file 100\nanon 5")
    write_group(tmp_path, "slurm", max="5000", current="600")
    assert left_in_groups(tmp_path) == 500
    # Version 1, and more in use than is allowed.
    (tmp_path / "proc/self/cgroup").write_text("4:cpu:/a\n9:memory,hugetlb:/box\n")
    write_group(tmp_path, "memory/box", limit_in_bytes="1000", usage_in_bytes="1200")
    assert left_in_groups(tmp_path) == 0


def test_workers_on_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr(machine, "_free_memory", lambda: 1000)
    monkeypatch.setenv("FTENG_WORKERS_HERE", "4")
    assert available_memory() == 250
