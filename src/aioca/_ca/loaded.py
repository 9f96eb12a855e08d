"""The libraries of EPICS that are loaded in this process: files, versions, visible symbols.

All functions ask the loader of the system. On Windows it cannot be asked in this way: the answers
there are None and empty lists.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from ctypes import c_char_p, c_int, c_void_p

# libca and libCom, by the name of the file: libca.so, libca.so.4.14.4, libCom.3.23.1.dylib
_CLIENT_LIBRARY = re.compile(r"lib(ca|com)[-.\d]*\.(so|dylib)[.\d]*", re.IGNORECASE)
# libca contains this text, for the command `what`
_VERSION = re.compile(rb"@\(#\) ?EPICS ([\x21-\x2b\x2d-\x7e]+), CA Client Library")


class _SymbolInfo(ctypes.Structure):
    """The Dl_info of <dlfcn.h>."""

    _fields_ = [
        ("file", c_char_p),
        ("base", c_void_p),
        ("name", c_char_p),
        ("address", c_void_p),
    ]


def file_of(function: object) -> str | None:
    """The file of the library that a C function belongs to; None if it is not known."""
    if sys.platform == "win32":
        return None
    dladdr = ctypes.CDLL(None).dladdr
    dladdr.argtypes, dladdr.restype = (c_void_p, c_void_p), c_int
    info = _SymbolInfo()
    found = dladdr(ctypes.cast(function, c_void_p), ctypes.byref(info))  # type: ignore[arg-type]
    return os.fsdecode(info.file) if found and info.file else None


def file_with_global(symbol: str) -> str | None:
    """The file of the library whose symbol of this name is visible to all libraries; or None.

    A library that is loaded later calls that symbol in place of its own one of the same name.
    """
    if sys.platform == "win32":  # each library calls those that it was linked to
        return None
    try:
        return file_of(ctypes.CDLL(None)[symbol])
    except AttributeError:
        return None


def same_file(one: str, other: str) -> bool:
    """Whether two names are those of one file."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def client_libraries() -> list[str]:
    """The files of every libca and libCom that this process has loaded."""
    files = dict.fromkeys(_loaded_files())
    return [file for file in files if _CLIENT_LIBRARY.fullmatch(os.path.basename(file))]


def _loaded_files() -> list[str]:
    if sys.platform == "darwin":
        process = ctypes.CDLL(None)
        process._dyld_get_image_name.restype = c_char_p
        count = process._dyld_image_count()
        names = [process._dyld_get_image_name(number) for number in range(count)]
        return [os.fsdecode(name) for name in names if name]
    try:
        with open("/proc/self/maps", "rb") as maps:
            columns = [line.rstrip(b"\n").split(None, 5) for line in maps]
    except OSError:
        return []
    return [os.fsdecode(line[5]) for line in columns if len(line) == 6]


def epics_version(file: str) -> str | None:
    """The version of EPICS base that a libca was built from, such as 7.0.8.1; None if unknown."""
    try:
        with open(file, "rb") as library:
            found = _VERSION.search(library.read())
    except OSError:
        return None
    return found[1].decode("ascii") if found else None
