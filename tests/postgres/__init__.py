"""The helpdesk on PostgreSQL, as tests use it: seed, random workload, oracle, world."""
