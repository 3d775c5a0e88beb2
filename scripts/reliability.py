"""Write results/reliability.md: what is promised, which tests and runs show it, and what these measured.

`python scripts/reliability.py` reads results/reliability/promises.yaml, and the `<part>.json` of the long runs there.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from faults_common import RELIABILITY, ROOT

from tasks.suite.atomic import write_atomic

PAGE = ROOT / "results" / "reliability.md"
INTRO = """\
# Reliability

What this suite promises when files are broken, machines fail and somebody means harm, how each promise is tested, and
what the long runs measured. `make test` runs the tests, `make faults` the long runs; this page is written by
`python scripts/reliability.py` from [reliability/](reliability/), and a test holds it to them.
"""


def page(folder: Path = RELIABILITY) -> str:
    """The whole page; a part that was never run is said to lack."""
    stated = yaml.safe_load((folder / "promises.yaml").read_text(encoding="utf-8"))
    parts = read_parts(folder)
    asked = {name for entry in (*stated["promises"], *stated["before"]) for name in entry.get("parts", [])}
    known = set(parts) | asked
    sections = [INTRO, _promises(stated["promises"], parts), _before(stated["before"], parts)]
    sections += [_points(stated["points"], parts), _runs(parts, sorted(known - set(parts)))]
    return "\n".join(sections)


def read_parts(folder: Path) -> dict[str, dict[str, Any]]:
    """What each long run left, by name, in order."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")))
    return {part["part"]: part for part in found}


