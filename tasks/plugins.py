"""A user's own file that registers an attention: `model=custom model.plugin=my_backbone.py model.attention=my_name`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from tasks.errors import ConfigError


def import_plugin(path: str | Path) -> None:
    """Run a Python file of the user's, once a process, under a module name of its own.

    Raises:
        ConfigError: no such file, not a Python file, or whatever the file itself raised while it ran.
    """
    file = Path(path).expanduser().absolute()
    if file.suffix != ".py" or not file.is_file():
        raise ConfigError("model.plugin", str(path), "give the path of a Python file that registers an attention")
    name = f"aaren_plugin_{file.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(file):
        return
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError("model.plugin", str(path), "cannot be imported as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError("model.plugin", str(path), f"raised {type(error).__name__}: {error}") from error
