#!/bin/bash
# With asyncio_mode=auto the trio variant of an anyio test passes, and runs under asyncio.
#
# Versions: pytest 9.2.0, pytest-asyncio 1.5.0, pytest-trio 0.8.0, anyio 4.16.0, trio 0.35.0,
#   sniffio 1.3.1.
# Expected: a test with @pytest.mark.anyio belongs to the plugin of anyio: its variants [asyncio]
#   and [trio] run under those, whatever the plugins beside it do with tests without a mark.
# Found: with asyncio_mode=auto both variants run under asyncio, with trio_mode=true both under
#   trio, and all pass. A client that works with both loops is then tested with one, and the
#   report names two.
. "$(dirname "$0")/common.bash"
install pytest==9.2.0 pytest-asyncio==1.5.0 pytest-trio==0.8.0 anyio==4.16.0 trio==0.35.0 sniffio==1.3.1

cat >"$work/test_loops.py" <<'PYTHON'
import pytest, sniffio

@pytest.mark.anyio
async def test_loop(request):
    print("\nRAN", request.node.name, sniffio.current_async_library())
PYTHON

# Each variant with the loop that it ran under, as the options say; all of them have to pass.
loops() {
    (cd "$work" && python -m pytest -s -p no:cacheprovider test_loops.py "$@" >"pytest.log" 2>&1 &&
        grep -q ' 2 passed' pytest.log && sed -n 's/^RAN test_loop//p' pytest.log | sort | tr '\n' ' ')
}
none=$(loops)
asyncio=$(loops -o asyncio_mode=auto)
trio=$(loops -o trio_mode=true)

echo "versions: pytest 9.2.0, pytest-asyncio 1.5.0, pytest-trio 0.8.0, anyio 4.16.0, trio 0.35.0"
echo "expected: [asyncio] asyncio [trio] trio, with each of the options"
echo "no option:         $none"
echo "asyncio_mode=auto: $asyncio"
echo "trio_mode=true:    $trio"
[ "$none" = "[asyncio] asyncio [trio] trio " ]
[ "$asyncio" = "[asyncio] asyncio [trio] asyncio " ]
[ "$trio" = "[asyncio] trio [trio] trio " ]
echo "found: with asyncio_mode=auto the test test_loop[trio] of anyio passes, having run under asyncio"
