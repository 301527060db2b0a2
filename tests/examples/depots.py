"""Orders with parcels; what the parcels belong to, in chains of foreign keys, no document reads."""

from typing import Any

import sqlalchemy as sa

from projector.projection import Many, Projection
from tests.oracle import Documents

SQL = """
    CREATE TABLE regions (id INT NOT NULL PRIMARY KEY);
    CREATE TABLE depots (id INT NOT NULL PRIMARY KEY, region_id INT NULL,
      FOREIGN KEY (region_id) REFERENCES regions (id) ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE shelves (depot_id INT NOT NULL, number INT NOT NULL,
      PRIMARY KEY (depot_id, number),
      FOREIGN KEY (depot_id) REFERENCES depots (id) ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE orders (id INT NOT NULL PRIMARY KEY, text VARCHAR(20) NULL);
    CREATE TABLE parcels (id INT NOT NULL PRIMARY KEY, order_id INT NULL,
      depot_id INT NULL, number INT NULL, KEY (order_id),
      FOREIGN KEY (depot_id, number) REFERENCES shelves (depot_id, number)
      ON DELETE CASCADE ON UPDATE CASCADE)"""

_metadata = sa.MetaData()
_orders = sa.Table(
    "orders", _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.String(20)),
)  # fmt: skip
_parcels = sa.Table(
    "parcels", _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.Integer),
)  # fmt: skip

orders_by_id = Projection(
    name="orders",
    root=_orders,
    fields=[_orders.c.text],
    collections=[
        Many("parcels", _parcels, on=_parcels.c.order_id == _orders.c.id, value=_parcels.c.id)
    ],
)


def orders(connection: Any) -> Documents:
    """What the hash should hold."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, text FROM orders")
        found: Documents = {
            str(key): {"text": text, "parcels": []} for key, text in cursor.fetchall()
        }
        cursor.execute("SELECT order_id, id FROM parcels ORDER BY id")
        for order, parcel in cursor.fetchall():
            if str(order) in found:
                found[str(order)]["parcels"].append(parcel)
    return found
