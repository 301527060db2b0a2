"""The same tickets with lists beside them, and users with the tickets that they have asked for.

PROJECTOR_PROJECTION=schema.lists:tickets,schema.lists:users

E-mail addresses stand in no name of a key: TICKETS_LIST_KEY is the key that masks them. Readers
that look for an address need it too.
"""

from dataclasses import replace

from projector.projection import Hashed, Many, Projection, View
from schema import projection
from schema import tables as t

tickets = replace(
    projection.tickets,
    views=[
        View("by_status", key=t.ticket_statuses.c.name, newest=t.tickets.c.updated_at),
        View("by_assignee", key=t.tickets.c.assignee_id, newest=t.tickets.c.updated_at),
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
        View(
            "by_tag",
            key=t.tags.c.name,
            newest=t.tickets.c.created_at,
            where=t.ticket_statuses.c.is_closed == 0,
            keep=10_000,
        ),
    ],
)

# A list with few members can be a document of its own: one HGET gives a user's tickets.
users = Projection(
    name="users",
    root=t.users,
    fields=[t.users.c.id, t.users.c.full_name.label("name"), t.users.c.email],
    collections=[
        Many(
            "tickets",
            t.tickets,
            on=t.tickets.c.requester_id == t.users.c.id,
            fields=[t.tickets.c.id, t.tickets.c.title, t.tickets.c.updated_at],
            order_by=[t.tickets.c.updated_at.desc(), t.tickets.c.id.desc()],
            limit=200,
        ),
    ],
)
