"""The status page in a real browser, served by the real server from a Health that tests move."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from projector import metrics
from projector.errors import TransientError
from projector.model import Leader
from projector.service.health import Health, Resync, State
from projector.service.http import Server
from projector.settings import Http
from tests.browser import Browser, BrowserUnavailable, ensure_chromium, open_browser

SHOTS = os.environ.get("PROJECTOR_TEST_SCREENSHOTS")  # a folder: keep pictures to look at


@dataclass
class Daemon:
    """What a daemon would be, as far as the page can tell."""

    health: Health
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/"

    def lead(self) -> None:
        """Lead, with everything applied."""
        self.health.update(state=State.LEADING, database_up=True, redis_up=True, epoch=7)
        self.health.applied(time.time(), True, time.time())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of this module."""
    try:
        ensure_chromium()
    except BrowserUnavailable as problem:
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(str(problem), pytrace=False)
        pytest.skip(str(problem))
    with open_browser() as browser:
        yield browser


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A server with a Health that has heard nothing yet; heartbeats count for an hour."""
    health = Health(("tickets",), heartbeat_s=1200)
    server = Server(Http(port=0), health)
    server.start()
    yield Daemon(health, server)
    server.stop()


def keep(page_name: str) -> Path:
    """Where a picture goes."""
    return Path(SHOTS or os.devnull).joinpath(f"{page_name}.png")


def test_the_page_follows_the_daemon_without_being_reloaded(
    browser: Browser, daemon: Daemon
) -> None:
    """State, lag, documents and events change on the open page."""
    page = browser.page(daemon.url)
    page.wait_until("document.getElementById('state').textContent === 'Starting'")
    metrics.documents.labels("tickets").set(1234567)
    daemon.lead()
    daemon.health.update(checkpoint="3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77")
    page.wait_until("document.getElementById('state').textContent === 'Leading'")
    page.wait_until("document.getElementById('documents').textContent === '1,234,567'")
    assert page.text("#lag") == "0 s"
    assert page.ask("document.getElementById('hero').dataset.tone") == "ok"
    assert ":1-77" in page.text("#facts")
    assert "leading, was starting" in page.text("#events")
    page.wait_until("document.querySelectorAll('#lag-chart .line').length > 0")
    assert page.ask("document.title") == "Leading · tickets"


def test_a_moment_of_the_chart_can_be_read(browser: Browser, daemon: Daemon) -> None:
    """Pointer and arrow keys choose a second; its time and number stand above the chart."""
    daemon.lead()
    page = browser.page(daemon.url)
    page.wait_until("samples.length > 1")
    corner = page.ask("(r => [r.right - 3, r.top + 40])($('lag-chart').getBoundingClientRect())")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=corner[0], y=corner[1])
    page.wait_until(
        "/^\\d\\d:\\d\\d:\\d\\d: 0 s$/.test(document.getElementById('lag-read').textContent)"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    page.wait_until("document.getElementById('lag-read').textContent === 'highest 0 s'")
    page.ask("document.getElementById('rate-chart').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight")
    page.wait_until("document.getElementById('rate-read').textContent.endsWith(': 0 and 0')")


def test_a_hidden_page_does_not_cry_wolf(browser: Browser, daemon: Daemon) -> None:
    """A page behind another asks seldom and does not take that for the daemon's silence."""
    daemon.lead()
    page = browser.page(daemon.url)
    page.wait_until("document.getElementById('state').textContent === 'Leading'")
    browser.page("about:blank#other")
    page.wait_until("document.hidden && performance.now() - heardAt > 3500")
    assert page.text("#state") == "Leading"


def test_a_resync_shows_its_progress_and_the_time_left(browser: Browser, daemon: Daemon) -> None:
    """A walk under way has a bar, its rate and the time left; a finished one is gone."""
    daemon.lead()
    daemon.health.update(resync=Resync("requested", 250_000, 1_000_000, 12_500.0))
    page = browser.page(daemon.url)
    page.wait_until("!document.getElementById('resync').hidden")
    assert page.ask("document.getElementById('resync-bar').value") == 0.25
    assert "12,500 a second" in page.text("#resync")
    assert "1 min 0 s left" in page.text("#resync")
    daemon.health.update(resync=None)
    page.wait_until("document.getElementById('resync').hidden")


def test_a_dead_server_is_said_at_the_top(browser: Browser, daemon: Daemon) -> None:
    """The headline names what does not answer."""
    daemon.lead()
    daemon.health.failing(TransientError("redis", "connection refused"))
    daemon.health.lost("redis")
    page = browser.page(daemon.url)
    page.wait_until("document.getElementById('hero').dataset.tone === 'bad'")
    assert page.text("#why") == "Redis not answering."
    assert "Redis does not answer" in page.text("#events")


def test_the_page_admits_that_the_daemon_is_silent(browser: Browser, daemon: Daemon) -> None:
    """When the process stops answering, the old numbers are no longer shown as the truth."""
    daemon.lead()
    page = browser.page(daemon.url)
    page.wait_until("document.getElementById('state').textContent === 'Leading'")
    daemon.server.stop()
    page.wait_until("document.getElementById('state').textContent === 'Not answering'")
    assert "No word from this process" in page.text("#why")
    assert page.ask("getComputedStyle(document.querySelector('.tiles')).opacity") == "0.45"


