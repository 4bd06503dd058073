import io

from fteng import progress
from fteng.progress import LiveReporter, PlainReporter, make_reporter


def test_plain_lines_tell_phase_share_time_and_note(monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    reporter = PlainReporter(stream)
    reporter.phase("trials", 4)
    for step in range(4):
        reporter.advance(1, f"step {step}")
    reporter.phase("report", 1)
    reporter.stop()
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("trials: 50%, ")
    assert lines[0].endswith(" s left, step 1")
    assert lines[-1].startswith("trials: done in ")
    assert not any("report" in line for line in lines)


def test_a_file_gets_lines_and_a_terminal_a_bar():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(make_reporter(io.StringIO()), PlainReporter)
    stream = Terminal()
    reporter = make_reporter(stream)
    assert isinstance(reporter, LiveReporter)
    reporter.phase("trials", 2)
    reporter.advance(1, "trial [1/2] of <many>")
    reporter.say("a line with [brackets]")
    reporter.close()
    assert "a line with [brackets]" in stream.getvalue()
