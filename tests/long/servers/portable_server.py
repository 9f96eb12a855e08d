"""Builds servers that the package index does not have ready to run, from their public sources.

The portable server library of EPICS (PCAS) is no package. ``channel-access-server`` and the CA
gateway need it. `build_library` compiles it from a checkout, against the headers and libraries of
the package ``epicscorelibs``, into a folder with the layout of an EPICS base: such a folder is what
the variable EPICS_BASE names. `build_gateway` adds the program ``bin/gateway``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ARCHITECTURE = "linux-x86_64"  # a folder name; the programs are those of this machine
_FLAGS = [
    "-O1", "-fPIC", "-std=gnu++11", "-fno-strict-aliasing", "-w", "-D_GNU_SOURCE",
    "-DLINUX", "-Dlinux", "-DUNIX", "-DUSE_TYPED_RSET",
    "-DUSE_DENYFROM", "-DSTAT_PVS", "-DRATE_STATS", "-DCONTROL_PVS", "-DCAS_DIAGNOSTICS",
]  # fmt: skip
# The declaration of a function that libca exports, but whose header epicscorelibs does not have
_NET_CONVERT = (
    '#include "cadef.h"\n'
    'extern "C" int caNetConvert(unsigned, const void *, void *, int, arrayElementCount);\n'
)
_GENERATORS = {"aitGen.c", "genApps.cc"}


def find_corelibs(python: Path) -> Path:
    """Return the folder of epicscorelibs in the environment of a Python."""
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip(), "epicscorelibs")


def build_library(sources: Path, corelibs: Path, base: Path) -> None:
    """Compile PCAS.

    Args:
        sources: a checkout of PCAS.
        corelibs: the folder of the package epicscorelibs.
        base: the folder to fill.

    Raises:
        RuntimeError: a compiler or program has failed; the message has what it printed.
    """
    sources, corelibs, base = sources.resolve(), corelibs.resolve(), base.resolve()
    include, library = base / "include", base / "lib" / ARCHITECTURE
    library.mkdir(parents=True, exist_ok=True)
    include.mkdir(exist_ok=True)
    for entry in (corelibs / "include").iterdir():
        _link(include / entry.name, entry)
    for entry in (corelibs / "lib").glob("lib*.so*"):
        _link(library / entry.name, entry)
    gdd, cas = sources / "src" / "gdd", sources / "src" / "pcas"
    folders = [cas / "generic", cas / "io" / "bsdSocket", cas / "generic" / "st"]
    for folder in [gdd, *folders]:
        for header in folder.glob("*.h"):
            _link(include / header.name, header)
    _write_version(sources, include / "casVersionNum.h")
    (include / "net_convert.h").write_text(_NET_CONVERT)
    (include / "aitConvertGenerated.cc").write_text("")
    work = base / "objects"
    work.mkdir(exist_ok=True)
    generator = work / "aitGen"
    _run(["g++", *_flags(base), "-x", "c++", gdd / "aitTypes.c", gdd / "aitGen.c", "-o", generator])
    _run([generator, include / "aitConvertGenerated.cc"])
    files = [f for f in [*gdd.glob("*.cc"), gdd / "aitTypes.c"] if f.name not in _GENERATORS]
    mapper = [f for f in files if f.name == "dbMapper.cc"]
    without = _compile([f for f in files if f not in mapper], work, base)
    generator = work / "genApps"
    _run(["g++", *_flags(base), gdd / "genApps.cc", *without, "-o", generator, *_libraries(base)])
    _run([generator, include / "gddApps.h"])
    _share(base, "gdd", without + _compile(mapper, work, base))
    listed = re.findall(r"LIBSRCS \+= (\S+)\.\w+", (cas / "build" / "Makefile").read_text())
    found = [f for folder in folders for f in folder.iterdir() if f.suffix in (".cc", ".cpp")]
    _share(base, "cas", _compile([f for f in found if f.stem in listed], work, base), "gdd", "ca")


def build_gateway(sources: Path, base: Path) -> None:
    """Compile the CA gateway from a checkout, into a folder that `build_library` has filled."""
    work = base / "gateway-objects"
    work.mkdir(exist_ok=True)
    objects = _compile(list((sources / "src").glob("*.cc")), work, base)
    (base / "bin").mkdir(exist_ok=True)
    _run(["g++", *objects, "-o", base / "bin" / "gateway", *_libraries(base, "cas", "gdd", "ca")])


def _flags(base: Path) -> list[str]:
    include = base / "include"
    folders = [include, include / "os" / "Linux", include / "compiler" / "gcc"]
    return [*_FLAGS, *(f"-I{folder}" for folder in folders)]


def _libraries(base: Path, *names: str) -> list[str]:
    folder = base / "lib" / ARCHITECTURE
    return [f"-L{folder}", f"-Wl,-rpath,{folder}", *(f"-l{name}" for name in [*names, "Com"])]


def _compile(files: list[Path], folder: Path, base: Path) -> list[Path]:
    def compile_one(file: Path) -> Path:
        made = folder / f"{file.stem}.o"
        _run(["g++", *_flags(base), "-x", "c++", "-c", file, "-o", made])
        return made

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(compile_one, files))


def _share(base: Path, name: str, objects: list[Path], *needed: str) -> None:
    file = base / "lib" / ARCHITECTURE / f"lib{name}.so"
    _run(["g++", "-shared", *objects, "-o", file, *_libraries(base, *needed)])


def _write_version(sources: Path, file: Path) -> None:
    text = (sources / "configure" / "CONFIG_PCAS_VERSION").read_text()
    numbers = dict(re.findall(r"^(EPICS_PCAS_\w+_(?:VERSION|FLAG)) *= *(\d+)", text, re.MULTILINE))
    template = (sources / "src" / "pcas" / "build" / "casVersionNum.h@").read_text()
    file.write_text(re.sub(r"@(\w+)@", lambda found: numbers[found[1]], template))


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target.resolve())


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shown = " ".join(map(str, command))
        raise RuntimeError(f"{shown}\nhas ended with {done.returncode}:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    pcas, gateway, corelibs, target = map(Path, sys.argv[1:])
    build_library(pcas, corelibs, target)
    build_gateway(gateway, target)
