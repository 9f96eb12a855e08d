"""``AIOCA_LIBCA``: another libca than the one in epicscorelibs, and what may be wrong with it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo, dbCore_dsoinfo

from aioca._ca import library, loaded
from aioca._cli.diagnosis.findings_libca import of_libca
from aioca.testing import SoftIoc
from tests.support.programs import environment_for

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="makes broken copies of libca for Linux (ELF) only"
)

WHEEL = Path(ca_dsoinfo.sofilename)
LIBCOM = Path(Com_dsoinfo.sofilename)
# Where the loader looks for the libCom of the wheel's libca: wheels differ in the order
RUN_PATHS = (b"\\$ORIGIN/.:$ORIGIN/.", b"$ORIGIN/.:\\$ORIGIN/.")
RUN_PATH = next(path for path in RUN_PATHS if path in WHEEL.read_bytes())
DATABASE = """
    record(ao, "X") { field(VAL, "1.5") field(PINI, "YES") }
    record(bo, "SWITCH") { field(ZNAM, "off") field(ONAM, "on") }
"""


@pytest.fixture(scope="module")
def other_ioc() -> Iterator[SoftIoc]:
    with SoftIoc(DATABASE) as ioc:
        yield ioc


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of EPICS base of its own: libca and libCom of the wheel, as other files."""
    path = tmp_path_factory.mktemp("base")
    for file in (WHEEL, LIBCOM):
        shutil.copy(file, path)
    return path


@pytest.fixture
def copy(folder: Path) -> Path:
    return folder / WHEEL.name


def run(
    ioc: SoftIoc | None, program: str, *arguments: object, **environment: object
) -> subprocess.CompletedProcess[str]:
    """Run a program that finds the IOC, with variables of the environment."""
    given = {"AIOCA_LIBCA": "", **{name: str(value) for name, value in environment.items()}}
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
        env={**environment_for(ioc.port if ioc else 1), **given},
    )  # fmt: skip


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# Reads, writes and monitors; the last write is refused by the server, which nobody waits for.
USE = """
import logging
import anyio, aioca

class Failures(logging.Handler):
    def emit(self, record):
        if "SWITCH" in record.getMessage():
            print(record.levelname)
            failed.set()

async def use():
    global failed
    failed = anyio.Event()
    logger = logging.getLogger("aioca")
    logger.propagate = False
    logger.addHandler(Failures())
    with anyio.fail_after(20):
        async with aioca.camonitor("X", all_updates=True) as updates:
            print(+await anext(updates))
            await aioca.caput("X", 2.5, wait=True)
            print(+await anext(updates))
            print(await aioca.caget(["X", "SWITCH"], format=aioca.FORMAT_TIME))
            await aioca.caput("X", 1.5, wait=True)
        await aioca.caput("SWITCH", "sideways")
        await failed.wait()
"""
USED = "1.5\n2.5\n[2.5, 0]\nERROR\n"


# -- A good one ------------------------------------------------------------------------------------

WITH_ANOTHER = f"""{USE}
import sys
from aioca._ca import library
aioca.run(use(), backend=sys.argv[1])
print(library.describe().file, library.describe().libcom)
print(library.others(), [name for name in sys.modules if name.startswith("epicscorelibs")])
"""


def test_another_libca_is_the_only_one(other_ioc: SoftIoc, copy: Path, backend: str) -> None:
    out = output_of(run(other_ioc, WITH_ANOTHER, backend, AIOCA_LIBCA=copy))
    libcom = copy.with_name(LIBCOM.name)
    assert out.replace("/./", "/") == f"{USED}{copy} {libcom}\n[] []\n"


def test_relative_path_and_link(other_ioc: SoftIoc, copy: Path, tmp_path: Path) -> None:
    """The link has the name that a build of EPICS base gives it."""
    link = tmp_path / "libca.so"
    link.symlink_to(copy)
    program = f"import os; os.chdir({str(tmp_path)!r})\n{USE}\naioca.run(use())"
    assert output_of(run(other_ioc, program, AIOCA_LIBCA="./libca.so")) == USED


