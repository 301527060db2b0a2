"""The helpdesk's tickets with three views, for the daemon of `lists`; nothing of the benchmarks."""

from dataclasses import replace

from projector.projection import Hashed, View
from schema import projection
from schema import tables as t

tickets = replace(
    projection.tickets,
    views=[
        View("by_status", key=t.ticket_statuses.c.name, newest=t.tickets.c.updated_at),
        View(
            "by_department_status",
            key=[t.tickets.c.department_id, t.ticket_statuses.c.name],
            newest=t.tickets.c.created_at,
        ),
        View(
            "by_requester_email",
            key=Hashed(projection.requester.c.email, "TICKETS_LIST_KEY"),
            newest=t.tickets.c.created_at,
        ),
    ],
)
