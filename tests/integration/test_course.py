"""Each page of schema/course: its tables, its projection, and the documents that it promises."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from projector.projection import Projection
from tests.integration.test_declarations import Stage
from tests.servers import DatabaseServer

pytestmark = pytest.mark.server

COURSE = Path(__file__).parents[2] / "schema" / "course"
PAGES = sorted(page for page in COURSE.glob("*.md") if page.stem != "README")
EXAMPLE = re.compile(r"```sql\n(.*?)```.*?```python\n(.*?)```.*?```json\n(.*?)```", re.DOTALL)


@pytest.fixture
def stage(database: DatabaseServer, fresh_database: str) -> Iterator[Stage]:
    """An empty database on either server."""
    made = Stage(database, fresh_database)
    yield made
    made.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_keeps_its_promise(page: Path, stage: Stage) -> None:
    """What is shown can be copied, and gives what stands below it."""
    examples = EXAMPLE.findall(page.read_text("utf-8"))
    assert examples
    for sql, python, promised in examples:
        stage.execute(*(s for s in sql.split(";\n") if s.strip()))
        scope: dict[str, Any] = {}
        exec(python, scope)
        documents: Projection = scope["documents"]
        assert stage.documents(documents) == json.loads(promised)


def test_every_page_is_listed() -> None:
    """The table of needs names each page, and no other."""
    listed = re.findall(r"\]\((\w[\w-]*)\.md\)", (COURSE / "README.md").read_text("utf-8"))
    assert sorted(listed) == [page.stem for page in PAGES]
