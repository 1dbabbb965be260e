"""What stands in the log: one event a line with its ids, nothing secret, nothing that a peer could fake or flood."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from van.router import log
from van.router.log import REPEAT_WINDOW_SECONDS, REPEATS
from van.router.sections import LogConfig


class Log:
    """A log that a scene writes to and reads back; its clock is set by hand."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.now = 0.0

    def configure(self, **keys: Any) -> None:
        log.configure(LogConfig(**{"format": "json", **keys}), self.stream, clock=lambda: self.now, router="east")

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def logged() -> Iterator[Log]:
    handlers = logging.getLogger().handlers[:]
    yield Log()
    logging.getLogger().handlers = handlers
    structlog.reset_defaults()


def test_json_has_time_level_subsystem_and_ids(logged: Log) -> None:
    logged.configure()
    log.get_logger("transport", connection=7).bind(link=2).info("link attached", address="orders", size=3, x=None)
    (line,) = logged.lines
    assert list(line)[:4] == ["timestamp", "level", "subsystem", "event"]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info", "subsystem": "transport", "event": "link attached", "router": "east",
        "connection": 7, "link": 2, "address": "orders", "size": 3, "x": None,
    }  # fmt: skip


def test_text_is_for_people_and_has_no_colours_off_a_terminal(logged: Log) -> None:
    logged.configure(format="text")
    log.get_logger("router").info("ready", ports=[5672])
    assert "ready" in logged.text
    assert "ports=[5672]" in logged.text
    assert "\x1b" not in logged.text


def test_auto_is_json_where_nobody_reads_along(logged: Log) -> None:
    logged.configure(format="auto")
    log.get_logger("router").info("ready")
    assert logged.lines[0]["event"] == "ready"


def test_a_subsystem_has_a_level_of_its_own_that_can_change(logged: Log) -> None:
    logged.configure(level="warning", levels={"amqp": "debug"})
    amqp, transport = structlog.get_logger("van.amqp.session"), log.get_logger("transport", connection=1)
    amqp.debug("one")
    transport.info("two")
    transport.warning("three")
    log.levels.change(LogConfig(level="info"))
    amqp.debug("four")
    transport.info("five")
    assert [line["event"] for line in logged.lines] == ["one", "three", "five"]


def test_what_peers_say_cannot_break_the_line_or_the_terminal(logged: Log) -> None:
    logged.configure(format="text")
    log.get_logger("transport").info("opened", container_id="a\nfake line\x1b[2J", number=2, value=b"\x1b")
    assert logged.text.count("\n") == 1
    assert "\x1b" not in logged.text


def test_what_is_long_is_cut(logged: Log) -> None:
    logged.configure()
    log.get_logger("transport").info("closed", description="x" * 100_000)
    assert len(logged.text) < 1500
    assert "(100000 characters)" in logged.lines[0]["description"]


def test_secrets_are_masked(logged: Log) -> None:
    logged.configure()
    url = "wss://alice:sesame@hub/van"
    logger = log.get_logger("transport", password="sesame", proxy="http://bob:sesame@proxy:1")
    logger.info("connecting", url=url, other=[url])
    assert "sesame" not in logged.text
    assert logged.lines[0]["url"] == "wss://alice:***@hub/van"


def test_an_exception_keeps_its_lines_and_nothing_else_does(logged: Log) -> None:
    logged.configure()
    try:
        raise ValueError("bad\x1b[2J\nthing")
    except ValueError:
        log.get_logger("router").exception("surprise", connection=1)
    (line,) = logged.lines
    assert line["level"] == "error"
    assert line["exception"].count("\n") >= 3
    assert "\x1b" not in line["exception"]


def test_warnings_that_repeat_are_counted_and_infos_are_all_written(logged: Log) -> None:
    logged.configure()
    logger = log.get_logger("transport")
    for number in range(100):
        logger.warning("refused", peer=number)
        logger.info("closed", peer=number)
    logger.warning("something else")
    logged.now += REPEAT_WINDOW_SECONDS
    logger.warning("refused", peer=100)
    refused = [line for line in logged.lines if line["event"] == "refused"]
    assert len(refused) == REPEATS + 1
    assert refused[-1]["suppressed"] == 100 - REPEATS
    assert sum(line["event"] == "closed" for line in logged.lines) == 100
    assert sum(line["event"] == "something else" for line in logged.lines) == 1


def test_the_memory_of_the_limiter_is_bounded() -> None:
    limiter = log.RepeatLimiter()
    for number in range(log.REMEMBERED_EVENTS + 50):
        assert limiter.admit(("amqp", f"event {number}"), 0.0) == (True, 0)
    assert limiter.admit(("amqp", "event 0"), 0.0) == (True, 0)


def test_warnings_of_libraries_come_into_the_same_log(logged: Log) -> None:
    logged.configure()
    logging.getLogger("trio-websocket").warning("odd %s", "frame")
    logging.getLogger("trio-websocket").info("nobody needs this")
    (line,) = logged.lines
    assert (line["level"], line["logger"], line["text"]) == ("warning", "trio-websocket", "odd frame")


def test_a_log_that_cannot_be_written_stops_nobody(logged: Log) -> None:
    logged.configure()
    logged.stream.close()
    log.get_logger("router").error("nobody reads this")