def test_libcom_beside_it(other_ioc: SoftIoc, folder: Path, tmp_path: Path) -> None:
    """Debian's libca has no run path: the loader does not look for libCom beside it."""
    file = _without_run_path(tmp_path)
    shutil.copy(folder / LIBCOM.name, tmp_path)
    out = output_of(run(other_ioc, WITH_ANOTHER, "asyncio", AIOCA_LIBCA=file))
    assert out == f"{USED}{file} {tmp_path / LIBCOM.name}\n[] []\n"


def _without_run_path(folder: Path) -> Path:
    content = WHEEL.read_bytes()
    assert RUN_PATH in content
    file = folder / WHEEL.name
    file.write_bytes(content.replace(RUN_PATH, b"/nowhere".ljust(len(RUN_PATH), b"/")))
    return file


def test_without_epicscorelibs(other_ioc: SoftIoc, copy: Path) -> None:
    """aioca works, and a soft IOC says what it needs."""
    program = f"""
import sys
sys.modules["epicscorelibs"] = None  # its import fails
{USE}
aioca.run(use())
from aioca.testing import SoftIoc, SoftIocError
try:
    SoftIoc("").start()
except SoftIocError as error:
    print(error)
"""
    out = output_of(run(other_ioc, program, AIOCA_LIBCA=copy))
    assert out == f"{USED}a soft IOC needs epicscorelibs (pip install epicscorelibs)\n"


def test_ioc_of_another_base(tmp_path: Path) -> None:
    """Whether there is an IOC in the process is known for another build of EPICS base, too."""
    for file in (WHEEL, LIBCOM, Path(dbCore_dsoinfo.sofilename)):
        shutil.copy(file, tmp_path)
    program = """
        import ctypes, sys
        from aioca._ca import library
        before = library.has_ioc()
        ctypes.CDLL(sys.argv[1])
        print(before, library.has_ioc())
    """
    core = tmp_path / Path(dbCore_dsoinfo.sofilename).name
    out = output_of(run(None, program, core, AIOCA_LIBCA=tmp_path / WHEEL.name))
    assert out == "False True\n"


# -- Bad ones --------------------------------------------------------------------------------------


def _folder(path: Path) -> Path:
    return path


def _missing(path: Path) -> Path:
    return path / "libca.so"


def _text(path: Path) -> Path:
    file = path / "libca.so"
    file.write_text("INPUT(libca.so.4)\n" * 100)
    return file


def _empty(path: Path) -> Path:
    file = path / "libca.so"
    file.touch()
    return file


def _libcom(path: Path) -> Path:
    return Path(shutil.copy(LIBCOM, path))


def _for_32_bits(path: Path) -> Path:
    content = bytearray(WHEEL.read_bytes())
    content[4] = 1  # EI_CLASS: ELFCLASS32
    file = path / "libca.so"
    file.write_bytes(content)
    return file


BAD = {
    _folder: "it is a folder; give the file of libca in it",
    _missing: "there is no such file",
    _text: "it is not a library (",
    _empty: "it is not a library (",
    _libcom: "it has no ca_message; aioca needs the libca of EPICS base",
    _for_32_bits: "it is not for this 64-bit Python and processor (",
    _without_run_path: f"it needs {LIBCOM.name}, which is neither in its folder nor where",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__.strip("_"))
def test_bad_value(make: object, tmp_path: Path) -> None:
    """One error, which names the variable and its value."""
    file = make(tmp_path)  # type: ignore[operator]
    done = run(None, "import aioca", AIOCA_LIBCA=file)
    assert done.returncode == 1
    assert done.stderr.count("Error: ") == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: AIOCA_LIBCA={file} cannot be used: {BAD[make]}")  # type: ignore[index]


