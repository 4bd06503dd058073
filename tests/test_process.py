"""How a process begins: anew with huge pages, once, where Linux gives them to who asks."""

import os
import platform
import subprocess
import sys

import pytest

from fteng import process

# Says how it was called, after it has begun anew (or not).
PROGRAM = """\
import os, sys
from pathlib import Path
from fteng import process
process._KERNEL = Path(sys.argv[1])
process.begin_with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES", ""), os.getpid(), sys.flags.utf8_mode, *sys.argv[2:], sep="|")
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def begun(tmp_path, kernel: str, *flags: str, **environment: str) -> tuple[list[str], int]:
    """What the program says, and the process it was started as."""
    (tmp_path / "kernel").write_text(kernel)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, *flags, str(tmp_path / "program.py"), str(tmp_path / "kernel"), "--a=1 2", "b"]
    told = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | environment
    with subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True) as program:
        said, _ = program.communicate(timeout=60)
    assert program.returncode == 0
    return said.strip().split("|"), program.pid


@glibc
def test_a_command_begins_anew_as_the_same_process_with_the_same_arguments(tmp_path):
    (tunables, number, utf8, *arguments), started = begun(tmp_path, "always [madvise] never\n", "-X", "utf8")
    assert (tunables, int(number), utf8, arguments) == ("glibc.malloc.hugetlb=1", started, "1", ["--a=1 2", "b"])


@glibc
def test_other_tunables_are_kept(tmp_path):
    said, _ = begun(tmp_path, "always [madvise] never\n", GLIBC_TUNABLES="glibc.malloc.arena_max=2")
    assert said[0] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("kernel", ["[always] madvise never\n", "always madvise [never]\n", ""])
def test_where_asking_changes_nothing_nobody_asks(tmp_path, kernel):
    said, _ = begun(tmp_path, kernel)
    assert said[0] == ""


def test_who_has_chosen_is_asked_no_more(tmp_path):
    said, _ = begun(tmp_path, "always [madvise] never\n", GLIBC_TUNABLES="glibc.malloc.hugetlb=0")
    assert said[0] == "glibc.malloc.hugetlb=0"


def test_another_c_library_or_system_is_not_asked(monkeypatch, tmp_path):
    (tmp_path / "kernel").write_text("always [madvise] never\n")
    monkeypatch.setattr(process, "_KERNEL", tmp_path / "kernel")
    monkeypatch.setattr(os, "confstr", lambda _: None)
    assert not process._given_on_request()
    monkeypatch.setattr(process, "_KERNEL", tmp_path / "missing")
    assert not process._given_on_request()
