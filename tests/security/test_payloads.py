"""Files that would run code if they were read carelessly: they are refused, and what they would leave is not there."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tasks.checkpoints import CheckpointError, read_checkpoint
from tasks.errors import ConfigError, DatasetError
from tasks.events.importers import read_ifl, read_neural_hawkes
from tasks.events.readers import read_npz
from tasks.npz import NpzError, read_arrays
from tasks.overrides import check_overrides
from tasks.rl.policies import NAMES, load_own
from tasks.rl.robots import ROBOTS
from tasks.saved import _weights
from tasks.suite import manifest
from tasks.suite.records import RecordError, read
from tasks.training import LAST, _readable_checkpoint

CONF = Path(__file__).resolve().parents[2] / "conf"


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """The file that a payload would make; it is looked for after each test."""
    path = tmp_path / "was here"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists(), "the payload works where it is let"
    path.unlink()
    yield path
    assert not path.exists()


def _npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return path


def test_object_arrays_are_never_unpickled(tmp_path, mark):
    bad = np.array([Payload(mark)], dtype=object)
    path = _npz(tmp_path / "a.npz", times=bad)
    with pytest.raises(NpzError, match="a pickle, which is not read"):
        read_arrays(path)
    with pytest.raises(DatasetError, match="a pickle, which is not read"):
        read_npz(path)
    everything = dict.fromkeys((*NAMES, "iterations", "shares", "algorithm"), bad)
    with pytest.raises(DatasetError, match="a pickle, which is not read"):
        load_own(_npz(tmp_path / "policy.npz", **everything), ROBOTS["hopper"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_published_pickles_call_nothing(tmp_path, mark, protocol):
    (tmp_path / "train.pkl").write_bytes(pickle.dumps({"train": [Payload(mark)]}, protocol=protocol))
    with pytest.raises(DatasetError, match="not on the allow-list"):
        read_neural_hawkes(tmp_path, 4, "years")
    with pytest.raises(DatasetError, match="not on the allow-list"):
        read_ifl(_npz(tmp_path / "ifl.npz", arrival_times=np.array([Payload(mark)], dtype=object)), 3, "days", None)


def _checkpoints(mark: Path) -> dict[str, bytes]:
    """Four ways to put a payload where a checkpoint is looked for."""
    whole, legacy, swapped = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": Payload(mark)}, whole)
    torch.save({"state_dict": Payload(mark)}, legacy, _use_new_zipfile_serialization=False)
    good = io.BytesIO()
    torch.save({"state_dict": {"w": torch.zeros(3)}}, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(swapped, "w") as target:
        for member in source.infolist():
            evil = member.filename.endswith("data.pkl")
            target.writestr(member.filename, pickle.dumps(Payload(mark), 2) if evil else source.read(member))
    contents = (whole.getvalue(), legacy.getvalue(), swapped.getvalue(), pickle.dumps(Payload(mark)))
    return dict(zip(("new", "legacy", "swapped", "pickle"), contents, strict=True))


@pytest.mark.parametrize("kind", ["new", "legacy", "swapped", "pickle"])
def test_a_checkpoint_runs_nothing(tmp_path, mark, kind, caplog):
    path = tmp_path / "checkpoints" / LAST
    path.parent.mkdir()
    path.write_bytes(_checkpoints(mark)[kind])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(path)
    path.with_name("best.ckpt").write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        _weights("run", tmp_path)
    assert _readable_checkpoint(path) is None  # a job sets it aside, says so, and begins anew
    assert "training starts anew" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch MARK']",
        "datasets: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['MARK']]",
        "a: !!python/object/new:subprocess.Popen [['touch', 'MARK']]",
        "a: !!python/name:os.system",
    ],
)
def test_yaml_tags_make_no_objects(tmp_path, mark, text, monkeypatch):
    path = tmp_path / "manifest.yaml"
    path.write_text(text.replace("MARK", str(mark)))
    with pytest.raises((ConfigError, DatasetError, ValueError, yaml.YAMLError)):
        manifest.read_manifest(path)
    from hydra import compose, initialize_config_dir

    (tmp_path / "train.yaml").write_text(path.read_text())
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path)), pytest.raises(Exception, match="python/"):
        compose("train")


@pytest.mark.parametrize(
    "override",
    [
        "_target_=os.system",
        "+model._target_=os.system",
        "++task.model={_target_:os.system,command:'touch MARK'}",
        "hydra.launcher._target_=os.system",
        "+hydra.callbacks.x={_target_:subprocess.run,args:[touch,MARK]}",
        "hydra.sweeper._target_=builtins.eval",
        "+task.x='!!python/object/apply:os.system [touch MARK]'",
        "+task.note=${oc.env:HOME}",
        "+task.url=https://user:pass-word@host.example/data",
    ],
)
def test_overrides_name_no_code_no_environment_and_no_password(mark, override):
    with pytest.raises(ConfigError) as caught:
        check_overrides([override.replace("MARK", str(mark)), "seed=0"], CONF)
    assert "pass-word" not in str(caught.value)


def test_a_record_is_text_only(tmp_path, mark):
    path = tmp_path / "run" / "record.json"
    path.parent.mkdir()
    for content in (pickle.dumps(Payload(mark)), json.dumps({"py/object": "os.system"}).encode(), b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(RecordError):
            read(path)
