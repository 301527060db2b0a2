"""Settings: where they come from, which wins, and what a wrong one is answered with."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from projector.errors import ConfigurationError, ExitCode
from projector.settings import Settings, load, projection_setting

SECRET = "geheim"
URL = f"mysql+pymysql://root:{SECRET}@db/helpdesk"


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without `.env` and an environment without our variables."""
    for name in list(os.environ):
        if name.upper().startswith("PROJECTOR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with all that is required."""
    monkeypatch.setenv("PROJECTOR_MYSQL__URL", URL)
    return monkeypatch


def secrets(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    monkeypatch.setenv("PROJECTOR_SECRETS_DIR", str(folder))
    return folder


def complaint(config: Path | None = None) -> str:
    """What `load` complains of, which must never hold the secret and always exits with 2."""
    with pytest.raises(ConfigurationError) as caught:
        load(config)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    cause = caught.value
    assert cause.__context__ is None or cause.__suppress_context__  # nor the traceback
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


def test_defaults_are_those_of_the_interface(environment: pytest.MonkeyPatch) -> None:
    """With the URL of MySQL alone everything else has its documented value."""
    settings = load()
    assert settings.redis.url.get_secret_value() == "redis://localhost:6379/1"
    assert settings.projection == "schema.projection:tickets"
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 9108)
    assert (settings.log.level, settings.log.format) == ("info", "json")
    assert settings.mysql.read_url is None
    assert settings.mysql.parsed_read_url == settings.mysql.parsed_url


def test_a_default_section_keeps_its_other_defaults(environment: pytest.MonkeyPatch) -> None:
    """One variable of a section does not empty the rest of it."""
    environment.setenv("PROJECTOR_HTTP__PORT", "9200")
    environment.setenv("PROJECTOR_MYSQL__TLS__CA", "/ca.pem")
    settings = load()
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 9200)
    assert settings.mysql.tls.ca == Path("/ca.pem")


def test_environment_wins_over_secrets_over_dotenv_over_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each source fills in only what those before it leave open, within one section too."""
    file = tmp_path / "projector.toml"
    file.write_text("[reconcile]\nchunk_documents=4\n[http]\nport=4\nhost='4'\nready_max_lag_s=4\n")
    (tmp_path / ".env").write_text(
        "PROJECTOR_HTTP__PORT=3\nPROJECTOR_HTTP__HOST=3\nPROJECTOR_HTTP__READY_MAX_LAG_S=3\n"
    )
    secrets(tmp_path / "s", environment, http__host="2", PROJECTOR_HTTP__PORT="2")
    environment.setenv("PROJECTOR_HTTP__PORT", "1")
    settings = load(file)
    assert (settings.http.port, settings.http.host) == (1, "2")
    assert settings.http.ready_max_lag_s == 3
    assert settings.reconcile.chunk_documents == 4


def test_the_environment_can_name_the_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PROJECTOR_CONFIG stands in for --config, which wins."""
    (tmp_path / "a.toml").write_text("batch_max_documents = 7\n")
    (tmp_path / "b.toml").write_text("batch_max_documents = 8\n")
    environment.setenv("PROJECTOR_CONFIG", str(tmp_path / "a.toml"))
    assert load().batch_max_documents == 7
    assert load(tmp_path / "b.toml").batch_max_documents == 8


@pytest.mark.parametrize(
    "name", ["PROJECTOR_MYSQL__URL", "projector_mysql__url", "mysql__url", "MYSQL__URL"]
)
def test_a_secret_is_a_file_named_like_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """With or without prefix, in any case; the line's end does not count; other files are left."""
    folder = secrets(tmp_path / "s", monkeypatch, **{name: f"{URL}\n", "tls.key": "other"})
    (folder / ".hidden").write_bytes(b"\xff")
    assert load().mysql.url.get_secret_value() == URL


