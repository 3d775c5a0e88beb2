"""What may enter a record: finite numbers, plain Python types, and no path of this machine."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The names of environment variables that hold secrets, and `user:password@` in an address.
_SECRET_NAME = re.compile(r"key|token|secret|passw|credential", re.I)
_LOGIN = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
_SHORTEST_SECRET = 8  # characters; a shorter value may be an ordinary word


def has_login(text: str) -> bool:
    """Whether an address in `text` carries a user and a password."""
    return _LOGIN.search(text) is not None


def scrub(text: str | None) -> str | None:
    """`text` without secrets (of the environment, in addresses), and with this machine's project, data and home
    folders replaced by names: records get published.
    """
    if text is None:
        return None
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name):
            text = text.replace(value, f"${name}")
    text = _LOGIN.sub("***", text)
    places = [(os.environ.get("AAREN_DATA"), "$AAREN_DATA"), (str(Path.cwd()), "."), (str(Path.home()), "~")]
    for place, name in places:
        if place and len(place) > 1:
            text = text.replace(str(Path(place).absolute()), name).replace(place, name)
    return text


def clean_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """split -> name -> plain measure, and the names of those that are NaN or infinite, which are left out."""
    measures: dict[str, dict[str, Any]] = {}
    broken: list[str] = []
    for split, named in metrics.items():
        measures[split] = {}
        for name, measure in named.items():
            fields = measure if isinstance(measure, Mapping) else measure._asdict()
            value = float(fields["value"])
            if not math.isfinite(value):
                broken.append(f"{split} {name} ({value})")
                continue
            measures[split][name] = {
                "value": value,
                "n": int(fields["n"]),
                "unit": str(fields["unit"]),
                "higher_is_better": bool(fields["higher_is_better"]),
            }
    return measures, broken


def finite(value: Any) -> Any:
    """`value` with every NaN or infinity as null (a curve may hold one), NumPy values as Python ones."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
