"""Where a projection may live: a module on the path, or a file named by its path."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from projector import settings
from projector.errors import ConfigurationError
from projector.mysql.dialect import MYSQL
from projector.projection import load_projections

SHOP = """
import sqlalchemy as sa
from projector.projection import Projection

_orders = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
documents = Projection("orders", _orders, [_orders.c.id])
other = Projection("others", _orders, [_orders.c.id])
"""


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Files imported by one test are not there for the next."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A projection's file."""
    file = tmp_path / "shop.py"
    file.write_text(SHOP)
    return file


def test_a_file_is_named_by_its_path(shop: Path) -> None:
    """Absolute paths, several of one file, and nothing is left beside it."""
    plans = load_projections(f"{shop}:documents, {shop}:other", MYSQL)
    assert [plan.name for plan in plans] == ["orders", "others"]
    assert [file.name for file in shop.parent.iterdir()] == ["shop.py"]


@pytest.mark.parametrize("name", ["shop.py:documents", "./shop.py:documents"])
def test_a_relative_path_begins_at_the_working_folder(
    shop: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As for any command's argument."""
    monkeypatch.chdir(shop.parent)
    assert load_projections(name, MYSQL)[0].name == "orders"


def test_a_path_in_a_toml_file_begins_at_that_file(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also through `projection_setting`, and modules beside it in the list stay modules."""
    for name in [name for name in os.environ if name.startswith("PROJECTOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir("/")
    config = shop.parent / "projector.toml"
    config.write_text(
        "projection = 'shop.py:documents, tests.examples.shop:orders_by_id'\n"
        "[mysql]\nurl = 'mysql://root@localhost/shop'\n"
    )
    expected = f"{shop}:documents,tests.examples.shop:orders_by_id"
    assert settings.load(config).projection == expected
    assert settings.projection_setting(config) == expected


def test_neighbours_of_a_file_can_be_imported(shop: Path) -> None:
    """Tables in a file of their own, beside the projection's."""
    (shop.parent / "own_tables_of_the_shop.py").write_text(SHOP)
    shop.write_text("from own_tables_of_the_shop import documents\n")
    assert load_projections(f"{shop}:documents", MYSQL)[0].name == "orders"


def test_a_file_changed_between_two_starts_is_read_again(shop: Path) -> None:
    """No cached byte code of the same second is taken for it."""
    load_projections(f"{shop}:documents", MYSQL)
    [name] = [
        name
        for name, module in sys.modules.items()
        if getattr(module, "__file__", None) == str(shop)
    ]
    del sys.modules[name]
    shop.write_text(SHOP.replace('"others"', '"othars"'))  # the same size
    assert load_projections(f"{shop}:other", MYSQL)[0].name == "othars"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read .*shop.py: No such file"),
        ("documents =", "SyntaxError"),
        ("import nowhere_at_all", "no module 'nowhere_at_all'"),
        ("", "AttributeError"),
        ("documents = 1", "is a int, not a Projection"),
        (
            "from projector.projection import Json\nJson(None, 'nul')",
            "^otherwise of a Json is 'nul'",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_a_remedy(shop: Path, text: str | None, said: str) -> None:
    """Never a traceback, and the next try looks again."""
    if text is None:
        shop.unlink()
    else:
        shop.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_projections(f"{shop}:documents", MYSQL)
    assert caught.value.remedy
    left = [m for m in sys.modules.values() if getattr(m, "__file__", None) == str(shop)]
    assert text != "documents =" or left == []


def test_without_a_projection_one_line_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package has no helpdesk, and PyPI has a package called schema."""
    monkeypatch.setitem(sys.modules, "schema", None)
    monkeypatch.delitem(sys.modules, "schema.projection", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        load_projections(settings.REFERENCE, MYSQL)
    said = str(caught.value)
    assert said.startswith("PROJECTOR_PROJECTION is not set. `projector scaffold TABLE")
