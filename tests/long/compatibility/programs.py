"""Whole programs that are compared: exit status and what they print.

They get the prefix of the records as their argument.
"""

from __future__ import annotations

PROGRAMS = {
    "import star": "from aioca import *; print(sorted(n for n in dir() if n[0] != '_'))",
    "the private module": "import aioca; aioca._catools.Timeout",
    "names from the private module": "import aioca; from aioca._catools import *; "
    "print(aioca.caput is aioca._catools.caput is caput)",
    "types": "import aioca.types as t; print(sorted(n for n in vars(t) if n in ('AugmentedValue',"
    " 'Count', 'Datatype', 'Dbe', 'Dbr', 'Format', 'Timeout')))",
    "version": "import subprocess, sys; print(subprocess.run([sys.executable, '-m', 'aioca',"
    " '--version'], capture_output=True).returncode)",
    "run": "from aioca import *; import sys; print(+run(caget(sys.argv[1] + 'ai')))",
    "run twice": "from aioca import *; import sys\nfor _ in 1, 2:"
    " print(+run(caget(sys.argv[1] + 'ai')))",
    "run on a loop of one's own": """
import asyncio, sys
from aioca import *
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
async def main():
    print(asyncio.get_running_loop() is loop)
run(main())
loop.close()
""",
    "run fails": "from aioca import *; import sys\n"
    "try: run(caget(sys.argv[1] + 'none', timeout=0.2))"
    "\nexcept CANothing as error: print(error.errorcode)",
    "asyncio.run twice": "from aioca import *; import asyncio, sys\nfor _ in 1, 2:"
    " print(+asyncio.run(caget(sys.argv[1] + 'ai'))); purge_channel_caches()",
    "no loop": "from aioca import *\ntry: camonitor('x', print)\n"
    "except Exception as error: print(type(error).__name__)",
    "infos without a loop": "from aioca import *\ntry: print(get_channel_infos())\n"
    "except Exception as error: print(type(error).__name__)",
    "purge without a loop": "from aioca import *; print(purge_channel_caches())",
    "modules": "import aioca, sys; print('epicscorelibs.ca.cadef' in sys.modules)",
    "a future": """
import asyncio, sys, threading
from aioca import *
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
future = asyncio.run_coroutine_threadsafe(caput(sys.argv[1] + "put:mbbo", "no", wait=True), loop)
try: print("no error:", future.result(10))
except CANothing as error: print("error")
""",
    "a callback that raises": """
import asyncio, sys
from aioca import *
async def main():
    done = asyncio.Event()
    def callback(value):
        done.set()
        raise ValueError("no good")
    camonitor(sys.argv[1] + "ai", callback)
    await done.wait()
    await asyncio.sleep(0.1)
asyncio.run(main())
purge_channel_caches()
""",
}
