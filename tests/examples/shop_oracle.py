"""What the shop's hashes should hold, by hand-written SQL; and values for its random history."""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from tests.examples.history import Columns, Tables, between, one_of, texts, times, uuids
from tests.oracle import Documents

MASK_KEY = "a key for tests"

_SKUS = texts("a", "A", "b", "b ", "c:1", "C%3A1", "ß", "s", "", "é'\\")
_NAMES = texts("Ann", "ann", "Bób 😀", 'q"u\\o\n', "")
TABLES: Tables = {
    "customers": Columns(["id"], {
        "id": uuids(6), "full_name": _NAMES, "email": texts("a@x", "b@x"),
        "phone": texts("0171 5550100", "12", ""), "card": one_of("NULL", "'4111'"),
    }),
    "products": Columns(["sku"], {
        "sku": _SKUS, "title": _NAMES, "price": one_of("NULL", "0", "9.99", "120.5"),
        "weight": one_of("NULL", "0.1", "1e20", "3"),
    }),
    "orders": Columns(["id"], {
        "id": uuids(8), "customer_id": uuids(6, null=0.2), "state": between(1, 3),
        "net": one_of("0", "99.99", "100.01", "5000"), "tax_percent": one_of("0", "7", "19"),
        "placed_at": times(3, null=0.2), "deleted_at": times(null=0.85),
        "order": between(1, 3, 0.3),
    }),
    "order_lines": Columns(["order_id", "line_no"], {
        "order_id": uuids(8), "line_no": between(1, 4), "sku": _SKUS, "quantity": between(-2, 9),
        "is_removed": one_of("0", "0", "1"),
    }),
    "shipments": Columns(["id"], {
        "id": between(1, 20), "order_id": uuids(8), "line_no": between(1, 4, 0.1),
        "carrier": _NAMES,
    }),
    "scans": Columns(["shipment_id", "at"], {
        "shipment_id": between(1, 20), "at": times(6), "place": _NAMES,
    }),
    "labels": Columns(["slug"], {"slug": _SKUS, "title": _NAMES}),
    "order_labels": Columns(["order_id", "slug"], {"order_id": uuids(8), "slug": _SKUS}),
    "stock": Columns(["warehouse", "sku", "shelf"], {
        "warehouse": _SKUS, "sku": _SKUS, "shelf": between(-1, 2), "pieces": between(-1, 3),
    }),
    "stock_moves": Columns(["id"], {
        "id": between(1, 30), "warehouse": _SKUS, "sku": _SKUS, "shelf": between(-1, 2, 0.1),
        "pieces": between(1, 5),
    }),
}  # fmt: skip

_ORDERS = """
    SELECT o.id, o.customer_id, o.state, CAST(o.net AS CHAR),
           CAST(CAST(o.net * (100 + o.tax_percent) / 100 AS DECIMAL(14, 2)) AS CHAR),
           o.tax_percent, o.`order`,
           CONCAT(DATE_FORMAT(o.placed_at, '%Y-%m-%dT%H:%i:%s'), IF(MICROSECOND(o.placed_at) = 0,
                  '', DATE_FORMAT(o.placed_at, '.%f')), 'Z'),
           o.net > 100, UPPER(c.full_name), c.card, c.email, c.phone
    FROM orders o LEFT JOIN customers c ON c.id = o.customer_id
    WHERE o.deleted_at IS NULL AND o.state IN ('open', 'sent')"""
_LINES = """
    SELECT l.order_id, l.line_no, l.sku, p.title, CAST(p.price * l.quantity AS CHAR)
    FROM order_lines l LEFT JOIN products p ON l.sku = p.sku
    WHERE NOT l.is_removed ORDER BY l.line_no"""
_SHIPMENTS = "SELECT order_id, line_no, id, carrier FROM shipments ORDER BY id"
_SCANS = """
    SELECT shipment_id, CONCAT(DATE_FORMAT(at, '%Y-%m-%dT%H:%i:%s'), IF(MICROSECOND(at) = 0, '',
           DATE_FORMAT(at, '.%f')), 'Z'), place
    FROM scans ORDER BY at DESC"""
_LABELS = """
    SELECT x.order_id, l.title FROM order_labels x LEFT JOIN labels l ON l.slug = x.slug
    ORDER BY x.slug"""
_LARGEST = "SELECT order_id, sku FROM order_lines ORDER BY quantity DESC, line_no"
_FIGURES = """
    SELECT o.id,
           (SELECT COUNT(*) FROM order_lines l WHERE l.order_id = o.id),
           (SELECT SUM(quantity) FROM order_lines l WHERE l.order_id = o.id),
           (SELECT CAST(MIN(price) AS CHAR) FROM products p WHERE p.sku IN
                (SELECT sku FROM order_lines l WHERE l.order_id = o.id)),
           (SELECT CAST(MAX(price) AS CHAR) FROM products p WHERE p.sku IN
                (SELECT sku FROM order_lines l WHERE l.order_id = o.id)),
           (SELECT COUNT(DISTINCT sku) FROM order_lines l WHERE l.order_id = o.id),
           (SELECT COUNT(*) FROM order_lines l WHERE l.order_id = o.id AND l.is_removed)
    FROM orders o"""
