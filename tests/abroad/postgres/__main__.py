"""`python -m tests.abroad.postgres 12`: as `python -m tests.abroad.worlds`, on PostgreSQL."""

import sys

from tests.abroad.postgres.runner import PostgresRunner
from tests.abroad.worlds.__main__ import main

if __name__ == "__main__":
    sys.exit(main(PostgresRunner, "tests.abroad.postgres"))
