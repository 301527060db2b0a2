"""The reference helpdesk: its tables, its migrations and the document that readers get.

tables      the twelve tables, as SQLAlchemy Core
document    `TicketDocument`, the wire format, for readers
projection  which tables make a ticket, each join said once
migrations  the same tables for Alembic
"""
