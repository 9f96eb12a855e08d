"""Checks the names of PVs before they are passed to libca.

Invariant: a name that `valid_name` has returned is a plain str that libca can search for.
"""

from __future__ import annotations

from .._ca.libca import ECA_BADSTR, MAX_NAME_BYTES
from .._errors import invalid


def valid_name(name: str) -> str:
    """Return the name as a plain str.

    Raises:
        TypeError: if the name is not a str.
        CAValueError: if libca cannot search for the name.
    """
    check_is_str(name)
    plain = str.__str__(name)
    try:
        size = len(plain.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise invalid(plain, ECA_BADSTR, f"the name cannot be encoded as UTF-8: {error}") from error
    if size == 0:
        raise invalid(plain, ECA_BADSTR, "the name of a PV cannot be empty")
    if "\0" in plain:
        raise invalid(plain, ECA_BADSTR, "the name of a PV cannot contain NUL")
    if size > MAX_NAME_BYTES:
        raise invalid(
            plain[:40] + "...", ECA_BADSTR,
            f"the name has {size} bytes; libca can search for {MAX_NAME_BYTES} at most",
        )  # fmt: skip
    return plain


def check_is_str(name: object) -> None:
    """Raise TypeError if the name of a PV is not a str."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a PV must be a str, not {name!r}")
