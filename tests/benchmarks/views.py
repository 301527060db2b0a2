"""The helpdesk's tickets with three of their views, for the daemon of `lists`."""

from dataclasses import replace

from schema import lists

_CHOSEN = {"by_status", "by_department_status", "by_requester_email"}

tickets = replace(lists.tickets, views=[v for v in lists.tickets.views if v.name in _CHOSEN])
