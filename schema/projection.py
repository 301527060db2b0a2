"""The ticket: which tables make a document, each join said once."""

from sqlalchemy import func

from projector.projection import Aggregate, Join, Many, Projection, binary
from schema import tables as t
from schema.document import TicketDocument

parent_category = t.categories.alias("parent_category")
requester = t.users.alias("requester")
requester_department = t.departments.alias("requester_department")
assignee = t.users.alias("assignee")

tickets = Projection(
    name="tickets",
    root=t.tickets,
    document=TicketDocument,
    joins=[
        Join(t.ticket_statuses, t.tickets.c.status_id == t.ticket_statuses.c.id),
        Join(t.ticket_priorities, t.tickets.c.priority_id == t.ticket_priorities.c.id),
        Join(t.categories, t.tickets.c.category_id == t.categories.c.id),
        Join(parent_category, t.categories.c.parent_id == parent_category.c.id),
        Join(t.departments, t.tickets.c.department_id == t.departments.c.id),
        Join(t.organizations, t.departments.c.organization_id == t.organizations.c.id),
        Join(requester, t.tickets.c.requester_id == requester.c.id),
        Join(requester_department, requester.c.department_id == requester_department.c.id),
        Join(assignee, t.tickets.c.assignee_id == assignee.c.id),
    ],
    fields=[
        t.tickets.c.id,
        t.tickets.c.title,
        t.tickets.c.description,
        t.tickets.c.status_id,
        t.ticket_statuses.c.name.label("status_name"),
        t.ticket_statuses.c.is_closed,
        t.tickets.c.priority_id,
        t.ticket_priorities.c.name.label("priority_name"),
        t.ticket_priorities.c.level.label("priority_level"),
        t.tickets.c.category_id,
        t.categories.c.name.label("category_name"),
        parent_category.c.name.label("parent_category_name"),
        t.tickets.c.department_id,
        t.departments.c.name.label("department_name"),
        t.departments.c.organization_id,
        t.organizations.c.name.label("organization_name"),
        t.tickets.c.requester_id,
        requester.c.full_name.label("requester_name"),
        requester.c.email.label("requester_email"),
        requester_department.c.name.label("requester_department_name"),
        t.tickets.c.assignee_id,
        assignee.c.full_name.label("assignee_name"),
        assignee.c.email.label("assignee_email"),
        t.tickets.c.estimated_hours,
        t.tickets.c.custom_fields,
        t.tickets.c.created_at,
        t.tickets.c.updated_at,
        t.tickets.c.due_at,
        t.tickets.c.closed_at,
    ],
    collections=[
        Many(
            "tags",
            t.ticket_tags,
            on=t.ticket_tags.c.ticket_id == t.tickets.c.id,
            joins=[Join(t.tags, t.ticket_tags.c.tag_id == t.tags.c.id)],
            value=t.tags.c.name,
            order_by=[binary(t.tags.c.name)],
        ),
        Many(
            "watchers",
            t.ticket_watchers,
            on=t.ticket_watchers.c.ticket_id == t.tickets.c.id,
            joins=[Join(t.users, t.ticket_watchers.c.user_id == t.users.c.id)],
            fields=[t.ticket_watchers.c.user_id, t.users.c.full_name.label("name")],
            order_by=[t.ticket_watchers.c.user_id],
        ),
        Many(
            "attachments",
            t.ticket_attachments,
            on=t.ticket_attachments.c.ticket_id == t.tickets.c.id,
            fields=[
                t.ticket_attachments.c.id,
                t.ticket_attachments.c.filename,
                t.ticket_attachments.c.content_type,
                t.ticket_attachments.c.size_bytes,
                t.ticket_attachments.c.created_at,
            ],
            order_by=[t.ticket_attachments.c.id],
        ),
        Aggregate(
            t.ticket_comments,
            on=t.ticket_comments.c.ticket_id == t.tickets.c.id,
            fields=[
                func.count().label("comment_count"),
                func.max(t.ticket_comments.c.created_at).label("last_comment_at"),
            ],
        ),
    ],
)
