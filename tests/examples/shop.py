"""Three projections of the shop: orders by UUID, products by string, stock by a composite key."""

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects.mysql import SMALLINT, TINYINT

from projector.projection import Aggregate, Fixed, Hashed, Join, Many, Partial, Projection

metadata = sa.MetaData()

customers = sa.Table(
    "customers", metadata,
    sa.Column("id", sa.BINARY(16), primary_key=True),
    sa.Column("full_name", sa.String(120)),
    sa.Column("email", sa.String(190)),
    sa.Column("phone", sa.String(40)),
    sa.Column("card", sa.String(40)),
)  # fmt: skip
products = sa.Table(
    "products", metadata,
    sa.Column("sku", sa.String(40), primary_key=True),
    sa.Column("title", sa.String(120)),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("weight", sa.Double),
)  # fmt: skip
orders = sa.Table(
    "orders", metadata,
    sa.Column("id", sa.BINARY(16), primary_key=True),
    sa.Column("customer_id", sa.BINARY(16)),
    sa.Column("state", sa.Enum("draft", "open", "sent")),
    sa.Column("net", sa.Numeric(12, 2)),
    sa.Column("tax_percent", TINYINT(unsigned=True)),
    sa.Column("gross", sa.Numeric(14, 2)),
    sa.Column("placed_at", sa.DateTime),
    sa.Column("deleted_at", sa.DateTime),
    sa.Column("order", sa.Integer, key="rank"),
)  # fmt: skip
order_lines = sa.Table(
    "order_lines", metadata,
    sa.Column("order_id", sa.BINARY(16), primary_key=True),
    sa.Column("line_no", SMALLINT(unsigned=True), primary_key=True),
    sa.Column("sku", sa.String(40)),
    sa.Column("quantity", sa.Integer),
    sa.Column("is_removed", TINYINT(1)),
)  # fmt: skip
shipments = sa.Table(
    "shipments", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("order_id", sa.BINARY(16)),
    sa.Column("line_no", SMALLINT(unsigned=True)),
    sa.Column("carrier", sa.String(40)),
)  # fmt: skip
scans = sa.Table(
    "scans", metadata,
    sa.Column("shipment_id", sa.Integer, primary_key=True),
    sa.Column("at", sa.DateTime, primary_key=True),
    sa.Column("place", sa.String(40)),
)  # fmt: skip
labels = sa.Table(
    "labels", metadata,
    sa.Column("slug", sa.String(40), primary_key=True),
    sa.Column("title", sa.String(120)),
)  # fmt: skip
order_labels = sa.Table(
    "order_labels", metadata,
    sa.Column("order_id", sa.BINARY(16), primary_key=True),
    sa.Column("slug", sa.String(40), primary_key=True),
)  # fmt: skip
stock = sa.Table(
    "stock", metadata,
    sa.Column("warehouse", sa.String(20), primary_key=True),
    sa.Column("sku", sa.String(40), primary_key=True),
    sa.Column("shelf", sa.Integer, primary_key=True),
    sa.Column("pieces", sa.Integer),
)  # fmt: skip
stock_moves = sa.Table(
    "stock_moves", metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("warehouse", sa.String(20)),
    sa.Column("sku", sa.String(40)),
    sa.Column("shelf", sa.Integer),
    sa.Column("pieces", sa.Integer),
)  # fmt: skip

latest = order_lines.alias("latest")
counted = order_lines.alias("counted")
counted_product = products.alias("counted_product")
removed = order_lines.alias("removed")
counted_scans = scans.alias("counted_scans")

_shipments = Many(
    "shipments",
    shipments,
    on=sa.and_(
        shipments.c.order_id == order_lines.c.order_id,
        shipments.c.line_no == order_lines.c.line_no,
    ),
    fields=[shipments.c.id, shipments.c.carrier],
    collections=[
        Many(
            "scans",
            scans,
            on=scans.c.shipment_id == shipments.c.id,
            fields=[scans.c.at, scans.c.place],
            order_by=[scans.c.at.desc()],
        ),
        Aggregate(
            counted_scans,
            on=counted_scans.c.shipment_id == shipments.c.id,
            fields=[func.count().label("scan_count")],
        ),
    ],
)

