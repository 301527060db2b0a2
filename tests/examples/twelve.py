"""The twelve lines of the README: what a document is, beside the tables that it is made of."""

import sqlalchemy as sa

from projector.projection import Join, Many, Projection

m = sa.MetaData()
key = lambda: sa.Column("id", sa.Integer, primary_key=True)  # noqa: E731 (short, for the page)
customers = sa.Table("customers", m, key(), sa.Column("name", sa.String(80)))
orders = sa.Table(
    "orders", m, key(), sa.Column("customer_id", sa.Integer), sa.Column("total", sa.Numeric(8, 2))
)
order_lines = sa.Table(
    "order_lines", m, key(), sa.Column("order_id", sa.Integer), sa.Column("sku", sa.String(40))
)

# From here on, twelve lines.
# fmt: off
documents = Projection(
    name="orders",
    root=orders,
    fields=[orders.c.id, orders.c.total, customers.c.name.label("customer")],
    joins=[Join(customers, customers.c.id == orders.c.customer_id)],
    collections=[
        Many("lines", order_lines,
             on=order_lines.c.order_id == orders.c.id,
             value=order_lines.c.sku,
             order_by=[order_lines.c.id]),
    ],
)
