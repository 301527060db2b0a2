-- A shop: UUID, string and composite keys, no foreign keys (whatever is missing may be missing).

CREATE TABLE customers (
  id         BINARY(16)   NOT NULL,
  full_name  VARCHAR(120) NOT NULL,
  email      VARCHAR(190) NULL,
  phone      VARCHAR(40)  NULL,
  card       VARCHAR(40)  NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE products (
  sku    VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL,
  title  VARCHAR(120)   NULL,
  price  DECIMAL(10, 2) NULL,
  weight DOUBLE         NULL,
  PRIMARY KEY (sku)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE orders (
  id          BINARY(16)     NOT NULL,
  customer_id BINARY(16)     NULL,
  state       ENUM('draft', 'open', 'sent') NOT NULL,
  net         DECIMAL(12, 2) NOT NULL,
  tax_percent TINYINT UNSIGNED NOT NULL,
  gross       DECIMAL(14, 2) GENERATED ALWAYS AS (net * (100 + tax_percent) / 100) VIRTUAL,
  placed_at   DATETIME(3)    NULL,
  deleted_at  DATETIME       NULL,
  `order`     INT            NULL,
  PRIMARY KEY (id),
  KEY ix_orders_customer_id (customer_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE order_lines (
  order_id   BINARY(16)        NOT NULL,
  line_no    SMALLINT UNSIGNED NOT NULL,
  sku        VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NULL,
  quantity   INT               NOT NULL,
  is_removed TINYINT(1)        NOT NULL,
  PRIMARY KEY (order_id, line_no),
  KEY ix_order_lines_sku (sku)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE shipments (
  id       INT UNSIGNED      NOT NULL,
  order_id BINARY(16)        NOT NULL,
  line_no  SMALLINT UNSIGNED NULL,
  carrier  VARCHAR(40)       NULL,
  PRIMARY KEY (id),
  KEY ix_shipments_line (order_id, line_no)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE scans (
  shipment_id INT UNSIGNED NOT NULL,
  at          DATETIME(6)  NOT NULL,
  place       VARCHAR(40)  NULL,
  PRIMARY KEY (shipment_id, at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE labels (
  slug  VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL,
  title VARCHAR(120) NULL,
  PRIMARY KEY (slug)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE order_labels (
  order_id BINARY(16)  NOT NULL,
  slug     VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL,
  PRIMARY KEY (order_id, slug),
  KEY ix_order_labels_slug (slug)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE stock (
  warehouse VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL,
  sku       VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL,
  shelf     INT         NOT NULL,
  pieces    INT         NOT NULL,
  PRIMARY KEY (warehouse, sku, shelf)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE stock_moves (
  id        BIGINT      NOT NULL,
  warehouse VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NULL,
  sku       VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NULL,
  shelf     INT         NULL,
  pieces    INT         NOT NULL,
  PRIMARY KEY (id),
  KEY ix_stock_moves_shelf (warehouse, sku, shelf)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
