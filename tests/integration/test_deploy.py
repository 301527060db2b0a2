"""What deploy/ ships, each file checked by the program that will read it."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

import projector.metrics
from projector.errors import ExitCode
from projector.settings import Settings
from tests import tools
from tests.native.core import has_compiler
from tests.tools import ensure_tools

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
UNIT = DEPLOY / "projector.service"
RUNBOOK = ROOT / "docs" / "runbook.md"


# Prometheus


def test_promtool_accepts_rules_and_configuration() -> None:
    """The alert rules and the scrape configuration are valid."""
    promtool = ensure_tools().promtool
    tools.run(promtool, "check", "rules", "--lint-fatal", RULES)
    tools.run(promtool, "check", "config", "--lint-fatal", DEPLOY / "prometheus" / "prometheus.yml")


def test_every_alert_fires_for_its_fault_and_none_when_all_is_well() -> None:
    """The rules' unit tests pass."""
    tools.run(ensure_tools().promtool, "test", "rules", RULES.with_name("rules_test.yaml"))


def test_every_alert_has_a_unit_test() -> None:
    """No alert is without a case in which it fires."""
    cases = RULES.with_name("rules_test.yaml").read_text()
    fired = set(re.findall(r'ALERTS\{alertname="(\w+)", alertstate="firing"', cases))
    for test in yaml.safe_load(cases)["tests"]:
        fired |= {a["alertname"] for a in test.get("alert_rule_test", []) if a["exp_alerts"]}
    assert fired == {alert["alert"] for alert in _alerts()}


def test_rules_and_dashboard_name_only_metrics_that_exist() -> None:
    """Every metric of an alert or a panel is in the daemon's registry."""
    exposed = _exposed_metrics()
    for place, expression in [*_rule_expressions(), *_dashboard_expressions()]:
        named = set(re.findall(r"\b(?:projector|process|python)_\w+", expression))
        assert named - exposed == set(), f"{place}: {expression}"


def test_the_dashboard_shows_every_metric_of_the_projector() -> None:
    """Nothing that is measured is left for people to find by themselves."""
    shown = " ".join(expression for _, expression in _dashboard_expressions())
    families = {
        name for name in _registered_families() if name != "projector_build_info"
    }  # it only names the version, and feeds the dashboard's job list
    assert {name for name in families if name not in shown} == set()


def test_the_dashboards_panels_are_whole_and_do_not_overlap() -> None:
    """Each panel has a title, a description, a query, and a place of its own."""
    panels = [p for p in _dashboard()["panels"] if p["type"] != "row"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in _dashboard()["panels"]}) == len(_dashboard()["panels"])


def test_promtool_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """The dashboard's expressions are PromQL."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression) in enumerate(_dashboard_expressions())
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    tools.run(ensure_tools().promtool, "check", "rules", file)


# systemd


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here in place of the installed one."""
    text = UNIT.read_text()
    assert "ExecStart=/opt/projector/bin/projector run\n" in text
    text = re.sub(r"(?m)^Documentation=.*\n", "", text)  # the page is installed with the program
    file = tmp_path / "projector.service"
    file.write_text(text.replace("/opt/projector/bin/projector", sys.executable))
    return file


def test_systemd_accepts_the_unit_without_a_warning(unit: Path) -> None:
    """Every directive is known and well-formed."""
    assert tools.run(ensure_tools().systemd_analyze, "verify", unit) == ""


def test_the_units_sandbox_leaves_little_exposed(unit: Path) -> None:
    """systemd's own score stays at 1.2 or less of 10."""
    systemd_analyze = ensure_tools().systemd_analyze
    options = ("security", "--offline=true", "--no-pager", "--threshold=12")
    tools.run(systemd_analyze, *options, unit)