def test_secrets_mounted_by_kubernetes_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There each file is a link through the link `..data` to a folder with the time as name."""
    folder = secrets(tmp_path / "s", monkeypatch)
    (folder / "..2026_11_23").mkdir()
    (folder / "..2026_11_23" / "PROJECTOR_MYSQL__URL").write_text(URL)
    (folder / "..data").symlink_to("..2026_11_23")
    (folder / "PROJECTOR_MYSQL__URL").symlink_to("..data/PROJECTOR_MYSQL__URL")
    assert load().mysql.url.get_secret_value() == URL


def test_nothing_that_prints_holds_the_secret(environment: pytest.MonkeyPatch) -> None:
    """Neither the settings nor the parsed URLs show a password."""
    environment.setenv("PROJECTOR_REDIS__URL", f"redis://:{SECRET}@redis/1")
    settings = load()
    shown = [settings, settings.mysql, settings.mysql.parsed_url, settings.redis]
    assert SECRET not in f"{shown!r} {' '.join(map(str, shown))} {settings.model_dump_json()}"
    assert settings.mysql.parsed_url.password == SECRET


def test_settings_are_frozen_and_parsed_once(environment: pytest.MonkeyPatch) -> None:
    """Nothing changes them after they are checked."""
    settings = load()
    with pytest.raises(ValidationError):
        settings.http.port = 1  # type: ignore[misc]
    assert settings.mysql.parsed_url is settings.mysql.parsed_url


def test_the_server_id_is_stable_and_out_of_the_usual_range(
    environment: pytest.MonkeyPatch,
) -> None:
    """Derived from host and process, unless given."""
    mysql = load().mysql
    assert mysql.replica_server_id == mysql.replica_server_id >= 2**31
    environment.setenv("PROJECTOR_MYSQL__SERVER_ID", "42")
    assert load().mysql.replica_server_id == 42


def test_a_missing_url_is_named() -> None:
    """The one required setting, by the name to set."""
    assert complaint().startswith("PROJECTOR_MYSQL__URL: is not set")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MYSQL__URL", f"//root:{SECRET}@db", "not a URL"),
        ("MYSQL__URL", f"mysql://root:x@db:{SECRET}/d", "not a URL"),
        ("MYSQL__URL", f"postgresql://u:{SECRET}@db/d", "not a MySQL URL"),
        ("MYSQL__URL", f"mysql+pymysql://u:{SECRET}@db", "names no database"),
        ("MYSQL__READ_URL", SECRET, "not a URL"),
        ("MYSQL__SERVER_ID", SECRET, "valid integer"),
        ("MYSQL__TLS__CERT", "/cert.pem", "cert and key go together"),
        ("REDIS__URL", f"http://:{SECRET}@host", "not a Redis URL"),
        ("REDIS__URL", f"redis://:{SECRET}/x@host:6379", "port is not a number"),
        ("REDIS__URL", f"redis://host/{SECRET}", "database is not a number"),
        ("REDIS__CA", "/ca.pem", "rediss://"),
        ("REDIS__KEY", "/key.pem", "cert and key go together"),
        ("HTTP__PORT", "99999", "less than or equal to 65535"),
        ("HTTP__LIVE_TIMEOUT_S", "20", "must be above 40"),
        ("HTTP__PROT", "1", "no such setting"),
        ("HTTP", f"not json {SECRET}", "http"),
        ("LOG__LEVEL", SECRET, "'debug', 'info', 'warning' or 'error'"),
        ("REDIS__LEASE_TTL_S", "0.1", "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_named_but_not_repeated(
    environment: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """One readable message with the variable and the reason."""
    environment.setenv(f"PROJECTOR_{name}", value)
    message = complaint()
    assert said in message
    assert "\n" not in message
    if name != "HTTP":
        assert f"PROJECTOR_{name.split('__', maxsplit=1)[0]}" in message


def test_every_wrong_setting_is_named_at_once(environment: pytest.MonkeyPatch) -> None:
    """Nobody wants to find them one by one."""
    environment.setenv("PROJECTOR_HTTP__PORT", "x")
    environment.setenv("PROJECTOR_LOG__LEVEL", "x")
    message = complaint()
    assert "PROJECTOR_HTTP__PORT: " in message
    assert "PROJECTOR_LOG__LEVEL: " in message


def test_several_sentinels_are_one_url(environment: pytest.MonkeyPatch) -> None:
    """A list of hosts with ports is no wrong port."""
    environment.setenv("PROJECTOR_REDIS__URL", "redis://:p@a:26379,b:26380/1")
    environment.setenv("PROJECTOR_REDIS__SENTINEL_MASTER", "primary")
    assert load().redis.sentinel_master == "primary"


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("redis://:p@[::1]:26379,[fe80::2]:26380/1", [("::1", 26379), ("fe80::2", 26380)]),
        ("redis://[::1],b:1,c/0", [("::1", None), ("b", 1), ("c", None)]),
        ("rediss://u:p%40@h", [("h", None)]),
        ("redis://[::1]:6379/1", [("::1", 6379)]),
    ],
)
def test_hosts_may_be_addresses_of_ipv6(
    environment: pytest.MonkeyPatch, url: str, hosts: list[tuple[str, int | None]]
) -> None:
    """In brackets, alone or in a list of Sentinels."""
    environment.setenv("PROJECTOR_REDIS__URL", url)
    assert load().redis.hosts == hosts


@pytest.mark.parametrize(
    "url",
    [
        "redis://:geheim@h/1?foo=1", "redis://:geheim@h/1?decode_responses=true",
        "redis://:geheim@h/1?db=2", "redis://:geheim@h/1?", "redis://:geheim@h/1#geheim",
        "redis://:geheim@[::1]:geheim/1", "redis://:geheim@a:1,b:geheim/1", "redis://a:1,b:0/1",
        "unix://:geheim@", "unix:///geheim?db=geheim", "unix:///geheim?db=1&protocol=3",
        "redis://:geheim@h/²", "redis://:geheim@[::1/1", "redis://:gehe?im@h/1",
    ],
)  # fmt: skip
def test_a_redis_url_is_checked_whole(environment: pytest.MonkeyPatch, url: str) -> None:
    """What the driver would choke on, or take for something else, is refused without a secret."""
    environment.setenv("PROJECTOR_REDIS__URL", url)
    if url.endswith("?"):  # an empty query is none
        assert load().redis.hosts == [("h", None)]
        return
    message = complaint()
    assert "PROJECTOR_REDIS__URL: " in message
    assert "geheim" not in message


def test_a_socket_names_its_database(environment: pytest.MonkeyPatch) -> None:
    """Where a URL of a socket has no other place for it."""
    environment.setenv("PROJECTOR_REDIS__URL", "unix:///run/redis.sock?db=1")
    assert "db=1" in load().redis.url.get_secret_value()


_NUMBERS = [
    "MYSQL__HEARTBEAT_S", "MYSQL__CONNECT_TIMEOUT_S", "MYSQL__READ_TIMEOUT_S",
    "REDIS__TIMEOUT_S", "REDIS__LEASE_TTL_S", "HTTP__READY_MAX_LAG_S", "HTTP__LIVE_TIMEOUT_S",
    "RECONCILE__CHUNK_DOCUMENTS", "RECONCILE__YIELD_AT_LAG_S", "RECONCILE__SCRUB_INTERVAL_S",
    "BATCH_MAX_DOCUMENTS", "FANOUT_MAX_DOCUMENTS", "CHANGE_FEED_MAX_LENGTH",
]  # fmt: skip


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "Infinity", "1e999", "-1"])
@pytest.mark.parametrize("name", _NUMBERS)
def test_numbers_are_finite(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    """An infinite time limit is none that a socket or a server could keep."""
    environment.setenv(f"PROJECTOR_{name}", value)
    assert f"PROJECTOR_{name}: " in complaint()


@pytest.mark.parametrize("name", [n for n in _NUMBERS if "HTTP" not in n and "YIELD" not in n])
def test_numbers_are_of_this_world(environment: pytest.MonkeyPatch, name: str) -> None:
    """Beyond some size the driver or the server fails."""
    environment.setenv(f"PROJECTOR_{name}", "1" + "0" * 40)
    assert f"PROJECTOR_{name}: " in complaint()


def test_levels_may_be_written_large(environment: pytest.MonkeyPatch) -> None:
    """INFO is what half of the world writes."""
    environment.setenv("PROJECTOR_LOG__LEVEL", "DEBUG")
    assert load().log.level == "debug"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"http = [", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"htpt.port = 1", "no such setting: htpt"),
        (b"[http]\nprot = 1", "PROJECTOR_HTTP__PROT: no such setting"),
        (f"mysql = '{SECRET}'".encode(), "PROJECTOR_MYSQL"),
        (f"[mysql]\nurl = '{SECRET}'".encode(), "PROJECTOR_MYSQL__URL: not a URL"),
    ],
)
def test_a_faulty_file_is_explained(tmp_path: Path, content: bytes, said: str) -> None:
    """A misspelled setting in a file is an error, not a silent default."""
    (tmp_path / "faulty.toml").write_bytes(content)
    assert said in complaint(tmp_path / "faulty.toml")


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Configuration and secrets alike."""
    assert "cannot read" in complaint(tmp_path / "none.toml")
    monkeypatch.setenv("PROJECTOR_SECRETS_DIR", str(tmp_path / "none"))
    assert "is not a folder" in complaint()


