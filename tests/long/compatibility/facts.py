"""The public names of the aioca that is installed, as JSON: ``python facts.py > aioca-2.1.json``.

Names, parameters, defaults and constants only; run with aioca 2.1 for what is compared with.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from typing import Any

import aioca

CLASSES = ("CAInfo", "CANothing", "ChannelInfo", "Subscription")


def parameters(function: Any) -> list[list[str]]:
    """Name, kind and default of each, as text; the kind as `inspect` calls it."""
    return [
        [p.name, p.kind.name, "" if p.default is p.empty else repr(p.default)]
        for p in inspect.signature(function).parameters.values()
    ]


def main() -> None:
    found: dict[str, Any] = {"functions": {}, "coroutines": [], "constants": {}, "classes": {}}
    for name in aioca.__all__:
        what = getattr(aioca, name)
        if name in CLASSES:
            members = [m for m in vars(what) if not m.startswith("_")]
            found["classes"][name] = {
                "members": sorted(m for m in members if type(vars(what)[m]).__name__ == "function"),
                "constants": {m: vars(what)[m] for m in members if m.isupper() or "strings" in m},
            }
        elif callable(what):
            found["functions"][name] = parameters(what)
            if inspect.iscoroutinefunction(what):
                found["coroutines"].append(name)
        elif name != "__version__":
            found["constants"][name] = what
    types = importlib.import_module("aioca.types")
    annotations = types.AugmentedValue.__annotations__
    found["types"] = {
        "names": ["AugmentedValue", "Count", "Datatype", "Dbe", "Dbr", "Format", "Timeout"],
        "fields": sorted(annotations),
    }
    json.dump(found, sys.stdout, indent=1, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