def test_no_libca_at_all() -> None:
    done = run(None, "import sys; sys.modules['epicscorelibs'] = None; import aioca")
    assert done.stderr.count("Error: ") == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: there is no libca: install epicscorelibs (pip install epicscorelibs), or set"
        " AIOCA_LIBCA to the file of libca in a build of EPICS base"
    )


def test_32_bit_python() -> None:
    done = run(None, "import sys; sys.maxsize = 2**31 - 1; import aioca")
    assert done.stderr.count("Error: ") == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: aioca needs a 64-bit Python, and this one has 32 bits"
    )


IN_A_SUBINTERPRETER = """
import importlib, sys
name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
interpreters = importlib.import_module(name)
other = interpreters.create()
interpreters.run_string(other, sys.argv[1])
interpreters.destroy(other)
"""
IMPORT = """
try:
    import aioca
except ImportError as error:
    print(error, flush=True)
"""


def test_a_subinterpreter() -> None:
    """libca's threads would call functions of this interpreter in the main one."""
    done = run(None, IN_A_SUBINTERPRETER, IMPORT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("aioca cannot be used in a subinterpreter")


# -- Two in one process ----------------------------------------------------------------------------

FIRST_LOADED = "import ctypes, sys; ctypes.CDLL(sys.argv[1], mode=getattr(ctypes, sys.argv[2]))\n"


@pytest.mark.parametrize("variable", ["set", "not set"])
def test_refuses_a_mixture(copy: Path, variable: str) -> None:
    """A libca whose symbols all libraries see would take some of the calls of another one."""
    first, ours = (WHEEL, {"AIOCA_LIBCA": copy}) if variable == "set" else (copy, {})
    done = run(None, FIRST_LOADED + "import aioca", first, "RTLD_GLOBAL", **ours)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: AIOCA_LIBCA=" if ours else f"ImportError: {WHEEL}"), last
    assert f"this process has loaded {first} before" in last
    assert ("unset it" if ours else "set AIOCA_LIBCA to its libca") in last


def test_refuses_a_mixture_of_libcom(copy: Path) -> None:
    """p4p and softioc have libCom in the process, and may make it visible."""
    program = FIRST_LOADED + "import aioca"
    done = run(None, program, LIBCOM, "RTLD_GLOBAL", AIOCA_LIBCA=copy)
    assert f"this process has loaded {LIBCOM} before" in done.stderr.splitlines()[-1]


def test_the_same_one_is_no_mixture(other_ioc: SoftIoc) -> None:
    """``epicscorelibs.ca.cadef`` makes the wheel's libca visible."""
    program = f"import epicscorelibs.ca.cadef\n{WITH_ANOTHER}"
    for variable in ("", WHEEL):
        out = output_of(run(other_ioc, program, "asyncio", AIOCA_LIBCA=variable))
        assert out.startswith(f"{USED}{WHEEL} ")
        assert "\n[] [" in out


TWO = """
import logging
import anyio, aioca
async def main():
    assert await aioca.caget("X") == 1.5
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
aioca.run(main())
"""


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("variable", ["set", "not set"])
def test_logs_another_libca(other_ioc: SoftIoc, copy: Path, variable: str, order: str) -> None:
    """Of another client, such as pyepics. It is a warning for those who chose one."""
    first, ours = (WHEEL, {"AIOCA_LIBCA": copy}) if variable == "set" else (copy, {})
    program = FIRST_LOADED + TWO if order == "before" else f"import aioca\n{FIRST_LOADED}{TWO}"
    mode = "RTLD_LOCAL" if order == "before" else "RTLD_GLOBAL"
    done = run(other_ioc, program, first, mode, **ours)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "has also loaded" in line]
    level, source = ("WARNING", "AIOCA_LIBCA") if ours else ("INFO", "epicscorelibs")
    assert line.startswith(f"{level} aioca uses {copy if ours else WHEEL} (from {source})")
    assert str(first) in line


