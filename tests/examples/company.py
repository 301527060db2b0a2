"""A company in three databases of one server: self-references, one table in many roles."""

import sqlalchemy as sa
from sqlalchemy import func

from projector.projection import Aggregate, Join, Many, Projection

metadata = sa.MetaData()

employees = sa.Table(
    "employees", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("manager_id", sa.Integer),
    sa.Column("mentor_id", sa.Integer),
    sa.Column("team", sa.String(20)),
    sa.Column("name", sa.String(40)),
)  # fmt: skip
people = sa.Table(  # the same name stands in the other database too
    "notes", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("author_id", sa.Integer),
    sa.Column("subject_id", sa.Integer),
    sa.Column("text", sa.Text),
    schema="example_hr",
)  # fmt: skip
replies = sa.Table(
    "replies", metadata,
    sa.Column("note_id", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("author_id", sa.Integer),
    schema="example_hr",
)  # fmt: skip
assets = sa.Table(
    "notes", metadata,
    sa.Column("serial", sa.String(10), primary_key=True),
    sa.Column("owner_id", sa.Integer),
    schema="example_assets",
)  # fmt: skip

manager = employees.alias("manager")
top_manager = employees.alias("top_manager")
mentor = employees.alias("mentor")
mentors_manager = employees.alias("mentors_manager")
reports = employees.alias("reports")
second_reports = employees.alias("second_reports")
peers = employees.alias("peers")
reply_author = employees.alias("reply_author")


def _replies() -> Many:
    return Many(
        "replies",
        replies,
        on=replies.c.note_id == people.c.id,
        joins=[Join(reply_author, reply_author.c.id == replies.c.author_id)],
        value=reply_author.c.name,
    )


employees_by_id = Projection(
    name="employees",
    root=employees,
    joins=[
        Join(manager, manager.c.id == employees.c.manager_id),
        Join(top_manager, top_manager.c.id == manager.c.manager_id),
        Join(mentor, mentor.c.id == employees.c.mentor_id),
        Join(mentors_manager, mentors_manager.c.id == mentor.c.manager_id),
    ],
    fields=[
        employees.c.id,
        employees.c.name,
        manager.c.name.label("manager"),
        top_manager.c.name.label("top_manager"),
        mentor.c.name.label("mentor"),
        mentors_manager.c.name.label("mentors_manager"),
    ],
    collections=[
        Many(
            "reports",
            reports,
            on=reports.c.manager_id == employees.c.id,
            fields=[reports.c.id, reports.c.name],
            collections=[
                Many(
                    "reports",
                    second_reports,
                    on=second_reports.c.manager_id == reports.c.id,
                    value=second_reports.c.name,
                )
            ],
        ),
        Many(
            "peers",
            peers,
            on=sa.and_(peers.c.team == employees.c.team, peers.c.id != employees.c.id),
            value=peers.c.name,
        ),
        # One table without aliases in several collections, each hung on in another way.
        Many(
            "written",
            people,
            on=people.c.author_id == employees.c.id,
            fields=[people.c.text],
            collections=[_replies()],
        ),
        Many(
            "about",
            people,
            on=people.c.subject_id == employees.c.id,
            where=people.c.author_id != employees.c.id,
            fields=[people.c.text],
            collections=[_replies()],
        ),
        Many(
            "mentors_assets",
            assets,
            on=assets.c.owner_id == mentor.c.id,
            where=assets.c.serial != manager.c.name,
            value=assets.c.serial,
        ),
        Aggregate(
            assets,
            on=assets.c.owner_id == employees.c.id,
            fields=[func.count().label("asset_count")],
        ),
    ],
)
