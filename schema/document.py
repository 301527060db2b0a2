"""`TicketDocument`: what readers find in each field of the Redis hash `tickets`.

`TicketDocument.model_validate_json(value)` reads a stored document; `model_dump_json()` of it
gives the same bytes again. Times are UTC; decimals are strings in JSON and `Decimal` here.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue
from pydantic.functional_validators import AfterValidator


def _in_utc(value: AwareDatetime) -> AwareDatetime:
    if value.utcoffset() != timedelta(0):
        raise ValueError("not in UTC")
    return value


UtcDatetime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Unsigned64 = Annotated[int, Field(ge=0, lt=2**64)]
Unsigned32 = Annotated[int, Field(ge=0, lt=2**32)]
Unsigned16 = Annotated[int, Field(ge=0, lt=2**16)]
Unsigned8 = Annotated[int, Field(ge=0, lt=2**8)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Watcher(_Part):
    """A user who follows the ticket."""

    user_id: Unsigned64 = Field(description="The user's id")
    name: str | None = Field(description="The user's full name")


class Attachment(_Part):
    """A file that was attached to the ticket or to one of its comments."""

    id: Unsigned64 = Field(description="The attachment's id")
    filename: str = Field(description="Name of the file, as uploaded")
    content_type: str = Field(description="Media type of the file, as uploaded")
    size_bytes: Unsigned64 = Field(description="Size of the file in bytes")
    created_at: UtcDatetime = Field(description="When the file was attached, UTC")


class TicketDocument(_Part):
    """A ticket with everything that is shown of it, complete, as of one moment."""

    id: Unsigned64 = Field(description="The ticket's id, also its field in the Redis hash")
    title: str = Field(description="The ticket's title")
    description: str | None = Field(description="The ticket's text; null when there is none")
    status_id: Unsigned16 = Field(description="Id of the ticket's status")
    status_name: str | None = Field(description="Name of the status")
    is_closed: bool | None = Field(description="Whether tickets of this status are closed")
    priority_id: Unsigned16 = Field(description="Id of the ticket's priority")
    priority_name: str | None = Field(description="Name of the priority")
    priority_level: Unsigned8 | None = Field(description="The priority's level, for ordering")
    category_id: Unsigned32 | None = Field(description="Id of the category; null without one")
    category_name: str | None = Field(description="Name of the category")
    parent_category_name: str | None = Field(description="Name of the category's parent category")
    department_id: Unsigned32 = Field(description="Id of the department that handles the ticket")
    department_name: str | None = Field(description="Name of that department")
    organization_id: Unsigned64 | None = Field(description="Id of that department's organization")
    organization_name: str | None = Field(description="Name of that organization")
    requester_id: Unsigned64 = Field(description="Id of the user who asked")
    requester_name: str | None = Field(description="Full name of the requester")
    requester_email: str | None = Field(description="E-mail address of the requester")
    requester_department_name: str | None = Field(
        description="Name of the requester's own department; null without one"
    )
    assignee_id: Unsigned64 | None = Field(
        description="Id of the user who works on the ticket; null while nobody does"
    )
    assignee_name: str | None = Field(description="Full name of the assignee")
    assignee_email: str | None = Field(description="E-mail address of the assignee")
    estimated_hours: Decimal | None = Field(
        description="Estimated work in hours with two decimals, exact; a string in JSON"
    )
    custom_fields: JsonValue = Field(description="Whatever JSON the helpdesk keeps with the ticket")
    created_at: UtcDatetime = Field(description="When the ticket was created, UTC")
    updated_at: UtcDatetime = Field(description="When the ticket's own row last changed, UTC")
    due_at: UtcDatetime | None = Field(description="When the ticket is due, UTC; null: no limit")
    closed_at: UtcDatetime | None = Field(description="When the ticket was closed, UTC")
    tags: tuple[str | None, ...] = Field(description="Names of the ticket's tags, in binary order")
    watchers: tuple[Watcher, ...] = Field(description="Users who follow the ticket, by id")
    attachments: tuple[Attachment, ...] = Field(description="Files of the ticket, by id")
    comment_count: int = Field(ge=0, description="Number of comments, internal ones included")
    last_comment_at: UtcDatetime | None = Field(
        description="When the latest comment was written, UTC; null without comments"
    )
