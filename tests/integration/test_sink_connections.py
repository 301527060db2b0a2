"""The Redis sink's ways to a server: TLS, a Unix socket, Sentinels, a cluster; and its threads.

After a failover documents and checkpoint have gone back together, or not at all.
"""

from __future__ import annotations

import datetime
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from projector.errors import (
    ConfigurationError,
    FencedError,
    OperatorError,
    ProjectorError,
    TransientError,
)
from projector.model import Damage
from projector.mysql.position import Position
from projector.settings import Redis as RedisSettings
from projector.sink_redis import RedisSink
from tests.fix_servers import missing
from tests.integration.test_sink_contract import batch, position
from tests.projector_process import wait_for
from tests.servers import (
    RedisServer,
    ServerUnavailable,
    start_redis,
    start_redis_cluster,
    start_sentinel,
)
from tests.servers.process import free_port

pytestmark = pytest.mark.server

SECRET = "s3cret/@:#"
QUOTED = "s3cret%2F%40%3A%23"


def sink_at(url: str, **settings: Any) -> RedisSink:
    return RedisSink(RedisSettings(url=url, timeout_s=2, **settings), "tickets", Position.parse)


def works(url: str, **settings: Any) -> None:
    """A sink does a whole term's acts over this connection."""
    sink = sink_at(url, **settings)
    try:
        assert sink.acquire()
        sink.load()
        sink.apply(batch({"1": "a"}, number=1, fingerprint="f"))
        assert sink.renew().damage is Damage.NONE
        assert sink.read(["1"]) == {"1": b"a"}
        assert sink.scan(0, 10) == (0, ["1"])
        assert sink.info().role == "master"
        sink.release()
    finally:
        sink.close()


def failure(url: str, **settings: Any) -> ProjectorError:
    """What the first call over this connection raises; never with a secret in it."""
    sink = sink_at(url, **settings)
    try:
        with pytest.raises(ProjectorError) as found:
            sink.acquire()
    finally:
        sink.close()
    assert "s3cret" not in str(found.value)
    return found.value


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a name short enough for a socket."""
    made = Path(tempfile.mkdtemp(prefix="sink-"))
    yield made
    shutil.rmtree(made)


def started(*options: str) -> RedisServer:
    try:
        return start_redis(options=options)
    except ServerUnavailable as problem:
        missing(problem)


def test_a_unix_socket_with_a_password(folder: Path) -> None:
    """unix:// with the database as a parameter."""
    with started("--unixsocket", f"{folder}/s", "--requirepass", SECRET):
        works(f"unix://:{QUOTED}@{folder}/s?db=1")
        assert isinstance(failure(f"unix://{folder}/s?db=1"), OperatorError)
    assert isinstance(failure(f"unix://{folder}/s?db=1"), TransientError)


def certify(folder: Path) -> None:
    """Make ca.crt, and with its signature server.crt and client.crt with their keys."""
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    signed_with = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink test CA")])
    for name, key in [
        ("ca", ca_key),
        ("server", ec.generate_private_key(ec.SECP256R1())),
        ("client", ec.generate_private_key(ec.SECP256R1())),
    ]:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=name == "ca", crl_sign=name == "ca",
            content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        made = (
            x509.CertificateBuilder()
            .subject_name(ca_name if name == "ca" else subject)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(signed_with, critical=False)  # Python 3.13 and later insist on these
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )


def test_tls_with_certificates_on_both_sides(folder: Path) -> None:
    """Server and client show theirs; an unknown authority or another host name is refused."""
    certify(folder)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "yes"]
    for option, file in [("cert", "server.crt"), ("key", "server.key"), ("ca-cert", "ca.crt")]:
        options += [f"--tls-{option}-file", str(folder / file)]
    own = {"cert": folder / "client.crt", "key": folder / "client.key"}
    with started(*options):
        works(f"rediss://localhost:{port}/1", ca=folder / "ca.crt", **own)
        for url, given in [
            (f"rediss://localhost:{port}/1", own),
            (f"rediss://127.0.0.1:{port}/1", {**own, "ca": folder / "ca.crt"}),
        ]:
            error = failure(url, **given)
            assert isinstance(error, OperatorError), error
            assert "PROJECTOR_REDIS__CA" in str(error)
            assert "verify failed" in str(error)
        without = failure(f"rediss://localhost:{port}/1", ca=folder / "ca.crt")
        assert isinstance(without, TransientError | OperatorError), without


def test_a_cluster_with_a_password() -> None:
    """A wrong one needs an operator, though the client meets it while it looks for nodes."""
    try:
        servers = start_redis_cluster(3)
    except ServerUnavailable as problem:
        missing(problem)
    try:
        for server in servers:
            with server.client(db=0) as client:
                client.config_set("requirepass", SECRET)
        address = f"127.0.0.1:{servers[1].port}"
        works(f"redis://:{QUOTED}@{address}/0", cluster=True)
        for url in (f"redis://{address}/0", f"redis://:s3cret@{address}/0"):
            error = failure(url, cluster=True)
            assert isinstance(error, OperatorError), error
            assert not isinstance(error, ConfigurationError)
        sink = sink_at(f"redis://:{QUOTED}@{address}/0", cluster=True)
        assert sink.acquire()
        home = next(s for s in servers if _keys_of(s))
        home.kill()
        with pytest.raises(TransientError):
            sink.renew()
        sink.close()
    finally:
        for server in servers:
            server.discard()


