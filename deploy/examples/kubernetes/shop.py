"""Orders of a shop with their lines, as `projector scaffold orders` begins it."""

import sqlalchemy as sa

from projector.projection import Join, Many, Projection

metadata = sa.MetaData()
customers = sa.Table(
    "customers", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(80)),
)  # fmt: skip
orders = sa.Table(
    "orders", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("customer_id", sa.Integer),
    sa.Column("total", sa.Numeric(8, 2)),
)  # fmt: skip
order_lines = sa.Table(
    "order_lines", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.Integer),
    sa.Column("sku", sa.String(40)),
)  # fmt: skip

documents = Projection(
    name="orders",
    root=orders,
    joins=[Join(customers, customers.c.id == orders.c.customer_id)],
    fields=[orders.c.id, orders.c.total, customers.c.name.label("customer")],
    collections=[
        Many("lines", order_lines, order_lines.c.order_id == orders.c.id, value=order_lines.c.sku)
    ],
)
