"""`projector settings`: values and where they come from, never a secret; a file to begin with."""

import json
import os
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from projector import variables
from projector.cli import app
from projector.commands import configured
from projector.settings import Settings, load, unknown_variables

SECRET = "geheim-4711"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No settings of the machine, and a working folder of its own."""
    for name in [name for name in os.environ if name.startswith("PROJECTOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def _reported(*options: str) -> dict[str, dict[str, object]]:
    done = CliRunner().invoke(app, ["settings", "--json", *options])
    assert SECRET not in done.output
    return {each["name"]: each for each in json.loads(done.stdout)}


def test_each_setting_names_who_has_set_it(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Environment, secrets folder, .env, TOML file, default: the one that wins is told."""
    environment.setenv("PROJECTOR_HTTP__PORT", "9200")
    (tmp_path / ".env").write_text("PROJECTOR_HTTP__PORT=1\nPROJECTOR_HTTP__HOST=::1\n")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "PROJECTOR_MYSQL__URL").write_text(f"mysql://u:{SECRET}@db/shop")
    environment.setenv("PROJECTOR_SECRETS_DIR", str(secrets))
    file = tmp_path / "projector.toml"
    file.write_text("batch_max_documents = 7\n[http]\nhost = 'x'\nready_max_lag_s = 9\n")
    told = _reported("--config", str(file))
    expected = {
        "PROJECTOR_HTTP__PORT": ("9200", "environment"),
        "PROJECTOR_HTTP__HOST": ("::1", ".env"),
        "PROJECTOR_HTTP__READY_MAX_LAG_S": (9, str(file)),
        "PROJECTOR_BATCH_MAX_DOCUMENTS": (7, str(file)),
        "PROJECTOR_MYSQL__URL": ("mysql://u:***@db/shop", f"secret in {secrets}"),
        "PROJECTOR_FANOUT_MAX_DOCUMENTS": (2000, "default"),
    }
    found = {name: (told[name]["value"], told[name]["source"]) for name in expected}
    assert found == expected
    assert set(told) == {variables.variable(path) for path in variables.paths(Settings)}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"mysql+pymysql://u:{SECRET}@db:3307/x", "mysql+pymysql://u:***@db:3307/x"),
        (f"mysql://u@db/x?passwd={SECRET}", "mysql://u@db/x?***"),
        (f"redis://:{SECRET}@h1:1,h2:2/1", "redis://:***@h1:1,h2:2/1"),
        (f"redis://u:{SECRET}@{SECRET}@h/1", "redis://u:***@h/1"),
        (f"redis://{SECRET}@h/1", "redis://***@h/1"),
        (f"redis://h/1#{SECRET}", "redis://***"),
        (f"redis://:a#{SECRET}@h/1", "redis://:***@h/1"),
        ("redis://localhost:6379/1", "redis://localhost:6379/1"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?***"),
        (SECRET, "***"),
        (None, None),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str | None, shown: str | None) -> None:
    """Also one that is no URL at all."""
    assert configured.masked(url) == shown


def test_wrong_settings_are_shown_and_then_complained_of(environment: pytest.MonkeyPatch) -> None:
    """Whoever looks for a mistake sees everything first; exit 2, without a value of a secret."""
    environment.setenv("PROJECTOR_REDIS__URL", f"nonsense://{SECRET}@h")
    done = CliRunner().invoke(app, ["settings"])
    assert done.exit_code == 2
    assert "PROJECTOR_REDIS__URL" in done.stdout
    assert "not a Redis URL" in done.stderr
    assert SECRET not in done.output


def test_the_sample_holds_every_setting_and_changes_nothing(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As printed it sets nothing; each line, its # taken off, is a value that is taken."""
    environment.setenv("PROJECTOR_MYSQL__URL", "mysql://u@db/shop")
    text = CliRunner().invoke(app, ["settings", "--sample"]).stdout
    assert not any(tomllib.loads(text)["mysql"].values())
    file = tmp_path / "projector.toml"
    file.write_text(text)
    assert load(file) == load()
    names = set()
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        key, equals, _ = line.removeprefix("# ").partition(" = ")
        if equals:
            names.add(f"{section}{key}")
            pair = _beside_its_partner(text, line)
            if (section, key) == ("source.", "url"):  # one of the two
                environment.delenv("PROJECTOR_MYSQL__URL")
            file.write_text(f"[{section.strip('.')}]\n{pair}\n" if section else pair)
            load(file)
            environment.setenv("PROJECTOR_MYSQL__URL", "mysql://u@db/shop")
    assert names == {".".join(path) for path in variables.paths(Settings)}


def _beside_its_partner(text: str, line: str) -> str:
    """A client's certificate and key are taken together only, and Redis' want TLS."""
    found = line.removeprefix("# ")
    if found.startswith(("cert", "key")):
        found = 'cert = "c.pem"\nkey = "k.pem"'
    if "redis-" in line:
        found += '\nurl = "rediss://h"'
    return found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PROJECTOR_REDIS_URL", "PROJECTOR_REDIS__URL"),
        ("PROJECTOR_MYSQL_URL", "PROJECTOR_MYSQL__URL"),
        ("projector_projektion", "PROJECTOR_PROJECTION"),
        ("PROJECTOR_BATCH_MAX_DOCUMENT", "PROJECTOR_BATCH_MAX_DOCUMENTS"),
        ("PROJECTOR_WHATEVER", None),
    ],
)
def test_a_variable_that_sets_nothing_is_told_with_the_nearest_name(
    environment: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    """The single underscore is the mistake of all mistakes: it would write to another Redis."""
    environment.setenv(name, "x")
    assert unknown_variables() == {name: meant}
    done = CliRunner().invoke(app, ["settings"])
    assert f"{name} is no setting" in done.stderr
    assert meant is None or f"did you mean {meant}?" in done.stderr


def test_names_of_others_are_left_alone(environment: pytest.MonkeyPatch) -> None:
    """Kubernetes announces a Service called projector; sections may be given as JSON."""
    linked = ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_9108_TCP_ADDR")
    for name in map("PROJECTOR_{}".format, (*linked, "CONFIG", "TEST_MYSQL", "HTTP")):
        environment.setenv(name, "")
    assert unknown_variables() == {}


def test_a_mistyped_name_in_a_section_is_refused_with_the_nearest(
    environment: pytest.MonkeyPatch,
) -> None:
    """As before with exit 2, now with what is meant."""
    environment.setenv("PROJECTOR_MYSQL__URL", "mysql://u@db/shop")
    environment.setenv("PROJECTOR_HTTP__PROT", "1")
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 2
    assert (
        "PROJECTOR_HTTP__PROT: no such setting; did you mean PROJECTOR_HTTP__PORT?" in done.stderr
    )


def test_completion_can_be_had() -> None:
    """A script for bash that knows the commands."""
    done = CliRunner().invoke(
        app, [], prog_name="projector", env={"_PROJECTOR_COMPLETE": "source_bash"}
    )
    assert "_projector_completion" in done.stdout


def test_only_postgres_is_set_up(environment: pytest.MonkeyPatch) -> None:
    """For the others there are files with the grants."""
    environment.setenv("PROJECTOR_MYSQL__URL", "mysql://u@db/shop")
    ended = CliRunner().invoke(app, ["setup"])
    assert (ended.exit_code, "deploy/grants-mysql.sql" in ended.stderr) == (3, True)
