"""The launcher on this machine: which devices, why a worker ended, and that none is left or waited for in vain."""

import os
import signal
import subprocess
import time

import pytest

from fteng import paths
from fteng.config import Config, LaunchConfig, to_dict
from fteng.errors import Interrupted
from fteng.jobs.claims import history, pull, write_plan
from fteng.jobs.files import JobFiles
from fteng.locks import take
from fteng.paths import StudyPaths
from fteng.process import STOPPED
from fteng.trials import TrialWork
from launch import local, sweep

CONFIG = Config(launch=LaunchConfig(workers=1))


@pytest.fixture
def files(tmp_path):
    found = JobFiles(StudyPaths(tmp_path).launch)
    paths.write_json(found.config, {"config": to_dict(CONFIG), "command": "x"})
    paths.write_json(StudyPaths(tmp_path).study, {"trials": [{"id": "a"}], "versions": {}, "git": "none"})
    write_plan(found, [TrialWork("a", "x/0", 0, 1.0, 0.0)], CONFIG)
    return found


def sleeper():
    return subprocess.Popen(["sleep", "60"])


@pytest.mark.parametrize(("chosen", "ids"), [("2,5", ["2", "5"]), ("", []), ("GPU-1, 3", ["GPU-1", "3"]), ("0,-1,1", ["0"])])
def test_the_users_choice_of_devices_counts(chosen, ids, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert local.devices() == ids


def test_without_a_choice_the_driver_counts_and_each_worker_gets_one(tmp_path, files, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: one'\necho 'GPU 1: two'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local.devices() == ["0", "1"]
    given = []
    monkeypatch.setattr(local.Local, "_start", lambda *words: given.append(words[2]) or subprocess.Popen(["true"]))
    local.Local(files.root.parent, lambda: None, 60).run(3, ["4", "7"], lambda: True)
    assert [extra["CUDA_VISIBLE_DEVICES"] for extra in given] == ["4", "7", "4"]
    # They share this machine's memory.
    assert {extra["FTENG_WORKERS_HERE"] for extra in given} == {"3"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("step 1\nfteng: no weights\nstep 2\n", "fteng: no weights"),
        ('Traceback (most recent call last):\n  File "x"\nValueError: boom\nbye\n', "ValueError: boom"),
        ("fteng: saving\nTraceback (most recent call last):\n  x\nKeyError: 'a'\n\n", "KeyError: 'a'"),
        ("Timeout (0:30:00)!\nThread 0x1 (most recent call first):\n  File x\n", "Timeout (0:30:00)!"),
        ("step 1\nstep 2\n", "step 2"),
        ("", ""),
    ],
)
def test_the_reason_is_what_it_said_last(text, why):
    assert local.reason(text) == why


def test_what_a_log_held_before_is_no_reason(files):
    machine = local.Local(files.root.parent, lambda: None, 60)
    files.logs.mkdir()
    (files.logs / "w.log").write_text("fteng: an old reason\n")
    process = machine._start("w", {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"})
    assert process.wait() != 0
    assert "an old reason" not in machine._last_line("w")


def test_whatever_ends_the_launcher_ends_its_workers(files, monkeypatch):
    started = []
    monkeypatch.setattr(local.Local, "_start", lambda *_: started.append(sleeper()) or started[-1])

    def fails():
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        local.Local(files.root.parent, fails, 60).run(1, [], lambda: True)
    assert [process.returncode for process in started] == [-signal.SIGTERM]


@pytest.mark.parametrize("again", [False, True])
def test_a_worker_that_does_not_leave_is_killed_in_the_end_or_at_a_second_ctrl_c(files, monkeypatch, again):
    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(local, "_GRACE", 0.0)

    class Waited(subprocess.Popen[bytes]):
        def wait(self, timeout=None):
            # Where the second Ctrl-C meets the launcher.
            if again and timeout is not None:
                raise KeyboardInterrupt
            return super().wait(timeout)

    def stubborn(*_):
        process = Waited(["sh", "-c", "trap '' TERM; echo; exec sleep 30"], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        # From here on it hears nothing.
        process.stdout.readline()
        process.stdout.close()
        return process

    def ctrl_c():
        raise KeyboardInterrupt

    monkeypatch.setattr(local.Local, "_start", stubborn)
    began = time.monotonic()
    with pytest.raises(local.Ended, match=r"killed before they had saved: .*-0; the same command goes on") as ended:
        local.Local(files.root.parent, ctrl_c, 60.0 if again else 0.3).run(1, [], lambda: True)
    assert ended.value.status == STOPPED
    assert [process.returncode for process in started] == [-signal.SIGKILL]
    assert time.monotonic() - began < 10


def test_a_worker_of_ours_that_is_stopped_as_a_whole_is_killed(files, monkeypatch):
    monkeypatch.setattr(local, "_GRACE", 0.0)
    claim = pull(files, StudyPaths(files.root.parent), "w")
    assert claim is not None
    machine, process = local.Local(files.root.parent, lambda: None, 0.05), sleeper()
    process.send_signal(signal.SIGSTOP)
    machine._running["w"] = process
    beat = {"pid": process.pid, "beats": 7, "at_work": False}
    for step in ({}, {"at_work": True}, {"at_work": True, "beats": 8}):
        paths.write_json(files.worker("w"), beat | step)
        machine._kill_hung()
        time.sleep(0.1)
        assert process.poll() is None
    machine._kill_hung()
    assert process.wait(5) == -signal.SIGKILL
    os.close(claim.handle)
    assert machine._witness("w", -signal.SIGKILL) == [claim.unit.name]
    assert history(files, claim.unit.name)[-1]["why"].startswith("made no step for ")


def test_who_only_waits_for_the_workers_of_another_says_that_they_go_on(files, monkeypatch):
    def asked_to_stop(_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("launch.watch.Watch.look", asked_to_stop)
    theirs = take(files.slot(f"{local.Local(files.root.parent, lambda: None, 1)._host}-0"))
    assert theirs is not None
    with pytest.raises(local.Ended, match=r"workers of another launcher go on \(.*-0\): .* cancel --workdir=") as ended:
        sweep._on_this_machine(files, CONFIG, [])
    assert ended.value.status == STOPPED
    os.close(theirs)


def test_a_cancelled_study_ends_as_cancelled(files):
    paths.write_text(files.cancelled, "")
    with pytest.raises(local.Ended, match="cancelled") as ended:
        sweep._end(files.root.parent)
    assert ended.value.status == STOPPED


@pytest.mark.slow
def test_cancelled_under_debug_it_ends_as_cancelled(files, monkeypatch):
    from fteng.jobs import run

    def everything(*_, watched):
        assert not watched
        raise Interrupted("nothing new")

    monkeypatch.setattr(run, "everything", everything)
    with pytest.raises(local.Ended, match="cancelled") as ended:
        sweep._here(CONFIG, files.root.parent)
    assert ended.value.status == STOPPED
