"""Write constraints.txt: the exact versions that all extras resolve to together.  `make lock` runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = "torch==2.13.0"
TRITON = "triton==3.7.1"  # what the CUDA builds of this torch ask for by its exact version
HEADER = """\
# Exact versions of everything any extra installs (Python 3.11, Linux). Ranges live in pyproject.toml.
# `make lock` rewrites this file; `make lock-check` checks that every extra still resolves with it.
"""


def main(extras: str, pip_arguments: list[str]) -> None:
    """Resolve without installing, and keep name and version of every distribution."""
    with tempfile.TemporaryDirectory() as folder:
        report, pins = Path(folder) / "report.json", Path(folder) / "torch.txt"
        pins.write_text(f"{TORCH}\n{TRITON}\n")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "-c", str(pins), *pip_arguments, f"{ROOT}[{extras}]"]
        subprocess.run(command, check=True)
        installed = json.loads(report.read_text())["install"]
    versions = {}
    for item in installed:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        versions[name] = item["metadata"]["version"].partition("+")[0]  # a local build tag is not for everyone
    versions.pop("aaren")
    (ROOT / "constraints.txt").write_text(HEADER + "".join(f"{n}=={v}\n" for n, v in sorted(versions.items())))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
