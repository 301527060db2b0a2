"""A forum where everything may refer to everything, in MyISAM and InnoDB tables: its projection,
its random history, and its documents evaluated row by row."""

from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func

from projector.projection import First, Fixed, Join, Kind, Many, OneOf, Pairs, Projection
from tests.examples.history import Columns, Tables, between, one_of, texts
from tests.examples.reading import Row, by, read
from tests.oracle import Documents

DDL = """
CREATE TABLE fm_post (id INT PRIMARY KEY, author_type VARCHAR(9), author_id INT,
  about_type VARCHAR(9), about_id INT, body TEXT, KEY (author_id), KEY (about_id)) ENGINE=MyISAM;
CREATE TABLE fm_user (id INT PRIMARY KEY, name VARCHAR(20), mail VARCHAR(20), gone INT, KEY (mail));
CREATE TABLE fm_bot (id INT PRIMARY KEY, title VARCHAR(20)) ENGINE=MyISAM;
CREATE TABLE fm_profile (id INT PRIMARY KEY, mail VARCHAR(20), score INT, KEY (mail));
CREATE TABLE fm_comment (id INT PRIMARY KEY, on_type VARCHAR(9), on_id INT, author_type VARCHAR(9),
  author_id INT, body TEXT, KEY (on_id), KEY (author_id));
CREATE TABLE fm_like (id INT PRIMARY KEY, on_type VARCHAR(9), on_id INT, kind VARCHAR(9),
  KEY (on_id)) ENGINE=MyISAM
"""
_TYPES = texts("Post", "User", "Bot", "Gone")
_WORDS = texts("one", "Two", "drei", "")
TABLES: Tables = {
    "fm_post": Columns(["id"], {
        "id": between(1, 12), "author_type": _TYPES, "author_id": between(1, 6, 0.1),
        "about_type": _TYPES, "about_id": between(1, 12, 0.2), "body": _WORDS,
    }),
    "fm_user": Columns(["id"], {
        "id": between(1, 6), "name": _WORDS, "mail": texts("a", "b", "c"),
        "gone": one_of("0", "0", "1"),
    }),
    "fm_bot": Columns(["id"], {"id": between(1, 6), "title": _WORDS}),
    "fm_profile": Columns(["id"], {
        "id": between(1, 9), "mail": texts("a", "b", "c"), "score": between(1, 3, 0.2),
    }),
    "fm_comment": Columns(["id"], {
        "id": between(1, 40), "on_type": _TYPES, "on_id": between(1, 12), "author_type": _TYPES,
        "author_id": between(1, 6), "body": _WORDS,
    }),
    "fm_like": Columns(["id"], {
        "id": between(1, 40), "on_type": _TYPES, "on_id": between(1, 12),
        "kind": texts("up", "Up", "down"),
    }),
}  # fmt: skip

_METADATA = sa.MetaData()


def _table(table: str, numbers: str, words: str) -> sa.Table:
    return sa.Table(
        table, _METADATA, sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(c, sa.Integer) for c in numbers.split()),
        *(sa.Column(c, sa.String(20)) for c in words.split()),
    )  # fmt: skip


post = _table("fm_post", "author_id about_id", "author_type about_type body")
user = _table("fm_user", "gone", "name mail")
bot = _table("fm_bot", "", "title")
profile = _table("fm_profile", "score", "mail")
comment = _table("fm_comment", "on_id author_id", "on_type author_type body")
like = _table("fm_like", "on_id", "on_type kind")
about_post, about_user = post.alias("about_post"), user.alias("about_user")
writer, machine = user.alias("writer"), bot.alias("machine")
liked = comment.alias("liked")

forum = Projection(
    "forum", post, fields=[post.c.id, post.c.body],
    collections=[
        OneOf("author", kind=post.c.author_type, key=post.c.author_id, of={
            "User": Kind(user, fields=[user.c.name, Fixed(user.c.mail), profile.c.score],
                         joins=[Join(profile, profile.c.mail == user.c.mail,
                                     pick=[profile.c.score.desc()])],
                         where=user.c.gone == 0),
            "Bot": Kind(bot, fields=[bot.c.title.label("name"), sa.null().label("mail"),
                                     sa.literal(0).label("score")]),
        }),
        OneOf("about", kind=post.c.about_type, key=post.c.about_id, of={
            "Post": Kind(about_post, fields=[about_post.c.body.label("text")]),
            "User": Kind(about_user, fields=[about_user.c.name.label("text")]),
        }),
        Pairs("likes", like, on=sa.and_(like.c.on_id == post.c.id, like.c.on_type == "Post"),
              key=like.c.kind, value=func.count()),
        Many("comments", comment,
             on=sa.and_(comment.c.on_id == post.c.id, comment.c.on_type == "Post"),
             fields=[comment.c.id, comment.c.body], limit=5, order_by=[comment.c.id.desc()],
             collections=[OneOf("author", kind=comment.c.author_type, key=comment.c.author_id, of={
                 "User": Kind(writer, fields=[writer.c.name], where=writer.c.gone == 0),
                 "Bot": Kind(machine, fields=[machine.c.title.label("name")]),
             })]),
        First("loudest", liked, on=sa.and_(liked.c.on_id == post.c.id, liked.c.on_type == "Post"),
              value=liked.c.body, order_by=[func.length(liked.c.body).desc()]),
    ],
)  # fmt: skip


def documents(connection: Any) -> Documents:
    """What the hash should hold."""
    rows = read(connection, [*TABLES])
    return {str(row["id"]): _document(row, rows) for row in rows["fm_post"]}


def _document(row: Row, rows: dict[str, list[Row]]) -> dict[str, Any]:
    def hanging(table: str) -> list[Row]:
        return [r for r in rows[table] if r["on_id"] == row["id"] and r["on_type"] == "Post"]

    comments = hanging("fm_comment")
    loudest = min(comments, key=lambda c: (-len(c["body"]), c["id"]), default=None)
    about = None
    if row["about_type"] == "Post" and (found := by(rows["fm_post"], row["about_id"])):
        about = {"text": found["body"]}
    if row["about_type"] == "User" and (found := by(rows["fm_user"], row["about_id"])):
        about = {"text": found["name"]}
    return {
        "id": row["id"], "body": row["body"], "author": _author(row, rows), "about": about,
        "likes": dict(Counter(x["kind"] for x in hanging("fm_like"))),
        "comments": [
            {"id": c["id"], "body": c["body"], "author": _name(_author(c, rows))}
            for c in comments[::-1][:5]
        ],
        "loudest": loudest and loudest["body"],
    }  # fmt: skip


def _author(row: Row, rows: dict[str, list[Row]]) -> dict[str, Any] | None:
    if row["author_type"] == "Bot":
        bot_row = by(rows["fm_bot"], row["author_id"])
        return bot_row and {"name": bot_row["title"], "mail": None, "score": 0}
    found = by(rows["fm_user"], row["author_id"])
    if row["author_type"] != "User" or found is None or found["gone"]:
        return None
    scores = [p["score"] for p in rows["fm_profile"] if p["mail"] == found["mail"]]
    best = max((s for s in scores if s is not None), default=None)
    return {"name": found["name"], "mail": "***", "score": best}


def _name(author: dict[str, Any] | None) -> dict[str, Any] | None:
    return author and {"name": author["name"]}
