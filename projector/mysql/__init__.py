"""MySQL and MariaDB: the log, reads behind the barrier, the catalog, what `check` asks of them."""