def _keys_of(server: RedisServer) -> list[bytes]:
    with server.client(db=0, password=SECRET) as client:
        return list(client.keys("*"))


@pytest.fixture
def watched() -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A primary, its replica and their Sentinel, which knows both; all without persistence."""
    with (
        started() as primary,
        started("--replicaof", primary.host, str(primary.port)) as replica,
        start_sentinel({"tickets": primary}, down_after_ms=500) as sentinel,
    ):
        wait_for(lambda: _promotable(sentinel) == [replica.port])
        yield primary, replica, sentinel


def _promotable(sentinel: RedisServer) -> list[int]:
    found: Any
    with sentinel.client(db=0) as client:
        found = client.sentinel_slaves("tickets")
    return [each["port"] for each in found if each["master-link-status"] == "ok"]


def sentinel_url(sentinel: RedisServer) -> str:
    """With one Sentinel that is away before the one that answers."""
    return f"redis://127.0.0.1:1,127.0.0.1:{sentinel.port}/1"


def taken_over(sink: RedisSink) -> int:
    """Lead again, whatever it takes; the position of the checkpoint found."""

    def lead() -> bool:
        try:
            return sink.acquire()
        except TransientError:
            return False

    wait_for(lead, timeout_s=30)
    found = sink.load()
    assert found is not None
    return found.position.offset


def test_a_failover_to_a_replica_that_lags(
    watched: tuple[RedisServer, RedisServer, RedisServer],
) -> None:
    """Its older documents have its older checkpoint; a write that continues from the lost one is
    refused, and the term after goes on from there."""
    primary, replica, sentinel = watched
    sink = sink_at(sentinel_url(sentinel), sentinel_master="tickets", lease_ttl_s=60)
    assert sink.acquire()
    assert sink.load() is None
    for number in range(1, 6):
        sink.apply(batch({"1": str(number)}, number=number, fingerprint="f"))
    with replica.client() as copy:
        wait_for(lambda: copy.hget("tickets", "1") == b"5")
    _leave_behind(primary, replica)
    for number in range(6, 9):
        sink.apply(batch({"1": str(number)}, number=number))
    primary.kill()

    def refused() -> bool:
        try:
            sink.apply(batch({"1": "9"}, number=9))
        except FencedError as error:
            return "checkpoint" in str(error)
        except TransientError:
            return False
        raise AssertionError("written after a checkpoint that is gone")

    wait_for(refused, timeout_s=30)
    reached = taken_over(sink)
    assert reached == 5
    assert sink.read(["1"]) == {"1": str(reached).encode()}
    sink.apply(batch({"1": "6"}, number=reached + 1))
    assert sink.load() is not None
    sink.close()


def _leave_behind(primary: RedisServer, replica: RedisServer) -> None:
    """Break the replication: the replica gives a password that the primary does not want."""
    with primary.client() as old, replica.client() as copy:
        copy.config_set("masterauth", "none is set")
        old.client_kill_filter(_type="replica")
        wait_for(lambda: copy.info("replication")["master_link_status"] == "down")


def test_a_wrong_name_of_the_master_is_said(
    watched: tuple[RedisServer, RedisServer, RedisServer],
) -> None:
    """Sentinel may learn it yet, so it is tried again; the message has the name."""
    error = failure(sentinel_url(watched[2]), sentinel_master="orders")
    assert isinstance(error, TransientError)
    assert "orders" in str(error)
    assert len(str(error)) < 200


def test_walkers_read_while_documents_are_written() -> None:
    """Four threads read and scan beside the writer: no answer is ever another question's."""
    with started() as server:
        sink = sink_at(server.url(), lease_ttl_s=60)
        assert sink.acquire()
        sink.load()
        documents = {str(n): f"{n}:" + "x" * 200 for n in range(1000)}
        sink.apply(batch(documents, number=1, fingerprint="f"))
        stop = threading.Event()
        wrong: list[object] = []
        reads = [0] * 4

        def read(place: int) -> None:
            ids = [str(n) for n in range(place, 1000, 7)]
            while not stop.is_set():
                found = sink.read(ids)
                if [k for k in ids if not found[k].startswith(f"{k}:".encode())]:
                    wrong.append(found)
                if len(sink.scan(0, 100)[1]) < 100:
                    wrong.append("scan")
                reads[place] += 1

        threads = [threading.Thread(target=read, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for number in range(2, 200):
            sink.apply(batch({str(number): f"{number}:new"}, number=number))
        wait_for(lambda: min(reads) > 20 or wrong)
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        found = sink.load()
        assert found is not None
        assert found.position == position(199)
        sink.close()
