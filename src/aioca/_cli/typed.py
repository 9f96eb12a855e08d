r"""Convert the text typed at the prompt to UTF-8, and file names back, in any locale.

Names and values are sent to servers as UTF-8. In a locale without UTF-8 (``LC_ALL=C``) Python
decodes its bytes to lone surrogates, which cannot be encoded to UTF-8 again.
"""

from __future__ import annotations

import os


def typed(text: str) -> str:
    """Decode the bytes of an argument as UTF-8; bytes that are not UTF-8 stay surrogates."""
    if not any("\udc80" <= character <= "\udcff" for character in text):
        return text
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def file_name(text: str) -> str:
    """Undo `typed`: return the name by which Python opens the file in this locale."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    return text