def missing_tests(folder: Path = RELIABILITY) -> list[str]:
    """The test ids of promises.yaml that no test file defines."""
    stated = yaml.safe_load((folder / "promises.yaml").read_text(encoding="utf-8"))
    named = {
        test for part in ("promises", "before", "points") for entry in stated[part] for test in entry.get("tests", [])
    }
    defined: dict[str, set[str]] = {}
    for test in named:
        file = test.partition("::")[0]
        if file not in defined:
            path = ROOT / file
            tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
            defined[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return sorted(test for test in named if test.partition("::")[2] not in defined[test.partition("::")[0]])


def _promises(promises: Sequence[Mapping[str, Any]], parts: Mapping[str, Any]) -> str:
    lines = ["## What we promise\n"]
    for number, entry in enumerate(promises, 1):
        lines.append(f"{number}. **{entry['promise']}** {entry['how']}")
        lines += [f"   - measured: {_measured(name, parts)}" for name in entry.get("parts", [])]
        lines.append(f"   - tested by {_tests(entry['tests'])}")
    return "\n".join(lines) + "\n"


def _before(rows: Sequence[Mapping[str, Any]], parts: Mapping[str, Any]) -> str:
    lines = [
        "## Before and after\n",
        "Before: measured on the libraries as they come, in November 2026.\n",
        "| what | before | now | shown by |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        shown = ", ".join([*(_part(name, parts) for name in row.get("parts", [])), *map(_test, row.get("tests", []))])
        open_ = [name for name in row.get("parts", []) if name not in parts or not _held(parts[name])]
        now = f"not shown: {', '.join(open_)}" if open_ else row["now"]
        lines.append(f"| {row['what']} | {row['measured']} | {now} | {shown} |")
    return "\n".join(lines) + "\n"


def _points(points: Sequence[Mapping[str, Any]], parts: Mapping[str, Any]) -> str:
    ticked = sum(_ticked(point, parts) for point in points)
    lines = [
        f"## The {len(points)} points\n",
        f"{ticked} of {len(points)} are shown by the tests and runs beside them.\n",
    ]
    for number, point in enumerate(points, 1):
        mark = "x" if _ticked(point, parts) else " "
        reason = f" Not shown: {point['instead']}" if point.get("instead") else ""
        runs = "".join(f"; {_part(name, parts)}" for name in point.get("parts", []))
        lines.append(f"- [{mark}] {number}. {point['point']}.{reason} {_tests(point.get('tests', []))}{runs}")
    return "\n".join(lines) + "\n"


def _ticked(point: Mapping[str, Any], parts: Mapping[str, Any]) -> bool:
    """Shown: by a test at least, by every run that is named, and by nothing that failed."""
    held = all(_held(parts[name]) for name in point.get("parts", []) if name in parts)
    ran = all(name in parts for name in point.get("parts", []))
    return bool(point.get("tests")) and held and ran and not point.get("instead")


def _held(part: Mapping[str, Any]) -> bool:
    return part["finished"] is not None and 0 < part["trials"] == part["passed"]


def _measured(name: str, parts: Mapping[str, Any]) -> str:
    if name not in parts:
        return f"not yet: `{name}` has not been run"
    part = parts[name]
    return f"{_part(name, parts)}: {part['passed']} of {part['trials']} trials held"


def _part(name: str, parts: Mapping[str, Any]) -> str:
    return f"[{name}](reliability/{name}.json)" if name in parts else f"{name} (not yet run)"


def _tests(tests: Sequence[str]) -> str:
    return ", ".join(map(_test, tests))


def _test(test: str) -> str:
    file, _, name = test.partition("::")
    return f"[{name}](../{file})"


def _runs(parts: Mapping[str, Mapping[str, Any]], missing: Sequence[str]) -> str:
    lines = ["## The long runs\n"]
    for name, part in parts.items():
        state = "held" if _held(part) else ("not finished" if part["finished"] is None else "BROKEN")
        lines += [f"### {name}: {state}\n", f"{part['promise']}.\n"]
        lines.append(f"`{part['command']}`, {part['started']} to {part['finished'] or '?'}, commit `{_commit(part)}`,")
        hardware = part["hardware"]
        lines.append(
            f"{hardware['cpu']} ({hardware['cores']} cores), {part['trials']} trials, {part['passed']} held.\n"
        )
        lines += [*_figures(part["figures"]), *_table(part, name)]
    lines += [f"### {name}: not yet run\n" for name in missing]
    return "\n".join(lines)


def _commit(part: Mapping[str, Any]) -> str:
    return str(part["commit"])[:12] + (" and changes" if part.get("dirty") else "")


def _figures(figures: Mapping[str, Any]) -> list[str]:
    lines = [f"- {name.replace('_', ' ')}: {_number(value)}" for name, value in figures.items()]
    return [*lines, ""] if lines else []


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key.replace('_', ' ')} {_number(item)}" for key, item in value.items())
    return ", ".join(map(_number, value)) if isinstance(value, list) else str(value)


def _table(part: Mapping[str, Any], name: str) -> list[str]:
    """The rows of a part with few trials; others are one click away."""
    path = RELIABILITY / f"{name}.csv"
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    if name != "fuzz" or len(rows) > 20:
        return [f"Each trial: [{name}.csv](reliability/{name}.csv)\n"] if rows else []
    lines = ["| " + " | ".join(cell.replace("_", " ") for cell in rows[0]) + " |", "| --- " * len(rows[0]) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    return [*lines, "", FUZZ]


FUZZ = """\
`refused`: the documented error. `true`: read, and equal to the content or to what a slow reader makes of the bytes.
`untold`: read, with headers altered in a way that the format gives no means to tell (a parquet footer, an HDF5 file of
the old kind, a compressed page without a checksum): what the hash before the parser is for, and behind it (`hashed`)
none is read. `growth mib`: the most that the resident set grew by within 50 files of a few KiB each. The run may be
made in several sittings (a reader's cases count for the code that read them); the times above are those of the last.
"""


def main() -> int:
    """Write the page; the exit code is 1 where a test it names does not exist."""
    absent = missing_tests()
    if absent:
        print("promises.yaml names tests that do not exist:", *absent, sep="\n  ", file=sys.stderr)
        return 1
    write_atomic(PAGE, page().encode())
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
