r"""What was typed at the prompt, as text, whatever the locale.

Names and values go to servers as UTF-8. In a locale that has no UTF-8 (``LC_ALL=C``) Python makes
lone surrogates of its bytes, which nothing else takes for text.
"""

from __future__ import annotations

import os


def typed(text: str) -> str:
    """An argument as the UTF-8 that its bytes are; what is none stays as it is."""
    if not any("\udc80" <= character <= "\udcff" for character in text):
        return text
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def file_name(text: str) -> str:
    """The same the other way round: as Python takes the name of a file in this locale."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    return text
