"""MariaDB's own UUID and INET6 as keys: visits by UUID, hosts by address."""

import sqlalchemy as sa

from projector.projection import Join, Many, Projection

metadata = sa.MetaData()

hosts = sa.Table(
    "hosts", metadata,
    sa.Column("ip", sa.String(45), primary_key=True),
    sa.Column("name", sa.String(60)),
)  # fmt: skip
visits = sa.Table(
    "visits", metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("ip", sa.String(45)),
    sa.Column("page", sa.String(40)),
)  # fmt: skip
clicks = sa.Table(
    "clicks", metadata,
    sa.Column("visit_id", sa.Uuid, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
)  # fmt: skip

visits_by_id = Projection(
    name="visits",
    root=visits,
    joins=[Join(hosts, hosts.c.ip == visits.c.ip)],
    fields=[visits.c.id, visits.c.ip, visits.c.page, hosts.c.name],
    collections=[Many("clicks", clicks, clicks.c.visit_id == visits.c.id, value=clicks.c.number)],
)

seen = visits.alias("seen")

hosts_by_ip = Projection(
    name="hosts",
    root=hosts,
    fields=[hosts.c.ip, hosts.c.name],
    collections=[Many("visits", seen, seen.c.ip == hosts.c.ip, value=seen.c.id)],
)

clicks_by_key = Projection(
    name="clicks",
    root=clicks,
    joins=[Join(visits, visits.c.id == clicks.c.visit_id)],
    fields=[clicks.c.visit_id, visits.c.page],
)

DDL = """
CREATE TABLE hosts (ip INET6 PRIMARY KEY, name VARCHAR(60));
CREATE TABLE visits (id UUID PRIMARY KEY, ip INET6, page VARCHAR(40), KEY (ip));
CREATE TABLE clicks (visit_id UUID, number INT, PRIMARY KEY (visit_id, number));
"""