def test_one_for_pyepics_too(other_ioc: SoftIoc, copy: Path) -> None:
    pytest.importorskip("epics", reason="pyepics is not installed (the extra `test` has it)")
    program = """
        import epics, aioca
        from aioca._ca import library
        assert epics.caget("X", timeout=20) == 1.5
        async def main():
            return await aioca.caget("X")
        print(aioca.run(main()), library.others())
    """
    done = run(other_ioc, program, AIOCA_LIBCA=copy, PYEPICS_LIBCA=copy)
    assert (done.stdout, done.returncode) == ("1.5 []\n", 0), done.stderr


# -- What a libca may lack -------------------------------------------------------------------------

# The first argument names functions, separated by commas, that libca and libCom seem not to have.
LACKING = """
import ctypes, sys
get = ctypes.CDLL.__getitem__
def __getitem__(library, name):
    if name in sys.argv[1].split(","):
        raise AttributeError(name)
    return get(library, name)
ctypes.CDLL.__getitem__ = __getitem__
"""
OPTIONAL = [
    "caClientCallbackThreadId", "epicsThreadPrivateGet", "epicsThreadPrivateSet", "epicsStrnLen",
    "epicsVsnprintf", "errlogAddListener", "errlogRemoveListeners", "eltc",
    "errlogVprintfNoConsole", "EPICS_CA_AUTO_ARRAY_BYTES",
]  # fmt: skip


@pytest.mark.parametrize("missing", [*OPTIONAL, ",".join(OPTIONAL)], ids=[*OPTIONAL, "all"])
def test_missing_symbol(other_ioc: SoftIoc, missing: str) -> None:
    """Everything works without it, and the doctor can say what it costs."""
    program = f"""{LACKING}{USE}
aioca.run(use())
from aioca._ca import library
print(",".join(library.lacks), all(library.lacks.values()))
"""
    out = output_of(run(other_ioc, program, missing))
    text = out.removeprefix(USED)
    assert set(text.split()[0].split(",")) == set(missing.split(","))
    assert text.endswith(" True\n")


def test_server_is_lost_without_optional_symbols(other_ioc: SoftIoc) -> None:
    """libca then reports an exception and prints; the process ends as always."""
    program = f"""{LACKING}
import os, signal
import anyio, aioca
from aioca.testing import SoftIoc
async def main():
    async with aioca.camonitor("X", notify_disconnect=True) as updates:
        assert await anext(updates) == 1.5
        os.kill(int(sys.argv[2]), signal.SIGKILL)
        print(repr(await anext(updates)))
aioca.run(main())
"""
    with SoftIoc(DATABASE) as ioc:
        process = ioc.process
        assert process is not None
        done = run(ioc, program, ",".join(OPTIONAL), process.pid)
        assert process.wait(10) == -signal.SIGKILL
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("CANothing('X', 192)\n", "")


def test_missing_function_that_is_needed() -> None:
    done = run(None, f"{LACKING}import aioca", "ca_array_put_callback")
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: {WHEEL} cannot be used: it has no ca_array_put_callback; aioca needs the"
        " libca of EPICS base 7.0"
    )


@pytest.mark.parametrize("version", ["7.0.3.2-DEV", "7.0.1.2-DEV", "3.16.2", "3.15.5"])
def test_skips_with_an_old_libca(version: str) -> None:
    """The plugin of ``.ci/other-libca``: only these refuse to write 0 elements."""
    assert plugin().writes_no_empty_array(version)


@pytest.mark.parametrize("version", ["7.0.4.2-DEV", "7.0.4", "7.0.10.1-DEV", "8.0", None])
def test_skips_nothing_with_another_libca(version: str | None) -> None:
    assert not plugin().writes_no_empty_array(version)