def test_the_page_asks_for_nothing_from_outside(browser: Browser, daemon: Daemon) -> None:
    """One document and its data, under its own policy, without an error in the console."""
    daemon.lead()
    page = browser.page(daemon.url)
    page.wait_until("document.getElementById('state').textContent === 'Leading'")
    asked = {url for url in page.requested() if not url.startswith("data:")}
    assert asked == {daemon.url, f"{daemon.url}status.json"}
    assert page.complaints() == []


def test_markup_in_a_message_stays_text(browser: Browser, daemon: Daemon) -> None:
    """An event that holds HTML is shown, not run."""
    daemon.lead()
    daemon.health.event("<img src=x onerror=alert(1)>")
    page = browser.page(daemon.url)
    page.wait_until("document.getElementById('events').innerText.includes('onerror')")
    assert page.ask("document.querySelectorAll('#events img').length") == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100], ids=["phone", "desk"])
def test_the_page_fits_and_can_be_read(
    browser: Browser, daemon: Daemon, width: int, dark: bool
) -> None:
    """Nothing scrolls sideways, and small text has a contrast of at least 4.5 (WCAG AA)."""
    daemon.lead()
    daemon.health.update(
        checkpoint=",".join(f"3e11fa47-71ca-11e1-9e33-{n:012}:1-9" for n in range(4))
    )
    daemon.health.failed("transient", "x" * 120)
    page = browser.page(daemon.url, width=width, dark=dark)
    page.wait_until("document.getElementById('state').textContent === 'Leading'")
    if SHOTS:
        page.screenshot(keep(f"{'dark' if dark else 'light'}-{width}"))
    assert page.ask("document.documentElement.scrollWidth") <= width
    for selector in ("#lag-note", "#why", "#state", "li.error .what", "dd.good"):
        assert page.ask(_CONTRAST % selector) >= 4.5, selector


def test_the_readmes_picture_is_of_this_page(browser: Browser, daemon: Daemon) -> None:
    """A leader with a million documents; `make pictures` takes it again. The picture has the width
    that the page has today."""
    metrics.documents.labels("tickets").set(1_000_000)
    daemon.lead()
    daemon.health.update(checkpoint="3e11fa47-71ca-11e1-9e33-c80aa9429562:1-48213")
    page = browser.page(daemon.url, width=1100)
    page.wait_until("document.getElementById('documents').textContent === '1,000,000'")
    for second in range(12 if os.environ.get("PROJECTOR_TEST_PICTURES") else 1):
        for _ in range(300 + 60 * (second % 4)):
            metrics.commit_to_redis.observe(0.0011)
        metrics.documents_written.labels("change").inc(300 + 60 * (second % 4))
        metrics.row_changes.labels("tickets", "update").inc(480 + 90 * (second % 3))
        daemon.health.applied(time.time(), True, time.time())
        page.wait_until(f"samples.length > {second + 3}")
    if os.environ.get("PROJECTOR_TEST_PICTURES"):
        page.screenshot(PICTURE)
    shown = PICTURE.read_bytes()
    assert shown[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(shown[16:20], "big") in (1100, 2200)


PICTURE = Path(__file__).parents[2] / "docs" / "images" / "status.png"
_CONTRAST = """(() => {
  const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = text =>
    rgb(text).reduce((sum, v, i) => sum + linear(v) * [.2126, .7152, .0722][i], 0);
  const element = document.querySelector('%s'), card = element.closest('.card');
  const ink = light(getComputedStyle(element).color);
  const ground = light(getComputedStyle(card).backgroundColor);
  return (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05);
})()"""


@pytest.mark.parametrize(
    ("leader", "tone", "sentence"),
    [
        (Leader("db-7:4711", 0.5, 0.0), "ok", "Led by db-7:4711: everything committed is in"),
        (Leader("db-7:4711", 0.5, 42.0), "ok", "Led by db-7:4711, 42 s behind the database."),
        (
            Leader("db-7:4711", 90.0, 88.0, "tickets changes: the server is away"), "wait",
            "which waits: tickets changes: the server is away. The documents are as of 1 min 30 s",
        ),
        (Leader(None, 12.0), "wait", "Nobody leads: this process takes over in a moment."),
    ],
)  # fmt: skip
def test_a_standby_says_who_leads_and_how_old_the_documents_are(
    browser: Browser, daemon: Daemon, leader: Leader, tone: str, sentence: str
) -> None:
    """And what is away, as far as the leader says so."""
    daemon.health.update(state=State.STANDBY, redis_up=True, leader=leader)
    page = browser.page(daemon.url)
    page.wait_until("document.getElementById('state').textContent === 'Standby'")
    assert sentence in page.text("#why")
    assert page.ask("document.getElementById('hero').dataset.tone") == tone
    assert (leader.name or "nobody") in page.text("#facts")
    daemon.health.update(state=State.LEADING)
    page.wait_until("document.getElementById('state').textContent === 'Leading'")
    assert "Leader" not in page.text("#facts")
