"""What `check` asks of MySQL and MariaDB: the account, the log, the tables, the projection."""