orders_by_id = Projection(
    name="orders",
    root=orders,
    where=sa.and_(orders.c.deleted_at.is_(None), orders.c.state != "draft"),
    joins=[Join(customers, customers.c.id == orders.c.customer_id)],
    fields=[
        orders.c.id,
        orders.c.customer_id,
        orders.c.state,
        orders.c.net,
        orders.c.gross,
        orders.c.tax_percent.label("tax"),
        orders.c.rank,
        orders.c.placed_at,
        sa.literal("100% 'shop' \\").label("kind"),
        sa.literal(1).label("version"),
        (orders.c.net > 100).label("is_large"),
        func.upper(customers.c.full_name).label("customer"),
        Fixed(customers.c.card, "hidden"),
        Hashed(customers.c.email.label("email_hash"), "SHOP_MASK_KEY"),
        Partial(customers.c.phone, first=2, last=2),
    ],
    collections=[
        Many(
            "lines",
            order_lines,
            on=order_lines.c.order_id == orders.c.id,
            joins=[Join(products, products.c.sku == order_lines.c.sku)],
            where=order_lines.c.is_removed == 0,
            fields=[
                order_lines.c.line_no,
                order_lines.c.sku,
                products.c.title,
                (products.c.price * order_lines.c.quantity).label("amount"),
            ],
            collections=[_shipments],
        ),
        Many(
            "labels",
            order_labels,
            on=order_labels.c.order_id == orders.c.id,
            joins=[Join(labels, labels.c.slug == order_labels.c.slug)],
            value=labels.c.title,
        ),
        Many(
            "largest",
            latest,
            on=latest.c.order_id == orders.c.id,
            value=latest.c.sku,
            order_by=[latest.c.quantity.desc()],
            limit=2,
        ),
        Aggregate(
            counted,
            on=counted.c.order_id == orders.c.id,
            joins=[Join(counted_product, counted_product.c.sku == counted.c.sku)],
            fields=[
                func.count().label("line_count"),
                func.sum(counted.c.quantity).label("pieces"),
                func.min(counted_product.c.price).label("cheapest"),
                func.max(counted_product.c.price).label("dearest"),
                func.count(counted.c.sku.distinct()).label("sku_count"),
            ],
        ),
        Aggregate(
            removed,
            on=removed.c.order_id == orders.c.id,
            where=removed.c.is_removed == 1,
            fields=[func.count().label("removed_count")],
        ),
    ],
)

sold = order_lines.alias("sold")
sold_order = orders.alias("sold_order")

products_by_sku = Projection(
    name="products",
    root=products,
    fields=[products.c.sku, products.c.title, products.c.price, products.c.weight],
    collections=[
        Many(
            "orders",
            order_lines,
            on=order_lines.c.sku == products.c.sku,
            value=order_lines.c.order_id,
            order_by=[order_lines.c.order_id, order_lines.c.line_no],
        ),
        Aggregate(
            sold,
            on=sold.c.sku == products.c.sku,
            joins=[Join(sold_order, sold_order.c.id == sold.c.order_id)],
            where=sold_order.c.state == "sent",
            fields=[
                func.count(sold.c.order_id.distinct()).label("sent_orders"),
                func.sum(sold.c.quantity).label("sent_pieces"),
            ],
        ),
    ],
)

stock_by_shelf = Projection(
    name="stock",
    root=stock,
    where=stock.c.pieces > 0,
    joins=[Join(products, products.c.sku == stock.c.sku)],
    fields=[*stock.c, products.c.title],
    collections=[
        Many(
            "moves",
            stock_moves,
            on=sa.and_(
                stock_moves.c.warehouse == stock.c.warehouse,
                stock_moves.c.sku == stock.c.sku,
                stock_moves.c.shelf == stock.c.shelf,
            ),
            fields=[stock_moves.c.id, stock_moves.c.pieces],
        ),
    ],
)

# Only what was placed within the last minute: orders leave the hash when time alone passes.
recent_orders = Projection(
    name="recent",
    root=orders,
    where=orders.c.placed_at > func.now() - sa.text("INTERVAL 1 MINUTE"),
    fields=[orders.c.id],
    refresh_s=1,
)
