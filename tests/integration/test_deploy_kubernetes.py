"""The Helm chart and the overlay, rendered by Helm and kubectl, checked against the schemas."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from projector.mysql.dialect import MYSQL
from projector.projection import load_projections
from projector.settings import Settings
from tests import tools
from tests.tools import ToolUnavailable, ensure_tools

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "projector"
OVERLAY = DEPLOY / "examples" / "kubernetes"
RULES = DEPLOY / "prometheus" / "rules.yaml"

SHOP = OVERLAY.joinpath("shop.py").read_text("utf-8")
LEAST: dict[str, Any] = {
    "projection": {"files": {"shop.py": SHOP}, "attributes": "shop.py:documents"}
}
MOST: dict[str, Any] = {
    "image": {"repository": "r/p", "digest": "sha256:" + "a" * 64, "pullSecrets": ["pull"]},
    "replicas": 3,
    "settings": {"batch_max_documents": 1000, "log": {"level": "debug"},
                 "redis": {"timeout_s": 2.5}},
    "projection": {"files": {"shop.py": SHOP + "\n# {{ kept }}\n"},
                   "attributes": "shop.py:documents"},
    "secret": {"values": {"PROJECTOR_MYSQL__URL": "mysql://u:p@db/shop"}},
    "tls": {"secret": "certs", "mysql": {"ca": "ca.pem"}, "redis": {"cert": "c", "key": "k"}},
    "env": [{"name": "MASK_KEY", "valueFrom": {"secretKeyRef": {"name": "masks", "key": "key"}}}],
    "envFrom": [{"configMapRef": {"name": "more"}}],
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "podLabels": {"team": "shop"},
    "podAnnotations": {"a": "b"},
    "networkPolicy": {
        "mysql": {"ports": [3307], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        "sentinel": {"ports": [26379]},
        "extraEgress": [{"ports": [{"protocol": "TCP", "port": 443}]}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "runbookBase": "https://wiki.internal/projector"},
}  # fmt: skip


def _render(values: dict[str, Any], tmp_path: Path, release: str = "projector") -> Path:
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    file = tmp_path / "rendered.yaml"
    options = ("--values", tmp_path / "values.yaml", "--namespace", "shop")
    file.write_text(tools.run(ensure_tools().helm, "template", release, CHART, *options))
    return file


def _by_kind(file: Path) -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(file.read_text()) if each}


@pytest.mark.parametrize("values", [LEAST, MOST], ids=["least", "most"])
@pytest.mark.parametrize("release", ["projector", "shop"])
def test_the_chart_renders_what_kubernetes_takes(
    values: dict[str, Any], release: str, tmp_path: Path
) -> None:
    """Strict schemas of Kubernetes and of the Prometheus Operator; Helm's own linter."""
    file = _render(values, tmp_path, release)
    said = tools.run(ensure_tools().kubernetes_validate, "--strict", file)
    unknown = [line for line in said.splitlines() if not line.startswith("INFO")]
    ours = ("kind ServiceMonitor", "kind PrometheusRule")
    assert [line for line in unknown if not any(kind in line for kind in ours)] == []
    checked = tools.run(ensure_tools().operator_validate, file).split()
    assert sorted(checked) == (["PrometheusRule", "ServiceMonitor"] if values is MOST else [])
    tools.run(ensure_tools().helm, "lint", "--strict", CHART, "--values", tmp_path / "values.yaml")


def test_the_chart_and_the_base_run_the_same_pod(tmp_path: Path) -> None:
    """Probes, sandbox, mounts: what one has the other has."""
    chart = _by_kind(_render(LEAST, tmp_path))["Deployment"]["spec"]
    base = yaml.safe_load((DEPLOY / "kubernetes/deployment.yaml").read_text())["spec"]
    pod, plain = chart["template"]["spec"], base["template"]["spec"]
    pod["containers"][0]["image"] = plain["containers"][0]["image"]
    pod["topologySpreadConstraints"] = plain["topologySpreadConstraints"]
    assert pod == plain
    assert {k: chart[k] for k in ("replicas", "strategy")} == {
        k: base[k] for k in ("replicas", "strategy")
    }


def test_the_charts_settings_are_settings(tmp_path: Path) -> None:
    """The TOML that it writes loads, with TLS and projection; the files are beside it."""
    data = _by_kind(_render(MOST, tmp_path))["ConfigMap"]["data"]
    found = tomllib.loads(data.pop("projector.toml"))
    found["mysql"]["url"] = "mysql://u@db/shop"
    found["redis"]["url"] = "rediss://h/1"
    settings = Settings(**found)
    assert settings.batch_max_documents == 1000
    assert settings.log.level == "debug"
    assert settings.redis.timeout_s == 2.5
    assert str(settings.mysql.tls.ca) == "/etc/projector-tls/ca.pem"
    assert str(settings.redis.key) == "/etc/projector-tls/k"
    assert settings.projection == "shop.py:documents"
    assert data == {"shop.py": SHOP + "\n# {{ kept }}\n"}