def plugin() -> ModuleType:
    file = Path(__file__).parents[2] / ".ci" / "old_libca.py"
    spec = importlib.util.spec_from_file_location("old_libca", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_array_with_a_libca_that_always_has_a_limit() -> None:
    """As libca of EPICS 3.15: the time-out and the doctor name the setting that it does know.

    The libca here has the other setting, which is therefore set so that it has a limit, too.
    """
    program = f"""{LACKING}
import aioca
async def main():
    await aioca.caput("W", range(5000), wait=True, timeout=20)
    print(await aioca.caget("W", timeout=1, throw=False))
    print(len(await aioca.caget("W", count=2051, timeout=20)))
aioca.run(main())
from aioca._cli import main
sys.exit(main(["doctor", "--timeout", "2", "W"]))
"""
    with SoftIoc('record(waveform, "W") {field(FTVL, "DOUBLE") field(NELM, "5000")}') as ioc:
        done = run(ioc, program, "EPICS_CA_AUTO_ARRAY_BYTES", EPICS_CA_AUTO_ARRAY_BYTES="NO")
    assert done.returncode == 1, done.stderr
    timed_out, length, doctor = done.stdout.split("\n", 2)
    assert timed_out.endswith(
        "up to 5000 elements are 40000 bytes, and libca drops more than 16408 bytes because of"
        " EPICS_CA_MAX_ARRAY_BYTES, which is 16384 by default; set EPICS_CA_MAX_ARRAY_BYTES=40000"
        " or more, or ask for fewer elements)"
    )
    assert length == "2051"
    assert "lacks    EPICS_CA_AUTO_ARRAY_BYTES " in doctor
    assert "libca drops the 40000 bytes" in doctor
    assert doctor.endswith("What to do: Set EPICS_CA_MAX_ARRAY_BYTES=40000 or more.\n")


# -- What the doctor says --------------------------------------------------------------------------

DOCTOR = "import sys; from aioca._cli import main; sys.exit(main(['doctor', *sys.argv[1:]]))"


def test_doctor_says_which_libca(other_ioc: SoftIoc, copy: Path) -> None:
    done = run(other_ioc, DOCTOR, "--json", "X", AIOCA_LIBCA=copy)
    libca = json.loads(done.stdout)["libca"]
    assert libca["file"] == str(copy)
    assert libca["source"] == "AIOCA_LIBCA"
    assert libca["version"].startswith("7.")
    assert libca["lacks"] == {}
    text = run(other_ioc, DOCTOR, "X").stdout
    version, file, libcom = text.partition("\nlibca\n")[2].splitlines()[:3]
    assert "EPICS 7." in version
    assert "from epicscorelibs 7." in version
    assert file.split() == ["libca", str(WHEEL)]
    assert libcom.split() == ["libCom", str(LIBCOM)]


def test_doctor_says_what_libca_lacks(other_ioc: SoftIoc) -> None:
    program = f"""{LACKING}
from aioca._cli import main
sys.exit(main(["doctor", "X"]))
"""
    done = run(other_ioc, program, "errlogAddListener,eltc")
    assert done.returncode == 1  # it is a warning
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    assert ["lacks", "errlogAddListener"] in rows
    assert ["lacks", "eltc"] in rows
    assert "use a newer libca" in done.stdout.lower()


def test_doctor_notes_the_libca_of_other_clients(copy: Path) -> None:
    libca = library.describe()
    assert of_libca(libca, {}) == []
    assert of_libca(libca, {"PYEPICS_LIBCA": libca.file, "CATOOLS_LIBCA_PATH": libca.file}) == []
    pyepics, cothread = of_libca(
        libca, {"PYEPICS_LIBCA": str(copy), "CATOOLS_LIBCA_PATH": str(copy)}
    )
    assert pyepics.severity == cothread.severity == "note"
    assert f"PYEPICS_LIBCA={copy} is not the libca of aioca: pyepics" in pyepics.what
    assert "cothread" in cothread.what


def test_version_of_a_file(tmp_path: Path) -> None:
    version = loaded.epics_version(str(WHEEL))
    assert version is not None
    assert version.startswith("7.0.")
    assert loaded.epics_version(str(LIBCOM)) is None
    assert loaded.epics_version(str(tmp_path / "none")) is None
