"""Download: mirrors, retries, resume and hash, so that a file is either whole in its place or not there.

pooch checks the hash and puts the file in place; what it lacks, going on where a broken transfer stopped, is the
downloader here. A partial transfer waits in `<name>.<mirror>.part` beside the target.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pooch
import requests

from tasks.errors import DatasetError
from tasks.files import foreign_kind
from tasks.locate import cache_root

ATTEMPTS = 3
WAIT_S = 1.0  # before the second attempt; twice that before the third
MAX_BYTES = 4 * 1024**3  # for a file whose size is not known beforehand: more is no data set of ours
TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces
Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where the server says

log = logging.getLogger(__name__)
# pooch.retrieve tells where it puts a file; we say it ourselves
pooch.get_logger().setLevel("WARNING")


class ResumingDownloader:
    """A downloader for pooch that keeps what has arrived and asks the server for the rest.

    `size` is the expected size, or None; `zipped` is true where a data file is allowed to begin like a zip.
    """

    def __init__(self, part: Path, size: int | None, zipped: bool, progress: Progress | None) -> None:
        self.part, self.size, self.zipped, self.progress = part, size, zipped, progress

    def __call__(  # pooch's own parameter names; it passes paths here, never streams
        self, url: str, output_file: Any, pooch: object, check_only: bool | None = False
    ) -> None:
        """Fill `output_file` from `url`. Raises requests' errors, or ValueError for content that cannot be right."""
        unpack = url.endswith(".gz")
        self._transfer(url, None if unpack else self.size)
        if unpack:
            self._gunzip()
        kind = foreign_kind(self.part)
        if kind and not (self.zipped and kind.startswith("a zip")):
            self.part.unlink()
            raise ValueError(f"the server sent {kind}")
        size = self.part.stat().st_size
        if self.size is not None and size != self.size and not self.zipped:
            self.part.unlink()
            raise ValueError(f"the server sent {size} bytes, not {self.size}")
        os.replace(self.part, output_file)

    def _transfer(self, url: str, size: int | None) -> None:
        have = self.part.stat().st_size if self.part.exists() else 0
        limit = MAX_BYTES if size is None or self.zipped else size
        # identity: a compressed transfer could not be resumed by byte position
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if response.status_code == 416:  # nothing after `have`: the whole file, or more than there is
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return
                self.part.unlink()
                raise requests.ConnectionError("the partial file is longer than the server's; starting over")
            response.raise_for_status()
            resumed = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(
                f"bytes {have}-"
            )
            done = have if resumed else 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length and length.isdigit() else size
            with self.part.open("ab" if resumed else "wb") as stream:
                for piece in response.iter_content(1 << 16):
                    stream.write(piece)
                    done += len(piece)
                    if done > limit:
                        self.part.unlink()
                        raise ValueError(f"the server sends more than the {limit} bytes expected")
                    if self.progress:
                        self.progress(done, total)
                stream.flush()
                os.fsync(stream.fileno())
            if total is not None and done < total:
                raise requests.ConnectionError(f"the transfer stopped at {done} of {total} bytes")

    def _gunzip(self) -> None:
        limit = self.size or MAX_BYTES
        try:
            with gzip.open(self.part) as packed:
                content = packed.read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            self.part.unlink()
            raise ValueError(f"the server sent no whole gzip file ({error})") from error
        if len(content) > limit:
            self.part.unlink()
            raise ValueError(f"the gzip file unpacks to more than {limit} bytes")
        self.part.write_bytes(content)


def download(
    urls: Sequence[str],
    target: Path,
    size: int | None = None,
    sha256: str | None = None,
    zipped: bool = False,
    progress: Progress | None = None,
) -> str:
    """Fetch `target` from the first address that serves it whole, and return that address.

    Every address is tried, `ATTEMPTS` times in turn. `sha256` None means that the caller checks the content.
    `size` is binding except for `zipped` files, whose mirrors differ.

    Raises `DatasetError` with each address's reason and the step by hand if none works, if the folder cannot be
    written or the disk is full, or if another process is fetching the same file.
    """
    problems: dict[str, str] = {}
    with _only_one(target):
        for attempt in range(ATTEMPTS):
            time.sleep(WAIT_S * attempt)
            for url in urls:
                problem = _try(url, target, size, sha256, zipped, progress)
                if problem is None:
                    return url
                problems[url] = problem
                log.info("attempt %d: %s: %s", attempt + 1, url, problem)
    reasons = "; ".join(f"{url}: {reason}" for url, reason in problems.items())
    step = "unpack it and save it" if urls[0].endswith(".gz") else "save it"
    again = " and run the same command again" if zipped else ""
    fix = f"check the network and run the same command again, or download {urls[0]} by hand, {step} as {target}{again}"
    raise DatasetError(target, f"could not be downloaded ({reasons})", fix)


def _try(
    url: str, target: Path, size: int | None, sha256: str | None, zipped: bool, progress: Progress | None
) -> str | None:
    part = target.with_name(f"{target.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
    # Any: pooch calls a downloader with (url, output file, pooch) but its annotation has other names for them
    downloader: Any = ResumingDownloader(part, size, zipped, progress)
    known = f"sha256:{sha256}" if sha256 else None
    # A folder for pooch: it takes a file that is there for a cached one and, killed, leaves a temporary one behind.
    staging = target.with_name(f".{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        pooch.retrieve(url, known, target.name, staging, downloader=downloader)
        os.replace(staging / target.name, target)
    except requests.HTTPError as error:
        return f"the server refuses ({_short(error)})"
    except requests.ConnectionError as error:
        return f"no connection or broken off ({_short(error)})"
    except requests.RequestException as error:
        return f"broken off ({_short(error)})"
    except ValueError as error:
        return "what arrived has another SHA-256" if "hash" in str(error) else str(error)
    except OSError as error:
        fix = "free some space, or point AAREN_DATA to a folder that can be written, and run the same command again"
        raise DatasetError(target, f"cannot be written ({error.strerror or error})", fix) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return None


def _short(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= 120 else f"{text[:60]} ... {text[-55:]}"


@contextmanager
def _only_one(target: Path):
    """Hold the lock of `target`; it lies in the cache, so that the data folder stays clean."""
    name = hashlib.sha256(str(target.absolute()).encode()).hexdigest()[:24]
    path = cache_root() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(path, timeout=0):
            yield
    except filelock.Timeout as error:
        raise DatasetError(target, "is being downloaded by another process", "wait for that one to end") from error