def test_systemd_restarts_only_where_that_helps() -> None:
    """Usage errors and refusals wait for a person; bugs and signals restart."""
    lines = UNIT.read_text().splitlines()
    assert "Restart=on-failure" in lines
    assert f"RestartPreventExitStatus={ExitCode.USAGE:d} {ExitCode.REFUSED:d}" in lines


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root folder on which the manual's lines were run, with stand-ins for what is systemd's."""
    root, programs = tmp_path / "root", tmp_path / "programs"
    programs.mkdir()
    (root / "opt/projector/bin").mkdir(parents=True)
    text = (ROOT / "docs" / "deploying.md").read_text("utf-8").split("## systemd")[1]
    lines = re.findall(r"(?m)^\$ (.+)$", text.split("## Docker")[0])
    assert lines[0].endswith("pip install binlog-projector")  # by tests/acceptance/test_release.py
    header = re.findall(r"(?m)^#   (\w.*?)(?:    .*)?$", UNIT.read_text())
    assert header == lines
    _stand_in(
        programs / "systemctl", f'[ "$1" = cat ] && cat {root}/etc/systemd/system/"$2" || true'
    )
    _stand_in(programs / "systemd-run", _SYSTEMD_RUN)
    script = "\n".join(["set -e", f"PATH={programs}:$PATH", *lines[1:]])
    script = re.sub(r" /(etc|usr)/", rf" {root}/\1/", script)
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("projector.service", "projectorctl"):
        shutil.copy(DEPLOY / name, folder)
    for name in ("shop.py", "projector.toml"):
        shutil.copy(DEPLOY / "examples/kubernetes" / name, folder)
    subprocess.run(["sh", "-c", script], cwd=folder, check=True)
    for name in ("PROJECTOR_MYSQL__URL", "PROJECTOR_REDIS__URL"):
        (root / "etc/projector/secrets" / name).write_text(f"secret of {name}")
    unit = root / "etc/systemd/system/projector.service"
    unit.write_text(re.sub(r"(/opt/|/etc/projector)", rf"{root}\1", unit.read_text()))
    _stand_in(
        root / "opt/projector/bin/projector",
        'echo "$@"; env | grep ^PROJECTOR_ | sort; cat "$PROJECTOR_SECRETS_DIR"/*',
    )
    return root


# Hands credentials over as systemd does; refuses a property that a transient unit does not take.
_SYSTEMD_RUN = """
CREDENTIALS_DIRECTORY=$(mktemp -d); export CREDENTIALS_DIRECTORY
while [ "$1" != -- ]; do
  case $1 in
    --property=LoadCredential=*) c=${1#*=*=}; cp "${c#*:}" "$CREDENTIALS_DIRECTORY/${c%%:*}" ;;
    --property=Environment=*) export "${1#*=*=}" ;;
    --property=*%*) echo "not expanded: $1" >&2; exit 1 ;;
  esac
  shift
done
shift
exec "$@"
"""


def _stand_in(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/bash\n{script}\n")
    file.chmod(0o755)


def test_the_unit_installs_as_written_and_projectorctl_has_its_settings(machine: Path) -> None:
    """The manual's lines make the files; a command gets the unit's variables and secrets."""
    assert (machine / "etc/projector/shop.py").stat().st_mode & 0o777 == 0o644
    assert (machine / "etc/projector/secrets").stat().st_mode & 0o777 == 0o700
    control = machine / "usr/local/bin/projectorctl"
    programs = machine.parent / "programs"
    said = _must("env", f"PATH={programs}:/usr/bin:/bin", control, "verify", "--repair", "a b")
    lines = said.splitlines()
    assert lines[0] == "verify --repair a b"
    assert f"PROJECTOR_CONFIG={machine}/etc/projector/projector.toml" in lines
    assert "secret of PROJECTOR_MYSQL__URLsecret of PROJECTOR_REDIS__URL" in said
    assert not [line for line in lines if "SECRETS_DIR" in line and str(machine) in line]


# Docker


def test_hadolint_finds_no_fault_with_the_dockerfile() -> None:
    """The Dockerfile parses and keeps the linter's rules."""
    assert tools.run(ensure_tools().hadolint, DEPLOY / "Dockerfile") == ""


