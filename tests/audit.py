"""Are there security advisories for the versions in constraints.txt? `make audit` asks pip-audit.

Exit status: 0 none, for every pin asked about; 1 some; 69 (EX_UNAVAILABLE of sysexits.h) when the
advisory service was not reached or does not know the packages, so that nothing can be said.
pip-audit itself ends with 0 and "no known vulnerabilities" where an index answers 404 to every
question, as a mirror without the advisories does.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

NONE, SOME, NOT_AUDITED = 0, 1, 69
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"


def main() -> int:
    """Ask about every pin; needs pip-audit beside this interpreter."""
    answer = subprocess.run(
        [
            sys.executable, "-m", "pip_audit", "--requirement", CONSTRAINTS, "--no-deps",
            "--disable-pip", "--format", "json", "--progress-spinner", "off", *sys.argv[1:],
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    status, report = judge(answer.stdout, answer.stderr)
    print(report)
    return status


def judge(output: str, errors: str) -> tuple[int, str]:
    """Return the exit status and what to tell, from what pip-audit wrote."""
    try:
        pins: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except ValueError:
        reason = errors.strip().splitlines()[-1:] or ["pip-audit said nothing"]
        return NOT_AUDITED, f"NOT AUDITED: the advisory service was not reached: {reason[0]}"
    found = [_told(pin, advisory) for pin in pins for advisory in pin.get("vulns", ())]
    skipped = [pin["name"] for pin in pins if "skip_reason" in pin]
    if found:
        return SOME, "\n".join(found)
    if skipped or not pins:
        return NOT_AUDITED, (
            f"NOT AUDITED: {len(skipped)} of {len(pins)} pins are not known to the advisory"
            f" service (is the package index a mirror?): {', '.join(skipped[:5])} …"
        )
    return NONE, f"no advisory for any of {len(pins)} pins"


def _told(pin: dict[str, Any], advisory: dict[str, Any]) -> str:
    mended = ", ".join(advisory["fix_versions"]) or "none yet"
    return f"{pin['name']} {pin['version']}: {advisory['id']}, mended in: {mended}"


if __name__ == "__main__":
    sys.exit(main())
