"""Supply chain: exact versions of everything, none by URL, and an audit that never lies."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.audit import NONE, NOT_AUDITED, SOME, judge

ROOT = Path(__file__).parents[2]
PINS = [
    line
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_pin_is_one_exact_version_and_no_address() -> None:
    """`name==version` and nothing else: no URL, option, range, wildcard or second version."""
    loose = [pin for pin in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9]+(\.[0-9a-z]+)*", pin)]
    assert loose == []
    names = [_canonical(pin.partition("==")[0]) for pin in PINS]
    assert len(names) == len(set(names))


def test_every_declared_dependency_is_pinned() -> None:
    """What pyproject.toml asks for, extras included, has its exact version in constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = sum(project["optional-dependencies"].values(), project["dependencies"])
    wanted = {_canonical(re.split(r"[\[<>=!~; ]", each)[0]) for each in declared}
    assert wanted - {_canonical(pin.partition("==")[0]) for pin in PINS} == set()


SKIPPED = '{"name": "a", "skip_reason": "Dependency not found on PyPI"}'
CLEAN = '{"name": "b", "version": "1", "vulns": []}'
ILL = (
    '{"name": "c", "version": "2", "vulns":'
    ' [{"id": "PYSEC-1", "fix_versions": ["3"], "aliases": [], "description": ""}]}'
)


@pytest.mark.parametrize(
    ("output", "status", "words"),
    [
        (f'{{"dependencies": [{CLEAN}], "fixes": []}}', NONE, "no advisory for any of 1 pins"),
        (f'{{"dependencies": [{SKIPPED}, {ILL}]}}', SOME, "c 2: PYSEC-1, mended in: 3"),
        (f'{{"dependencies": [{SKIPPED}, {CLEAN}]}}', NOT_AUDITED, "1 of 2 pins are not known"),
        ('{"dependencies": []}', NOT_AUDITED, "0 of 0"),
        ("", NOT_AUDITED, "not reached: ConnectionError"),
    ],
)
def test_an_audit_that_did_not_take_place_is_no_clean_audit(
    output: str, status: int, words: str
) -> None:
    """Only an answer for every pin is good news; what pip-audit writes is in its own form."""
    given, report = judge(output, "Traceback\nConnectionError: no route\n")
    assert given == status
    assert words in report
