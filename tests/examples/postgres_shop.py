"""An odd shop on PostgreSQL: a schema of its own, quoted names, partitions, uuid keys."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from projector.projection import Aggregate, Join, Many, Projection, View

_metadata = sa.MetaData(schema="Odd Shop")

customers = sa.Table(
    "Customers", _metadata,
    sa.Column("Key", sa.String(20), primary_key=True),
    sa.Column("full name", sa.Text),
)  # fmt: skip
orders = sa.Table(
    "order", _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("State", sa.Text),
    sa.Column("customer", sa.String(20)),
    sa.Column("placed", sa.DateTime(timezone=True)),
    sa.Column("labels", postgresql.ARRAY(sa.Text)),
)  # fmt: skip
lines = sa.Table(
    "lines", _metadata,
    sa.Column("order", sa.Uuid, primary_key=True),
    sa.Column("nr", sa.Integer, primary_key=True),
    sa.Column("month", sa.String(10), primary_key=True),  # a date: ids are made of texts
    sa.Column("sku", sa.Text),
    sa.Column("quantity", sa.Numeric),
    sa.Column("total", sa.Numeric),  # generated
)  # fmt: skip

orders_by_id = Projection(
    name="orders",
    root=orders,
    joins=[Join(customers, orders.c.customer == customers.c["Key"])],
    fields=[orders.c.id, orders.c["State"], customers.c["full name"], orders.c.placed,
            orders.c.labels],
    collections=[
        Many("lines", lines, on=lines.c.order == orders.c.id,
             fields=[lines.c.nr, lines.c.month, lines.c.sku, lines.c.total],
             order_by=[lines.c.month, lines.c.nr]),
        Aggregate(lines, on=lines.c.order == orders.c.id, fields=[
            sa.func.string_agg(lines.c.sku, ",").label("skus"),
            sa.func.coalesce(sa.func.sum(lines.c.quantity), 0).label("pieces"),
        ]),
    ],
    views=[View("by_state", key=orders.c["State"], newest=orders.c.placed)],
)  # fmt: skip
lines_by_key = Projection(
    name="lines",
    root=lines,
    joins=[Join(orders, lines.c.order == orders.c.id)],
    where=lines.c.quantity > 0,
    fields=[lines.c.order, lines.c.nr, lines.c.month, lines.c.sku, orders.c["State"]],
)
