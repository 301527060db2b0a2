"""Machines in a deep hierarchy of places, of kinds and of owners: its projections, their random
history, and their documents evaluated row by row."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import func

from projector.projection import Aggregate, First, Join, Many, Pairs, Path, Projection
from tests.examples.history import Columns, Tables, between, texts, times
from tests.examples.reading import Row, by, read
from tests.oracle import Documents

DDL = """
CREATE TABLE machine (id INT PRIMARY KEY, place_id INT, kind_id INT, owner VARCHAR(9),
  KEY (place_id), KEY (kind_id), KEY (owner));
CREATE TABLE place (id INT PRIMARY KEY, parent_id INT, name VARCHAR(9), KEY (parent_id));
CREATE TABLE kind (id INT PRIMARY KEY, parent_id INT, name VARCHAR(9), KEY (parent_id));
CREATE TABLE person (id INT PRIMARY KEY, badge VARCHAR(9), place_id INT, name VARCHAR(9),
  KEY (badge), KEY (place_id));
CREATE TABLE sensor (id INT PRIMARY KEY, machine_id INT, name VARCHAR(9), KEY (machine_id));
CREATE TABLE reading (id INT PRIMARY KEY, sensor_id INT, at DATETIME(3), value INT, KEY (sensor_id))
"""
_NAMES = texts("A", "b", "ü", "dd")
_BADGE = texts("x1", "x2", "x3")
TABLES: Tables = {
    "machine": Columns(["id"], {
        "id": between(1, 12), "place_id": between(1, 9, 0.1), "kind_id": between(1, 6, 0.1),
        "owner": _BADGE,
    }),
    "place": Columns(["id"], {"id": between(1, 9), "parent_id": between(1, 9, 0.2),
                              "name": _NAMES}),
    "kind": Columns(["id"], {"id": between(1, 6), "parent_id": between(1, 6, 0.3),
                             "name": _NAMES}),
    "person": Columns(["id"], {
        "id": between(1, 8), "badge": _BADGE, "place_id": between(1, 9, 0.2), "name": _NAMES,
    }),
    "sensor": Columns(["id"], {
        "id": between(1, 20), "machine_id": between(1, 12), "name": _NAMES,
    }),
    "reading": Columns(["id"], {
        "id": between(1, 60), "sensor_id": between(1, 20), "at": times(3),
        "value": between(-2, 9, 0.1),
    }),
}  # fmt: skip

_METADATA = sa.MetaData()
_INT, _TEXT = sa.Integer, sa.String(9)


def _table(table: str, **columns: Any) -> sa.Table:
    return sa.Table(
        table, _METADATA, sa.Column("id", _INT, primary_key=True),
        *(sa.Column(c, kind) for c, kind in columns.items()),
    )  # fmt: skip


machine = _table("machine", place_id=_INT, kind_id=_INT, owner=_TEXT)
place = _table("place", parent_id=_INT, name=_TEXT)
kind = _table("kind", parent_id=_INT, name=_TEXT)
person = _table("person", badge=_TEXT, place_id=_INT, name=_TEXT)
sensor = _table("sensor", machine_id=_INT, name=_TEXT)
reading = _table("reading", sensor_id=_INT, at=sa.DateTime, value=_INT)
office, above, below = place.alias("office"), place.alias("above"), place.alias("below")
every, counted = reading.alias("every"), sensor.alias("counted")
standing = machine.alias("standing")

machines = Projection(
    "machines", machine, fields=[machine.c.id, person.c.name.label("owner")],
    joins=[Join(person, person.c.badge == machine.c.owner, pick=person.c.id.desc())],
    collections=[
        Path("place", place, on=place.c.id == machine.c.place_id, parent=place.c.parent_id,
             value=place.c.name, depth=6),
        Path("kind", kind, on=kind.c.id == machine.c.kind_id, parent=kind.c.parent_id,
             value=kind.c.name, depth=3),
        Path("owners_office", office, on=office.c.id == person.c.place_id,
             parent=office.c.parent_id, value=office.c.id, depth=4),
        Many("sensors", sensor, on=sensor.c.machine_id == machine.c.id, fields=[sensor.c.name],
             collections=[
                 First("latest", reading, on=reading.c.sensor_id == sensor.c.id,
                       fields=[reading.c.at, reading.c.value], order_by=[reading.c.at.desc()]),
             ]),
        Aggregate(every, on=every.c.sensor_id == counted.c.id, fields=[
            func.max(every.c.value).label("highest"), func.count().label("readings"),
        ], through=[Join(counted, counted.c.machine_id == machine.c.id)]),
    ],
)  # fmt: skip
places = Projection(
    "places", place, fields=[place.c.id, place.c.name],
    collections=[
        Path("above", above, on=above.c.id == place.c.parent_id, parent=above.c.parent_id,
             value=above.c.name, depth=4),
        Many("below", below, on=below.c.parent_id == place.c.id, value=below.c.id),
        Pairs("machines", standing, on=standing.c.place_id == place.c.id, key=standing.c.id,
              value=standing.c.owner),
    ],
)  # fmt: skip


def machine_documents(connection: Any) -> Documents:
    """What the hash of machines should hold."""
    rows = read(connection, [*TABLES])
    return {str(row["id"]): _machine(row, rows) for row in rows["machine"]}


def place_documents(connection: Any) -> Documents:
    """What the hash of places should hold."""
    rows = read(connection, [*TABLES])
    return {
        str(row["id"]): {
            "id": row["id"], "name": row["name"],
            "above": _path(rows["place"], row["parent_id"], 4),
            "below": [p["id"] for p in rows["place"] if p["parent_id"] == row["id"]],
            "machines": {str(m["id"]): m["owner"] for m in rows["machine"]
                         if m["place_id"] == row["id"]},
        }
        for row in rows["place"]
    }  # fmt: skip


def _machine(row: Row, rows: dict[str, list[Row]]) -> dict[str, Any]:
    owners = [p for p in rows["person"] if p["badge"] == row["owner"]]
    owner = owners[-1] if owners else None
    sensors = [s for s in rows["sensor"] if s["machine_id"] == row["id"]]
    readings = [r for r in rows["reading"] if r["sensor_id"] in {s["id"] for s in sensors}]
    known = [r["value"] for r in readings if r["value"] is not None]
    return {
        "id": row["id"], "owner": owner and owner["name"],
        "place": _path(rows["place"], row["place_id"], 6),
        "kind": _path(rows["kind"], row["kind_id"], 3),
        "owners_office": _path(rows["place"], owner and owner["place_id"], 4, "id"),
        "sensors": [{"name": s["name"], "latest": _latest(s["id"], readings)} for s in sensors],
        "highest": max(known, default=None), "readings": len(readings),
    }  # fmt: skip


def _latest(key: int, readings: list[Row]) -> dict[str, Any] | None:
    own = [r for r in readings if r["sensor_id"] == key]
    if not own:
        return None
    moment = max(r["at"] for r in own)
    found = next(r for r in own if r["at"] == moment)
    second, _, fraction = moment.partition(".")
    digits = f".{fraction.ljust(6, '0')}" if fraction.strip("0") else ""
    return {"at": f"{second.replace(' ', 'T')}{digits}Z", "value": found["value"]}


def _path(rows: list[Row], key: int | None, depth: int, column: str = "name") -> list[Any]:
    shown: dict[int, Any] = {}
    while key not in shown and len(shown) < depth and (found := by(rows, key)):
        shown[found["id"]] = found[column]
        key = found["parent_id"]
    return list(shown.values())
