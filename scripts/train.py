"""Train one job, or sweep with -m:  python scripts/train.py dataset=ETTh1 model=aaren seed=0 profile=quick"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Check the overrides, then hand them to Hydra."""
    from tasks.overrides import check_overrides

    try:
        sys.argv[1:] = check_overrides(sys.argv[1:], ROOT / "conf")
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    import hydra
    from hydra.core.plugins import Plugins

    from tasks import sweeper
    from tasks.worker import run

    sweeper.register(Plugins.instance())
    hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="train")(run)()


if __name__ == "__main__":
    main()
