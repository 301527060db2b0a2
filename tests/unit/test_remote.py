"""Repairs asked for from outside: by the daemon where one holds the lease, since whenever."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from projector.commands.remote import RemoteProjection
from projector.databases import Mysql
from projector.mysql.position import Position
from projector.settings import Settings
from tests.unit.model_database import PLAN


class Starting:
    """A store whose lease a daemon takes before anybody asks who holds it, or just after."""

    def __init__(self, *, is_early: bool) -> None:
        self.is_led = is_early
        self.asked: list[str] = []

    def holder(self) -> str | None:
        return "daemon" if self.is_led else None

    def acquire(self) -> bool:
        self.is_led = True
        return False

    def request(self, payload: Mapping[str, Any]) -> str:
        self.asked.append(payload["kind"])
        return "key"

    def requests(self) -> dict[str, str]:
        return {}

    def debts(self) -> dict[str, str]:
        return {}


@pytest.mark.parametrize("is_early", [True, False])
def test_a_daemon_that_starts_meanwhile_repairs(is_early: bool) -> None:
    """Whoever repairs finds nobody, and then the lease taken: it asks instead of giving up."""
    store: Any = Starting(is_early=is_early)
    database: Any = SimpleNamespace(fitted=lambda plan: plan)
    settings = Settings(mysql=Mysql(url=SecretStr("mysql://u@h/db")))
    remote = RemoteProjection(settings, PLAN, store, database, Position.parse)
    remote.repair(["1"])
    remote.repair_lists()
    assert store.asked == ["resync", "lists"]
