"""Logs: what people and machines read on standard error, and what they never read there."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from projector import logs
from projector.logs import BatchLog, redact
from projector.settings import Log

SECRET = "geheim"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, object]]]:
    """The JSON lines logged since the last call."""
    logs.configure(Log(level="info", format="json"))
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_json_line_has_time_level_and_event(lines: Callable[[], list[dict[str, str]]]) -> None:
    """One object a line, its time in UTC by ISO 8601."""
    structlog.get_logger().info("batch applied", documents=3, position="a:1-2")
    (line,) = lines()
    assert (line["event"], line["level"], line["documents"]) == ("batch applied", "info", 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])


def test_a_console_line_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Plain text without colours where nobody sees them."""
    logs.configure(Log(level="info", format="console"))
    structlog.get_logger().warning("Redis does not answer", url=f"redis://:{SECRET}@host/1")
    text = capsys.readouterr().err
    assert "Redis does not answer" in text
    assert "redis://***@host/1" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_stay_out_of_every_part_of_a_line(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Event, fields, nested fields, tracebacks, their local variables, and libraries' records."""
    logs.configure(Log.model_validate({"level": "info", "format": form}))
    url = f"mysql+pymysql://root:{SECRET}/@x@host/db"
    log = structlog.get_logger()
    log.info(f"connecting to {url}", nested={"urls": [url]}, other=OSError(url))
    try:
        raise OSError(f"cannot reach {url}")
    except OSError:
        log.exception("failed")
        logging.getLogger("redis").exception("failed for %s", url)
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # pytest makes errors of them
        warnings.warn(f"about {url}", stacklevel=1)
    text = capsys.readouterr().err
    assert "cannot reach" in text
    assert "redis" in text
    assert "about mysql" in text
    assert SECRET not in text


def test_a_traceback_shows_no_local_variable(capsys: pytest.CaptureFixture[str]) -> None:
    """Locals hold rows."""
    for form in ("json", "console"):
        logs.configure(Log.model_validate({"format": form}))
        try:
            row = ("ada" + "@example.org",)
            raise ValueError(len(row))
        except ValueError:
            structlog.get_logger().exception("failed")
    text = capsys.readouterr().err
    assert text.count("Traceback") == 2
    assert "ada@" not in text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("redis://:p@host/1", "redis://***@host/1"),
        ("rediss://user:a/b@c@host:6379", "rediss://***@host:6379"),
        ("(mysql://u:p@h/d) and mysql://h/d", "(mysql://***@h/d) and mysql://h/d"),
        ("password=geheim&x=1", "password=***&x=1"),
        ("{'password': 'ge heim', 'user': 'u'}", "{'password': ***, 'user': 'u'}"),
        ("position 3e11fa47-71ca:1-77", "position 3e11fa47-71ca:1-77"),
        ("file mysql-bin.000003 at 155", "file mysql-bin.000003 at 155"),
    ],
)
def test_redaction_takes_credentials_and_leaves_the_rest(text: str, clean: str) -> None:
    """Passwords go, even those with unescaped slashes and at signs; hosts and positions stay."""
    assert redact(text) == clean


def test_lines_below_the_level_are_dropped(lines: Callable[[], list[dict[str, object]]]) -> None:
    """`info` shows no debug lines, `error` only errors; libraries speak from warnings on."""
    structlog.get_logger().debug("hidden")
    logging.getLogger("redis").info("hidden")
    logging.getLogger("redis").warning("shown")
    logs.configure(Log(level="error", format="json"))
    structlog.get_logger().warning("hidden")
    structlog.get_logger().error("shown too")
    assert [line["event"] for line in lines()] == ["shown", "shown too"]


def test_a_signal_switches_debug_lines_on_and_off() -> None:
    """SIGUSR1 works on a running process, is confirmed, and comes back to the set level."""
    program = """
import os, signal, structlog
from projector import logs
from projector.settings import Log
logs.configure(Log(level="warning", format="json"))
logs.switch_level_on_signal()
log = structlog.get_logger().bind(part=1)
for expected in (1, 2, 3):
    log.debug(f"debug {expected}")
    log.info(f"info {expected}")
    os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line.get("log_level") or line["event"] for line in lines] == [
        "debug", "debug 2", "info 2", "warning", "debug",
    ]  # fmt: skip


def test_the_signal_does_not_end_the_process() -> None:
    """Without the handler SIGUSR1 kills."""
    before = signal.getsignal(signal.SIGUSR1)
    logs.switch_level_on_signal()
    assert callable(signal.getsignal(signal.SIGUSR1))
    signal.signal(signal.SIGUSR1, before)


def test_batches_beyond_the_rate_are_summed_up(
    lines: Callable[[], list[dict[str, object]]],
) -> None:
    """Thousands of batches give a few lines, and the sums over all lines are complete."""
    now = 100.0
    batches = BatchLog(per_second=5, clock=lambda: now)
    for _ in range(1000):
        batches.applied({"documents": 2, "transactions": 1}, position="a:1-9", lag_s=0.5)
    assert len(lines()) == 5
    now = 101.0
    batches.applied({"documents": 2, "transactions": 1}, position="a:1-10", lag_s=0.0)
    (line,) = lines()
    assert (line["documents"], line["position"]) == (2, "a:1-10")
    assert (line["left_out_batches"], line["left_out_documents"]) == (995, 1990)
    batches.flush()
    assert lines() == []


def test_the_last_batches_of_a_burst_are_told_on_flush(
    lines: Callable[[], list[dict[str, object]]],
) -> None:
    """When the log falls idle nothing stays untold."""
    batches = BatchLog(per_second=1, clock=lambda: 100.0)
    for _ in range(3):
        batches.applied({"documents": 1})
    batches.flush()
    first, rest = lines()
    assert first["documents"] == 1
    assert (rest["left_out_batches"], rest["left_out_documents"]) == (2, 2)


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    """Standard error on a full disk, or closed: all goes on, and ends as it would."""
    program = (
        "import structlog\n"
        "from projector import logs, settings\n"
        "logs.configure(settings.Log(format='json'))\n"
        "for n in range(2000): structlog.get_logger().error('event', n=n)\n"
        "print('still here')\n"
    )
    command = [sys.executable, "-c", program]
    for redirection in ("2>/dev/full", "2>&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *command],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "still here\n"), redirection


def test_lost_lines_are_counted_when_there_is_room_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next line that can be written says how many could not."""
    logs.configure(Log(format="json"))
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        structlog.get_logger().error("lost")
        structlog.get_logger().error("lost")
    with open(tmp_path / "log", "w+") as room:
        monkeypatch.setattr(sys, "stderr", room)
        structlog.get_logger().error("kept")
        structlog.get_logger().error("kept too")
        room.seek(0)
        found = [json.loads(line) for line in room]
    assert [(line["event"], line.get("lines_lost")) for line in found] == [
        ("kept", 2), ("kept too", None),
    ]  # fmt: skip
