-- The reference helpdesk database on PostgreSQL (14+), beside helpdesk.sql.
-- The DDL of record for schema/: its SQLAlchemy tables and its migrations produce these tables,
-- columns, keys and foreign keys. The helpdesk application owns the data; the projector only reads it.
-- tickets.updated_at is kept by the application.

CREATE TYPE user_role AS ENUM ('customer', 'agent', 'admin');

CREATE TABLE organizations (
  id            bigserial    PRIMARY KEY,
  name          varchar(120) NOT NULL,
  domain        varchar(190) NOT NULL CONSTRAINT uq_organizations_domain UNIQUE,
  created_at    timestamptz  NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
);

CREATE TABLE departments (
  id              serial       PRIMARY KEY,
  organization_id bigint       NOT NULL,
  name            varchar(120) NOT NULL,
  CONSTRAINT fk_departments_organization_id FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX ix_departments_organization_id ON departments (organization_id);

CREATE TABLE users (
  id            bigserial    PRIMARY KEY,
  department_id integer,
  email         varchar(190) NOT NULL CONSTRAINT uq_users_email UNIQUE,
  full_name     varchar(120) NOT NULL,
  role          user_role    NOT NULL DEFAULT 'customer',
  is_active     boolean      NOT NULL DEFAULT true,
  created_at    timestamptz  NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  CONSTRAINT fk_users_department_id FOREIGN KEY (department_id) REFERENCES departments (id) ON DELETE SET NULL
);
CREATE INDEX ix_users_department_id ON users (department_id);

CREATE TABLE ticket_statuses (
  id        smallint    PRIMARY KEY,
  name      varchar(40) NOT NULL CONSTRAINT uq_ticket_statuses_name UNIQUE,
  is_closed boolean     NOT NULL DEFAULT false
);

CREATE TABLE ticket_priorities (
  id    smallint    PRIMARY KEY,
  name  varchar(40) NOT NULL CONSTRAINT uq_ticket_priorities_name UNIQUE,
  level smallint    NOT NULL
);

CREATE TABLE categories (
  id        serial       PRIMARY KEY,
  parent_id integer,
  name      varchar(120) NOT NULL,
  CONSTRAINT fk_categories_parent_id FOREIGN KEY (parent_id) REFERENCES categories (id) ON DELETE SET NULL
);
CREATE INDEX ix_categories_parent_id ON categories (parent_id);

CREATE TABLE tickets (
  id              bigserial    PRIMARY KEY,
  title           varchar(200) NOT NULL,
  description     text,
  status_id       smallint     NOT NULL,
  priority_id     smallint     NOT NULL,
  category_id     integer,
  department_id   integer      NOT NULL,
  requester_id    bigint       NOT NULL,
  assignee_id     bigint,
  estimated_hours numeric(6, 2),
  custom_fields   jsonb,
  created_at      timestamptz  NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at      timestamptz  NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  due_at          timestamptz(0),
  closed_at       timestamptz,
  CONSTRAINT fk_tickets_status_id     FOREIGN KEY (status_id)     REFERENCES ticket_statuses (id),
  CONSTRAINT fk_tickets_priority_id   FOREIGN KEY (priority_id)   REFERENCES ticket_priorities (id),
  CONSTRAINT fk_tickets_category_id   FOREIGN KEY (category_id)   REFERENCES categories (id)  ON DELETE SET NULL,
  CONSTRAINT fk_tickets_department_id FOREIGN KEY (department_id) REFERENCES departments (id),
  CONSTRAINT fk_tickets_requester_id  FOREIGN KEY (requester_id)  REFERENCES users (id)       ON DELETE CASCADE,
  CONSTRAINT fk_tickets_assignee_id   FOREIGN KEY (assignee_id)   REFERENCES users (id)       ON DELETE SET NULL
);
CREATE INDEX ix_tickets_status_id     ON tickets (status_id);
CREATE INDEX ix_tickets_priority_id   ON tickets (priority_id);
CREATE INDEX ix_tickets_category_id   ON tickets (category_id);
CREATE INDEX ix_tickets_department_id ON tickets (department_id);
CREATE INDEX ix_tickets_requester_id  ON tickets (requester_id);
CREATE INDEX ix_tickets_assignee_id   ON tickets (assignee_id);

CREATE TABLE ticket_comments (
  id          bigserial   PRIMARY KEY,
  ticket_id   bigint      NOT NULL,
  author_id   bigint      NOT NULL,
  body        text        NOT NULL,
  is_internal boolean     NOT NULL DEFAULT false,
  created_at  timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  CONSTRAINT fk_ticket_comments_ticket_id FOREIGN KEY (ticket_id) REFERENCES tickets (id) ON DELETE CASCADE,
  CONSTRAINT fk_ticket_comments_author_id FOREIGN KEY (author_id) REFERENCES users (id)   ON DELETE CASCADE
);
CREATE INDEX ix_ticket_comments_ticket_id ON ticket_comments (ticket_id);
CREATE INDEX ix_ticket_comments_author_id ON ticket_comments (author_id);

CREATE TABLE ticket_attachments (
  id           bigserial    PRIMARY KEY,
  ticket_id    bigint       NOT NULL,
  comment_id   bigint,
  filename     varchar(255) NOT NULL,
  content_type varchar(100) NOT NULL,
  size_bytes   bigint       NOT NULL,
  created_at   timestamptz  NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  CONSTRAINT fk_ticket_attachments_ticket_id  FOREIGN KEY (ticket_id)  REFERENCES tickets (id)         ON DELETE CASCADE,
  CONSTRAINT fk_ticket_attachments_comment_id FOREIGN KEY (comment_id) REFERENCES ticket_comments (id) ON DELETE SET NULL
);
CREATE INDEX ix_ticket_attachments_ticket_id  ON ticket_attachments (ticket_id);
CREATE INDEX ix_ticket_attachments_comment_id ON ticket_attachments (comment_id);

CREATE TABLE tags (
  id   serial      PRIMARY KEY,
  name varchar(60) NOT NULL CONSTRAINT uq_tags_name UNIQUE
);

CREATE TABLE ticket_tags (
  ticket_id bigint  NOT NULL,
  tag_id    integer NOT NULL,
  PRIMARY KEY (ticket_id, tag_id),
  CONSTRAINT fk_ticket_tags_ticket_id FOREIGN KEY (ticket_id) REFERENCES tickets (id) ON DELETE CASCADE,
  CONSTRAINT fk_ticket_tags_tag_id    FOREIGN KEY (tag_id)    REFERENCES tags (id)    ON DELETE CASCADE
);
CREATE INDEX ix_ticket_tags_tag_id ON ticket_tags (tag_id);

CREATE TABLE ticket_watchers (
  ticket_id bigint NOT NULL,
  user_id   bigint NOT NULL,
  PRIMARY KEY (ticket_id, user_id),
  CONSTRAINT fk_ticket_watchers_ticket_id FOREIGN KEY (ticket_id) REFERENCES tickets (id) ON DELETE CASCADE,
  CONSTRAINT fk_ticket_watchers_user_id   FOREIGN KEY (user_id)   REFERENCES users (id)   ON DELETE CASCADE
);
CREATE INDEX ix_ticket_watchers_user_id ON ticket_watchers (user_id);