def test_a_secret_that_is_not_text_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A binary file in the folder gives a message, not a traceback."""
    folder = secrets(tmp_path / "s", monkeypatch)
    (folder / "PROJECTOR_MYSQL__URL").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in complaint()


def test_no_setting_lacks_a_description() -> None:
    """`description` is what the documentation shows."""
    for name, field in Settings.model_fields.items():
        section = getattr(field.annotation, "model_fields", None)
        for inner, setting in (section or {name: field}).items():
            nested = hasattr(setting.annotation, "model_fields")
            assert setting.description or nested, f"{name}.{inner}"


def test_the_projection_alone_comes_from_the_same_places(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`projector schema` needs no server, and sees what the other commands see."""
    config = tmp_path / "projector.toml"
    config.write_text('projection = "shop:file"')
    assert projection_setting(config) == load(config).projection == "shop:file"
    (tmp_path / ".env").write_text("PROJECTOR_PROJECTION=shop:dotenv\nPROJECTOR_X=1\n")
    assert projection_setting(config) == load(config).projection == "shop:dotenv"
    environment.setenv("PROJECTOR_PROJECTION", "shop:environment")
    assert projection_setting(config) == load(config).projection == "shop:environment"


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """PostgreSQL is the source."""
    monkeypatch.setenv(
        "PROJECTOR_SOURCE__URL", "postgresql+psycopg://u:a%2Fb@db/shop?sslmode=require"
    )
    return monkeypatch


def test_postgresql_is_a_source_of_its_own(postgres: pytest.MonkeyPatch) -> None:
    """Nothing of MySQL's is needed then; the driver's name is SQLAlchemy's, not libpq's."""
    settings = load()
    assert settings.is_postgres
    assert settings.database is settings.source
    assert settings.source.conninfo == "postgresql://u:a%2Fb@db/shop?sslmode=require"
    assert settings.source.read_conninfo == settings.source.conninfo
    assert settings.database.default_schema == "public"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MYSQL__URL", "mysql://u@db/shop", "set one of them only"),
        ("SOURCE__URL", f"mysql://u:{SECRET}@db/shop", "not a PostgreSQL URL"),
        ("SOURCE__URL", f"postgresql://u:{SECRET}@db", "names no database"),
        ("SOURCE__URL", f"//u:{SECRET}@db", "not a URL"),
        ("SOURCE__SLOT", "Mine", "a slot's name"),
    ],
)
def test_wrong_settings_of_postgresql_are_refused(
    postgres: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """With the remedy, and without the password."""
    postgres.setenv(f"PROJECTOR_{name}", value)
    assert said in complaint()
    assert SECRET not in complaint()
