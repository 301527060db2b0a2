-- The projector's user on MariaDB 10.5 or later: nothing more than it needs. Run as an administrator.
-- Replace the password, and 'helpdesk' if your database is named otherwise. Tables: those that the projection reads.
CREATE USER 'projector'@'%' IDENTIFIED BY 'change-me' WITH MAX_USER_CONNECTIONS 30;
-- Where server and projector are not on one machine:
-- ALTER USER 'projector'@'%' REQUIRE SSL;

-- COM_BINLOG_DUMP, and registration as a replica.
GRANT REPLICATION SLAVE ON *.* TO 'projector'@'%';
-- SHOW BINLOG STATUS and SHOW BINARY LOGS: the end of the log, and what was purged (REPLICATION CLIENT before 10.5).
GRANT BINLOG MONITOR ON *.* TO 'projector'@'%';
-- Binlog_snapshot_file and _position, the system variables, and information_schema for these tables need no privilege of
-- their own, nor does MASTER_GTID_WAIT (the barrier on a replica).

-- Whole tables, and also those that a foreign key with an action leads to from these, one above the other: the server shows
-- foreign keys only to who may read the whole table. `projector check` names what is missing (mysql.foreign_keys).
GRANT SELECT ON helpdesk.organizations      TO 'projector'@'%';
GRANT SELECT ON helpdesk.departments        TO 'projector'@'%';
GRANT SELECT ON helpdesk.users              TO 'projector'@'%';
GRANT SELECT ON helpdesk.ticket_statuses    TO 'projector'@'%';
GRANT SELECT ON helpdesk.ticket_priorities  TO 'projector'@'%';
GRANT SELECT ON helpdesk.categories         TO 'projector'@'%';
GRANT SELECT ON helpdesk.tickets            TO 'projector'@'%';
GRANT SELECT ON helpdesk.ticket_comments    TO 'projector'@'%';
GRANT SELECT ON helpdesk.ticket_attachments TO 'projector'@'%';
GRANT SELECT ON helpdesk.tags               TO 'projector'@'%';
GRANT SELECT ON helpdesk.ticket_tags        TO 'projector'@'%';
GRANT SELECT ON helpdesk.ticket_watchers    TO 'projector'@'%';