_PRODUCTS = "SELECT sku, title, CAST(price AS CHAR), weight FROM products"
_PRODUCT_ORDERS = """
    SELECT p.sku, l.order_id FROM products p JOIN order_lines l ON l.sku = p.sku
    ORDER BY l.order_id, l.line_no"""
_SENT = """
    SELECT p.sku, COUNT(DISTINCT l.order_id), SUM(l.quantity)
    FROM products p JOIN order_lines l ON l.sku = p.sku
    WHERE EXISTS (SELECT 1 FROM orders o WHERE o.id = l.order_id AND o.state = 'sent')
    GROUP BY p.sku"""
_STOCK = """
    SELECT s.warehouse, s.sku, s.shelf, s.pieces,
           (SELECT p.title FROM products p WHERE p.sku = s.sku)
    FROM stock s WHERE s.pieces > 0"""
_MOVES = """
    SELECT s.warehouse, s.sku, s.shelf, m.id, m.pieces FROM stock s, stock_moves m
    WHERE m.warehouse = s.warehouse AND m.sku = s.sku AND m.shelf = s.shelf ORDER BY m.id"""

Rows = Iterable[tuple[Any, ...]]


def _rows(connection: Any, sql: str) -> Rows:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _grouped(rows: Rows, width: int) -> dict[tuple[Any, ...], list[tuple[Any, ...]]]:
    found = defaultdict(list)
    for row in rows:
        found[row[:width]].append(row[width:])
    return found


def _uuid(value: bytes | None) -> str | None:
    return None if value is None else str(UUID(bytes=value))


def orders(connection: Any) -> Documents:
    lines = _grouped(_rows(connection, _LINES), 1)
    shipments = _grouped(_rows(connection, _SHIPMENTS), 2)
    scans = _grouped(_rows(connection, _SCANS), 1)
    labels = _grouped(_rows(connection, _LABELS), 1)
    largest = _grouped(_rows(connection, _LARGEST), 1)
    figures = {row[0]: row[1:] for row in _rows(connection, _FIGURES)}
    documents: Documents = {}
    for (
        key, customer_id, state, net, gross, tax, rank, placed_at, is_large, customer, card, email,
        phone,
    ) in _rows(connection, _ORDERS):  # fmt: skip
        count, pieces, cheapest, dearest, sku_count, removed_count = figures[key]
        documents[str(_uuid(key))] = {
            "id": _uuid(key), "customer_id": _uuid(customer_id), "state": state, "net": net,
            "gross": gross, "tax": tax, "rank": rank, "placed_at": placed_at,
            "kind": "100% 'shop' \\", "version": 1, "is_large": bool(is_large),
            "customer": customer, "card": card and "hidden",
            "email_hash": email and hmac.new(
                MASK_KEY.encode(), email.encode(), hashlib.sha256
            ).hexdigest(),
            "phone": {"0171 5550100": "01********00", "12": "**"}.get(phone, phone),
            "lines": [
                {"line_no": number, "sku": sku, "title": title, "amount": amount, "shipments": [
                    {"id": shipment, "carrier": carrier,
                     "scans": [{"at": at, "place": place} for at, place in scans[(shipment,)]],
                     "scan_count": len(scans[(shipment,)])}
                    for shipment, carrier in shipments[(key, number)]
                ]}
                for number, sku, title, amount in lines[(key,)]
            ],
            "labels": [title for (title,) in labels[(key,)]],
            "largest": [sku for (sku,) in largest[(key,)][:2]],
            "line_count": count, "pieces": None if pieces is None else int(pieces),
            "cheapest": cheapest, "dearest": dearest,
            "sku_count": sku_count, "removed_count": removed_count,
        }  # fmt: skip
    return documents


def products(connection: Any) -> Documents:
    orders_of = _grouped(_rows(connection, _PRODUCT_ORDERS), 1)
    sent = {row[0]: row[1:] for row in _rows(connection, _SENT)}
    return {
        sku: {
            "sku": sku, "title": title, "price": price,
            "weight": None if weight is None else {"number": repr(weight)},
            "orders": [_uuid(order) for (order,) in orders_of[(sku,)]],
            "sent_orders": sent.get(sku, (0, None))[0],
            "sent_pieces": int(sent[sku][1]) if sku in sent else None,
        }
        for sku, title, price, weight in _rows(connection, _PRODUCTS)
    }  # fmt: skip


def stock(connection: Any) -> Documents:
    moves = _grouped(_rows(connection, _MOVES), 3)
    documents: Documents = {}
    for warehouse, sku, shelf, pieces, title in _rows(connection, _STOCK):
        parts = (warehouse, sku, str(shelf))
        identity = ":".join(p.replace("%", "%25").replace(":", "%3A") for p in parts)
        documents[identity] = {
            "warehouse": warehouse, "sku": sku, "shelf": shelf, "pieces": pieces, "title": title,
            "moves": [{"id": i, "pieces": n} for i, n in moves[(warehouse, sku, shelf)]],
        }  # fmt: skip
    return documents
