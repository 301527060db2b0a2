"""Alembic migrations of the reference helpdesk."""
