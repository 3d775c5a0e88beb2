"""The suite works where torch cannot be imported: everything people look at is rebuilt there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.suite.records import write

ROOT = Path(__file__).resolve().parents[3]
BLOCK = """import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning", "numba"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def _python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_every_module_imports():
    names = sorted(f"tasks.suite.{path.stem}" for path in (ROOT / "tasks" / "suite").glob("*.py"))
    found = _python("import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)", *names)
    assert found.returncode == 0, found.stderr
    assert len(names) > 10


def test_tables_rebuild_byte_for_byte(varied_records, tmp_path):
    for record in varied_records:
        write(record, tmp_path / "runs")
    code = "import runpy; sys.argv[0] = 'scripts/tables.py'; runpy.run_path('scripts/tables.py', run_name='__main__')"
    gathered = tmp_path / "gathered"
    outputs = []
    for name, arguments in (
        ("first", ("--runs", tmp_path / "runs", "--gather", gathered)),
        ("again", ("--runs", tmp_path / "runs")),
        ("elsewhere", ("--records", gathered)),
    ):
        no_data = {"AAREN_DATA": str(tmp_path / "nothing")} if name == "elsewhere" else {}
        found = _python(
            code, *arguments, "--out", tmp_path / name, "--no-show", **no_data, PYTHONHASHSEED=str(len(outputs))
        )
        assert found.returncode == 0, found.stderr
        files = sorted(path for path in (tmp_path / name).rglob("*.*"))
        outputs.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert outputs[0] == outputs[1] == outputs[2]
    assert len(outputs[0]) == 4 * 9
    assert {path.split("/")[0] for path in outputs[0]} == {"quick-honest"}


@pytest.mark.timeout(60)
def test_help_is_quick_and_needs_no_pandas():
    start = time.monotonic()
    code = "sys.modules['pandas'] = None\nimport runpy; sys.argv = ['scripts/tables.py', '--help']\n"
    found = _python(code + "runpy.run_path('scripts/tables.py', run_name='__main__')")
    assert found.returncode == 0, found.stderr
    assert "--gather" in found.stdout
    assert time.monotonic() - start < 10  # alone it takes 0.3 s; the machine may be busy


def test_an_unusable_record_sets_the_exit_code_and_is_named(make_record, tmp_path):
    write(make_record(), tmp_path)
    damaged = write(make_record(seed=1), tmp_path)
    damaged.write_text("{")
    code = "import runpy; sys.argv[0] = 'scripts/tables.py'; runpy.run_path('scripts/tables.py', run_name='__main__')"
    found = _python(code, "--runs", tmp_path, "--no-show")
    assert found.returncode == 1
    assert str(damaged) in found.stderr
    page = (tmp_path / "tables" / "quick-honest" / "table3_forecasting.md").read_text()
    assert f"Left out, unusable: {damaged.parent.name}/record.json" in page.replace("\\", "")
    assert str(tmp_path) not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--records", "absent"), "records.csv"),
        (("--records", "a", "--runs", "b"), "goes with neither"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    code = "import runpy; sys.argv[0] = 'scripts/tables.py'; runpy.run_path('scripts/tables.py', run_name='__main__')"
    found = _python(code, *arguments, "--out", tmp_path / "tables")
    assert found.returncode == 2
    assert message in found.stderr