def test_the_image_is_made_only_of_files_that_exist_and_are_let_in() -> None:
    """What the Dockerfile copies from the context exists, and the ignore file lets it through."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copies = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", dockerfile)
    sources = [source for line in copies for source in line.split()]
    assert "projector" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_in


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_dockerfiles_steps_make_a_program_that_runs(tmp_path: Path) -> None:
    """The first stage's commands, run on nothing but what the context lets in, give a program
    that starts, and tables that Alembic finds."""
    context, target = tmp_path / "context", tmp_path / "opt"
    context.mkdir()
    for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source = ROOT / line[1:]
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, context / line[1:])
    first = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")[1].replace("\\\n", "")
    steps = [line[4:] for line in first.splitlines() if line.startswith("RUN ")]
    script = "\n".join(["set -e", f"cd {context}", *steps])
    script = re.sub(r"(?<!/)\bpython -", f"{sys.executable} -", script)
    script = script.replace("/opt/projector", str(target))
    _must("sh", "-c", script)
    assert _must(target / "bin" / "projector", "--version").startswith("projector ")
    if has_compiler():
        asked = "from projector import compiled; print(compiled.described())"
        assert _must(target / "bin" / "python", "-c", asked).strip() == "in use"
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["tables"]
    command = service["command"][0].replace("$$(cat /run/secrets/admin_url)", "").replace("$$", "$")
    variables = (
        f"PATH={target / 'bin'}:$PATH; export PYTHONPATH={context}"  # the image's has schema/
    )
    made = _must("sh", "-c", f"{variables}; {command} --sql")
    assert "CREATE TABLE tickets" in made


def test_the_image_runs_as_nobody_and_checks_its_own_health() -> None:
    """The last stage names a user by number, copies the program from the first, and asks /livez."""
    last = (DEPLOY / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    assert re.search(r"(?m)^USER 10001:10001$", last)
    assert "COPY --from=build" in last
    assert "/livez" in last


def test_docker_compose_accepts_the_file(tmp_path: Path) -> None:
    """Compose reads the file, and every file and secret that it mounts exists."""
    deploy = tmp_path / "deploy"
    shutil.copytree(DEPLOY, deploy, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    subprocess.run([deploy / "make-secrets"], check=True, capture_output=True)
    said = tools.run(
        ensure_tools().compose, "-f", deploy / "compose.yaml", "config", "--format", "json"
    )
    model = json.loads(said)
    mounted = [
        Path(volume["source"])
        for service in model["services"].values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    files = [*mounted, *(Path(secret["file"]) for secret in model["secrets"].values())]
    assert len(files) > 8
    assert [file for file in files if not file.exists()] == []


def test_compose_hardens_the_projector() -> None:
    """Read-only, without capabilities, not reachable from outside the machine."""
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["projector"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_secrets_are_made_once_each_random_and_never_committed(tmp_path: Path) -> None:
    """No example password is left, no second run overwrites, and git ignores the folder."""
    deploy = tmp_path / "deploy"
    shutil.copytree(DEPLOY, deploy, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    subprocess.run([deploy / "make-secrets"], check=True, capture_output=True)
    texts = [file.read_text() for file in (deploy / "secrets").iterdir()]
    assert not any("change-me" in text for text in texts)
    again = subprocess.run([deploy / "make-secrets"], check=False, capture_output=True)
    assert again.returncode == 1
    assert "secrets/" in (DEPLOY / ".gitignore").read_text().splitlines()


# Kubernetes


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kustomize base as kubectl renders it."""
    file = tmp_path_factory.mktemp("kubernetes") / "all.yaml"
    file.write_text(tools.run(ensure_tools().kubectl, "kustomize", DEPLOY / "kubernetes"))
    return file


def test_kubernetes_schemas_accept_every_manifest(manifests: Path) -> None:
    """Each resource is valid against its kind's strict schema, which allows no unknown field."""
    said = tools.run(ensure_tools().kubernetes_validate, "--strict", manifests)
    unknown = [line for line in said.splitlines() if not line.startswith("INFO")]
    ours = ("kind ServiceMonitor", "kind PrometheusRule")
    assert [line for line in unknown if not any(kind in line for kind in ours)] == []


