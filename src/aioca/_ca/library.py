"""Finds and loads libca, and looks up its symbols.

libca is the one that the environment variable ``AIOCA_LIBCA`` names, or else the one in the wheel
of epicscorelibs, which is not needed otherwise.

Invariants:

- libca and this package call the same libCom.
- If a symbol is missing that this package does not require, `lacks` has its name and the cost.
  Without any other symbol the import of this package fails.
"""

from __future__ import annotations

import ctypes
import glob
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import loaded

logger = logging.getLogger("aioca")

VARIABLE = "AIOCA_LIBCA"


@dataclass(frozen=True)
class _Choice:
    """Which libca is to be loaded.

    Attributes:
        libca: its file.
        libcom: the file of its libCom; empty if the loader finds libCom.
        source: who has chosen it: ``AIOCA_LIBCA``, or epicscorelibs.
    """

    libca: str
    libcom: str
    source: str

    def problem(self, what: str) -> ImportError:
        """The error that says what is wrong with this libca."""
        name = f"{VARIABLE}={self.libca}" if self.source == VARIABLE else self.libca
        return ImportError(f"{name} cannot be used: {what}")


def _choose() -> _Choice:
    given = os.environ.get(VARIABLE)
    if given:
        return _given(_Choice(os.path.abspath(os.path.expanduser(given)), "", VARIABLE))
    try:
        from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo
    except ImportError:
        raise ImportError(
            "there is no libca: install epicscorelibs (pip install epicscorelibs), or set"
            f" {VARIABLE} to the file of libca in a build of EPICS base"
        ) from None
    # The file name is the same as that of epicscorelibs.path.get_lib(): two names for one library
    # would load two copies of it, each with its own record of the thread's context. The name
    # comes from the dsoinfo modules, because importing epicscorelibs.path takes 0.2 s and imports
    # setuptools.
    return _Choice(ca_dsoinfo.sofilename, Com_dsoinfo.sofilename, "epicscorelibs")


def _given(choice: _Choice) -> _Choice:
    """Check the file that the variable names, as far as possible without loading it."""
    if os.path.isdir(choice.libca):
        raise choice.problem("it is a folder; give the file of libca in it")
    if not os.path.isfile(choice.libca):
        raise choice.problem("there is no such file")
    if sys.platform == "win32":
        return _Choice(
            choice.libca, os.path.join(os.path.dirname(choice.libca), "Com.dll"), choice.source
        )
    return choice


def _refuse_mixture(choice: _Choice) -> None:
    """Refuse to load libca if some of its calls would reach another libca or libCom.

    Raises:
        ImportError: such a library has been loaded with symbols that are visible to all libraries,
            as ``epicscorelibs.ca.cadef`` and ``epicscorelibs.ioc`` do, or a program that is linked
            to libca and runs Python.
    """
    folder = os.path.dirname(os.path.realpath(choice.libcom or choice.libca))
    other = loaded.file_with_global("ca_context_create")
    if other is None or loaded.same_file(other, choice.libca):
        other = loaded.file_with_global("epicsThreadPrivateGet")  # of libCom
        if other is None or os.path.dirname(os.path.realpath(other)) == folder:
            return
    advice = "unset it" if choice.source == VARIABLE else f"set {VARIABLE} to its libca"
    raise choice.problem(
        f"this process has loaded {other} before, with symbols that all libraries see, so that"
        f" some calls would reach that one: {advice}, or import aioca before it is loaded"
    )


