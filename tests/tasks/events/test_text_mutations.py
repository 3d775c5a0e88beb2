"""Text layouts with what stands in place of data, marks, line ends and missing last ends; damage is `test_fuzz`'s."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import DatasetError

ROOT = Path(__file__).resolve().parents[3]
LAYOUTS = ("jodie", "foil", "medallions", "zones")


@pytest.fixture
def slow(monkeypatch):
    """The layouts' small files and slow readers."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import fuzz_events

    return fuzz_events


def _harmless(whole: bytes) -> tuple[bytes, ...]:
    return (whole, b"\xef\xbb\xbf" + whole, whole.replace(b"\n", b"\r\n"), whole[:-1])


@pytest.mark.parametrize("name", LAYOUTS)
def test_csv_reads_as_the_slow_reader_does_and_what_is_no_csv_is_refused(slow, tmp_path, foreign, name):
    assert tuple(slow.LAYOUTS) == LAYOUTS
    layout, path = slow.LAYOUTS[name], tmp_path / "events.csv"
    for content in _harmless(layout.whole):
        path.write_bytes(content)
        assert slow.agrees(layout.read(path), lambda: layout.slow(layout.whole))
    for content in foreign(layout.whole).values():
        path.write_bytes(content)
        with pytest.raises(DatasetError):
            layout.read(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        layout.read(tmp_path / "gone.csv")


def test_rmtpp_text_reads_as_the_slow_reader_does_and_what_is_none_is_refused(slow, tmp_path, foreign):
    for name, content in slow.RMTPP.items():
        (tmp_path / name).write_bytes(content)
    for altered in ("time-1-train.txt", "event-1-test.txt"):
        path, whole = tmp_path / altered, slow.RMTPP[altered]
        for content in _harmless(whole):
            path.write_bytes(content)
            assert slow.agrees(slow.read_rmtpp(tmp_path), lambda: slow.slow_rmtpp(slow.RMTPP))
        for content in foreign(whole).values():
            path.write_bytes(content)
            with pytest.raises(DatasetError):
                slow.read_rmtpp(tmp_path)
        path.write_bytes(whole)
    (tmp_path / "time-1-test.txt").unlink()
    with pytest.raises(DatasetError, match=r"time-1-test\.txt"):
        slow.read_rmtpp(tmp_path)