def test_odd_ports_and_sentinels_are_let_through_by_value(tmp_path: Path) -> None:
    """And nothing else than what the values name."""
    egress = _by_kind(_render(MOST, tmp_path))["NetworkPolicy"]["spec"]["egress"]
    ports = [port["port"] for rule in egress for port in rule["ports"]]
    assert ports == [53, 53, 3307, 6379, 26379, 443]
    assert egress[1]["to"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]


def test_the_charts_alerts_are_the_shipped_ones(tmp_path: Path) -> None:
    """The chart has a copy (cp deploy/prometheus/rules.yaml deploy/helm/projector/files/),
    and the runbook's place is the one given."""
    assert (CHART / "files" / "rules.yaml").read_text() == RULES.read_text()
    rule = _by_kind(_render(MOST, tmp_path))["PrometheusRule"]
    shipped = RULES.read_text().replace(
        "https://projector.example/runbook", "https://wiki.internal/projector"
    )
    assert rule["spec"]["groups"] == yaml.safe_load(shipped)["groups"]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    tools.run(ensure_tools().promtool, "check", "rules", "--lint-fatal", file)


def test_the_bases_alerts_are_the_shipped_ones() -> None:
    """For the Prometheus Operator, as the base's ServiceMonitor is."""
    file = DEPLOY / "kubernetes" / "prometheusrule.yaml"
    rule = yaml.safe_load(file.read_text())
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    assert tools.run(ensure_tools().operator_validate, file).split() == ["PrometheusRule"]
    rendered = tools.run(ensure_tools().kubectl, "kustomize", DEPLOY / "kubernetes")
    assert "kind: PrometheusRule" in rendered


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "projection.files or projection.name"),
        ({"projection": {"files": {"shop.py": "x"}}}, "projection.attributes"),
        ({"projection": {"name": "a:b", "files": {"shop.py": "x"}}}, "give one of them"),
        ({**LEAST, "replica": 2}, "replica"),
        ({**LEAST, "tls": {"mysql": {"ca": "x"}}}, "tls.secret"),
        ({**LEAST, "secret": {"existing": ""}}, "secret.existing"),
    ],
)
def test_wrong_values_are_refused_with_their_name(
    values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """A misspelled value is not passed over."""
    helm = ensure_tools().helm
    if isinstance(helm, ToolUnavailable):
        tools.missing(helm)
    with pytest.raises(AssertionError, match=said):
        _render(values, tmp_path)


def test_the_charts_version_is_the_newest_release() -> None:
    """appVersion is the image's tag."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    changes = (DEPLOY.parent / "CHANGELOG.md").read_text("utf-8")
    assert f"\n## {chart['appVersion']}\n" in changes
    assert chart["version"] == chart["appVersion"]


def test_the_overlay_adds_a_projection_to_the_base(tmp_path: Path) -> None:
    """kubectl renders it: the file beside the settings, one ConfigMap that rolls the pods."""
    file = tmp_path / "all.yaml"
    options = ("--load-restrictor", "LoadRestrictionsNone")
    file.write_text(tools.run(ensure_tools().kubectl, "kustomize", *options, OVERLAY))
    resources = _by_kind(file)
    config = resources["ConfigMap"]
    assert set(config["data"]) == {"projector.toml", "shop.py"}
    volumes = resources["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["configMap"]["name"] == config["metadata"]["name"]
    ports = [
        p["port"] for rule in resources["NetworkPolicy"]["spec"]["egress"] for p in rule["ports"]
    ]
    assert ports[-2:] == [3307, 26379]
    assert resources["Deployment"]["metadata"]["namespace"] == "shop"
    tools.run(ensure_tools().kubernetes_validate, "--strict", file)


def test_the_examples_projection_is_one() -> None:
    """It loads by its path, as the overlay and the image name it."""
    [plan] = load_projections(f"{OVERLAY / 'shop.py'}:documents", MYSQL)
    assert plan.field_names == ["id", "total", "customer", "lines"]


def test_hadolint_finds_no_fault_with_the_examples_image() -> None:
    """The recipe with FROM and COPY."""
    assert tools.run(ensure_tools().hadolint, DEPLOY / "examples/image/Dockerfile") == ""