def _load(choice: _Choice) -> ctypes.CDLL:
    """Load libca. RTLD_LOCAL: other libraries must not call functions of this one.

    Otherwise the libca of pyepics would, if it was loaded before and is bound later. The mode that
    ctypes adds, RTLD_NOW, binds the calls of this one before another libca can be loaded.
    """
    try:
        return ctypes.CDLL(choice.libca, mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        missing = _missing_libcom(error)
        if missing is None:
            raise choice.problem(_loader_says(error)) from None
    # A folder that is not where libca was installed: the loader looks for libCom elsewhere, but
    # takes one of the right name that is loaded.
    folders = map(os.path.dirname, (choice.libca, os.path.realpath(choice.libca)))  # of a link, too
    beside = [os.path.join(folder, missing) for folder in folders]
    try:
        if file := next(filter(os.path.isfile, beside), None):
            ctypes.CDLL(file, mode=ctypes.RTLD_LOCAL)
        return ctypes.CDLL(choice.libca, mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        if _missing_libcom(error) is None:
            raise choice.problem(_loader_says(error)) from None
        raise choice.problem(
            f"it needs {missing}, which is neither in its folder nor where the system looks"
        ) from None


def _missing_libcom(error: OSError) -> str | None:
    """The name of the libCom that the loader has not found; None if that is not the problem."""
    missing = re.search(
        r"(lib[Cc]om[\w.]*): cannot open|library (?:\S*/)?(lib[Cc]om[\w.]*): No such|"
        r"not loaded: (?:\S*/)?(lib[Cc]om[\w.]*)",
        str(error),
    )  # the messages of glibc, musl and macOS
    return next(filter(None, missing.groups())) if missing else None


def _loader_says(error: OSError) -> str:
    text = str(error)
    if re.search("wrong ELF class|incompatible architecture|not a valid Win32", text):
        return f"it is not for this 64-bit Python and processor ({text})"
    if re.search("invalid ELF header|file too short|not a mach-o|slice is not valid", text):
        return f"it is not a library ({text})"
    return f"it cannot be loaded: {text}"


_choice = _choose()
_refuse_mixture(_choice)

ca = _load(_choice)
# A look-up in libca also finds the symbols of the libCom that it is linked to. (Not on Windows.)
com = ctypes.CDLL(_choice.libcom, mode=ctypes.RTLD_LOCAL) if _choice.libcom else ca
# The same libraries for calls that only use data of the calling thread. These calls keep the GIL:
# to release it means to wait until libca's threads, which need it too, release it again.
ca_quick = ctypes.PyDLL(_choice.libca)
com_quick = ctypes.PyDLL(_choice.libcom) if _choice.libcom else ca_quick


# -- Symbols ---------------------------------------------------------------------------------------

lacks: dict[str, str] = {}
"""The symbols that this libca or its libCom lacks, and what each costs."""


def prototype(
    name: str, restype: object, *argtypes: object, library: ctypes.CDLL = ca
) -> Callable[..., int]:
    """Look up a function and declare its argument and return types.

    Raises:
        ImportError: there is no such function.
    """
    function = required(name, library)
    function.restype = restype
    function.argtypes = argtypes
    return function  # type: ignore[no-any-return]


def optional(name: str, cost: str, library: ctypes.CDLL = com) -> Any:
    """Look up a function, without types; None if there is none, which is noted with its cost."""
    function = getattr(library, name, None)
    if function is None:
        lacks[name] = cost
    return function


def required(name: str, library: ctypes.CDLL = ca) -> Any:
    """Look up a function, without a declaration of its types."""
    try:
        return library[name]
    except AttributeError:
        raise _choice.problem(
            f"it has no {name}; aioca needs the libca of EPICS base 7.0"
        ) from None


def address_of(name: str) -> int | None:
    """The address of a variable of libca; None if libca has none of this name."""
    try:
        return ctypes.cast(ca[name], ctypes.c_void_p).value
    except AttributeError:
        return None


# -- The process -----------------------------------------------------------------------------------


def has_ioc() -> bool:
    """Whether this process has loaded the libraries of an IOC. False on Windows."""
    if _choice.source == VARIABLE:
        # The IOC is of the same build, in the folder of libCom
        folder = os.path.dirname(libcom_file() or _choice.libca)
        files = glob.glob(os.path.join(glob.escape(folder), "libdbCore*"))
    else:
        from epicscorelibs.lib import dbCore_dsoinfo

        files = [dbCore_dsoinfo.sofilename]
    return any(map(_is_loaded, files))


def _is_loaded(file: str) -> bool:
    try:
        ctypes.CDLL(file, mode=os.RTLD_NOLOAD)
    except (OSError, AttributeError):  # Windows has no RTLD_NOLOAD
        return False
    return True


def libcom_file() -> str | None:
    """The file of the libCom that libca calls; None if it is not known."""
    return _choice.libcom or loaded.file_of(com["epicsThreadPrivateGet"])


def others() -> list[str]:
    """The files of each libca and libCom in this process, other than those of aioca.

    They are those of other clients, such as pyepics, and work independently.
    """
    ours = [file for file in (_choice.libca, libcom_file()) if file]
    return [
        file
        for file in loaded.client_libraries()
        if not any(loaded.same_file(file, mine) for mine in ours)
    ]


def report_others() -> None:
    """Log if another client has loaded another libca. To be called before the first context."""
    if other := others():
        logger.log(
            logging.WARNING if _choice.source == VARIABLE else logging.INFO,
            "aioca uses %s (from %s), but this process has also loaded %s: clients of that one have"
            " connections of their own",
            _choice.libca, _choice.source, ", ".join(other),
        )  # fmt: skip


@dataclass(frozen=True)
class Description:
    """The libca that aioca uses.

    Attributes:
        file: the file of libca.
        version: the version of EPICS base that it was built from; None if the file does not say.
        protocol: the version of Channel Access that it speaks, such as 4.13.
        source: ``AIOCA_LIBCA``, or epicscorelibs and its version.
        libcom: the file of its libCom; None if it is not known.
        lacks: the symbols that it lacks, and what each costs.
    """

    file: str
    version: str | None
    protocol: str
    source: str
    libcom: str | None
    lacks: dict[str, str]


def describe() -> Description:
    """Describe the libca that aioca uses. Reads its file."""
    from importlib import metadata  # here, because it takes long to import

    source = _choice.source
    if source != VARIABLE:
        source = f"{source} {metadata.version(source)}"
    protocol: Any = prototype("ca_version", ctypes.c_char_p)
    return Description(
        _choice.libca,
        loaded.epics_version(_choice.libca),
        protocol().decode("ascii", "replace"),
        source,
        libcom_file(),
        dict(lacks),
    )