def test_every_manifest_in_the_folder_is_part_of_the_base(manifests: Path) -> None:
    """kustomization.yaml lists every file, so none is forgotten."""
    folder = DEPLOY / "kubernetes"
    base = yaml.safe_load((folder / "kustomization.yaml").read_text())
    there = {file.name for file in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(base["resources"]) == there
    assert len(_resources(manifests)) == len(there) + len(base["configMapGenerator"])


def test_every_selector_means_the_projectors_pods_and_no_others(manifests: Path) -> None:
    """Service, budget, policy, monitor and spread select exactly the deployment's labels."""
    resources = _resources(manifests)
    labels = {"app.kubernetes.io/name": "projector"}
    pod = resources["Deployment"]["spec"]["template"]
    assert pod["metadata"]["labels"] == labels
    assert resources["Service"]["spec"]["selector"] == labels
    assert resources["Service"]["metadata"]["labels"] == labels
    for selector in (
        resources["Deployment"]["spec"]["selector"],
        resources["PodDisruptionBudget"]["spec"]["selector"],
        resources["NetworkPolicy"]["spec"]["podSelector"],
        resources["ServiceMonitor"]["spec"]["selector"],
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"],
    ):
        assert selector == {"matchLabels": labels}


def test_the_service_monitor_scrapes_a_port_that_the_service_has(manifests: Path) -> None:
    """Port names agree from monitor to service to container, and the path is the daemon's."""
    resources = _resources(manifests)
    (endpoint,) = resources["ServiceMonitor"]["spec"]["endpoints"]
    (port,) = resources["Service"]["spec"]["ports"]
    (container,) = resources["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert endpoint["port"] == port["name"]
    assert endpoint["path"] == "/metrics"
    assert port["targetPort"] in {each["name"] for each in container["ports"]}


def test_pods_meet_the_restricted_pod_security_standard(manifests: Path) -> None:
    """The fields that the standard `restricted` demands, and a read-only root beside."""
    pod = _resources(manifests)["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "secret", "emptyDir", "projected"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_two_replicas_and_a_disruption_leaves_one(manifests: Path) -> None:
    """One leads, one stands by, and draining a node never takes both."""
    resources = _resources(manifests)
    assert resources["Deployment"]["spec"]["replicas"] == 2
    assert resources["PodDisruptionBudget"]["spec"]["minAvailable"] == 1


def test_settings_of_the_deployments_exist() -> None:
    """Every PROJECTOR_ variable and TOML key that deploy/ names is a setting."""
    known = {*_setting_names(Settings), "PROJECTOR_CONFIG", "PROJECTOR_SECRETS_DIR"}
    files = ["Dockerfile", "compose.yaml", "projector.service", "make-secrets", "projectorctl"]
    files += ["kubernetes/deployment.yaml", "kubernetes/kustomization.yaml"]
    for name in files:
        named = set(re.findall(r"PROJECTOR_[A-Z_]*[A-Z]", (DEPLOY / name).read_text()))
        assert {n for n in named if not any(k.startswith(n) for k in known)} == set(), name
    for key in _toml_names(tomllib.loads((DEPLOY / "kubernetes/projector.toml").read_text())):
        assert key in known


# The runbook


def test_the_runbook_explains_every_alert() -> None:
    """Each alert's link leads to a heading of the runbook."""
    headings = set(re.findall(r"(?m)^#+ (\w+)$", RUNBOOK.read_text()))
    for alert in _alerts():
        file, anchor = alert["annotations"]["runbook_url"].split("#")
        assert file == "https://projector.example/runbook"
        assert anchor in {heading.lower() for heading in headings}
        severities = set(alert["labels"].values())
        assert severities <= {"critical", "warning", "info"}


def test_the_runbook_explains_every_exit_code() -> None:
    """Each exit code has a row of its own."""
    rows = set(re.findall(r"(?m)^\| `(\d+)` \|", RUNBOOK.read_text()))
    assert {str(code.value) for code in ExitCode} <= rows


def test_the_runbook_names_only_metrics_that_exist() -> None:
    """What the runbook tells to look at can be looked at."""
    named = set(re.findall(r"`(projector_\w+)(?:\{[^`]*)?`", RUNBOOK.read_text()))
    assert len(named) > 10
    assert named - _exposed_metrics() - _registered_families() == set()


def _must(*command: object) -> str:
    """What the command prints, away from the repository; the test fails with it if it fails."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _rule_expressions() -> list[tuple[str, str]]:
    return [(alert["alert"], alert["expr"]) for alert in _alerts()]


def _dashboard() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads((DEPLOY / "grafana" / "projector.json").read_text())
    return dashboard


def _dashboard_expressions() -> list[tuple[str, str]]:
    return [
        (panel["title"], target["expr"])
        for panel in _dashboard()["panels"]
        for target in panel.get("targets", [])
    ]


def _registered_families() -> set[str]:
    assert projector.metrics.lag
    return {
        family.name
        for family in prometheus_client.REGISTRY.collect()
        if family.name.startswith("projector_")
    }


def _exposed_metrics() -> set[str]:
    """Names of the series that /metrics has, also of families that have none yet."""
    suffixes = {
        "counter": ["_total"],
        "histogram": ["_bucket", "_sum", "_count"],
        "summary": ["_sum", "_count"],
    }
    return {
        f"{family.name}{suffix}"
        for family in prometheus_client.REGISTRY.collect()
        for suffix in suffixes.get(family.type, [""])
    }


def _resources(manifests: Path) -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(manifests.read_text())}


def _setting_names(model: Any, prefix: str = "PROJECTOR_") -> set[str]:
    names = set()
    for name, field in model.model_fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        path = f"{prefix}{name.upper()}"
        names |= _setting_names(field.annotation, f"{path}__") if nested else {path}
    return names


def _toml_names(table: dict[str, Any], prefix: str = "PROJECTOR_") -> set[str]:
    names = set()
    for name, value in table.items():
        path = f"{prefix}{name.upper()}"
        names |= _toml_names(value, f"{path}__") if isinstance(value, dict) else {path}
    return names
