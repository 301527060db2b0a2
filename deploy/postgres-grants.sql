-- The projector's role on PostgreSQL 14 or later: nothing more than it needs. Run with psql as the owner of the tables (the
-- first statement: as someone who may create roles), connected to the database that holds them. Replace the password, and
-- the tables by those that the projection reads if yours is not the helpdesk.

-- REPLICATION: to create its own slot, and to read the log through it.
CREATE ROLE projector LOGIN REPLICATION PASSWORD 'change-me' CONNECTION LIMIT 30;
GRANT USAGE ON SCHEMA public TO projector;
GRANT SELECT ON
  organizations, departments, users, ticket_statuses, ticket_priorities, categories,
  tickets, ticket_comments, ticket_attachments, tags, ticket_tags, ticket_watchers
  TO projector;

-- Exactly the tables that the projection reads: what a table publishes, the primary sends. Before the first start; a
-- publication cannot be made by the projector, for that takes the tables' owner.
CREATE PUBLICATION projector FOR TABLE
  organizations, departments, users, ticket_statuses, ticket_priorities, categories,
  tickets, ticket_comments, ticket_attachments, tags, ticket_tags, ticket_watchers;

-- A comment or attachment that moves from one ticket to another must tell which ticket it has left. By default the log holds
-- the old values of the primary key alone; `projector check` names each table that needs more, and the statement.
CREATE UNIQUE INDEX CONCURRENTLY ticket_comments_identity ON ticket_comments (id, ticket_id);
ALTER TABLE ticket_comments REPLICA IDENTITY USING INDEX ticket_comments_identity;
CREATE UNIQUE INDEX CONCURRENTLY ticket_attachments_identity ON ticket_attachments (id, ticket_id);
ALTER TABLE ticket_attachments REPLICA IDENTITY USING INDEX ticket_attachments_identity;
