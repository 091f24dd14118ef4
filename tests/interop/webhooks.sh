#!/usr/bin/env bash
# Receivers in Python and in Node that verify our messages with the libraries of Standard Webhooks.
#
# usage: tests/interop/webhooks.sh    (make interop runs it, too)
#
# It installs the two libraries (PyPI and npm), starts three receivers and a sidecar on free loopback ports with a throw-away folder,
# changes what a person holds, and looks at what the receivers believe. It ends what it started, whatever happens. The last
# line is `N passed, M failed`; the exit code is 0 only if all passed.
#
# Environment:
#   LOGINSYNC_BIN     the sidecar to test; default: target/debug/loginsync, built first
#   XDG_CACHE_HOME    where the libraries are kept, in loginsync-interop/; default: ~/.cache
#
# Needs: bash, Python 3 with venv, Node.
set -euo pipefail

PYTHON_LIBRARY=1.1.0
NODE_LIBRARY=1.1.1
FETCH_LIMIT=240     # seconds: for pip and npm
SUITE_LIMIT=120     # for all checks

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/loginsync-interop
run=$(mktemp -d "${TMPDIR:-/tmp}/loginsync-webhooks.XXXXXX")
trap 'rm -rf "$run"' EXIT

bin=${LOGINSYNC_BIN:-}
if [ -z "$bin" ]; then
  (cd "$root" && cargo build --quiet --locked --bin loginsync)
  bin=${CARGO_TARGET_DIR:-$root/target}/debug/loginsync
fi

libraries=$cache/standardwebhooks-$PYTHON_LIBRARY-$NODE_LIBRARY
mkdir -p "$cache"
exec 9>"$cache/standardwebhooks.lock"
flock -w "$FETCH_LIMIT" 9
if [ ! -f "$libraries/.ready" ]; then
  echo "fetching standardwebhooks $PYTHON_LIBRARY (PyPI) and $NODE_LIBRARY (npm)"
  rm -rf "$libraries"
  python3 -m venv "$libraries"
  { timeout "$FETCH_LIMIT" "$libraries/bin/pip" install --quiet --disable-pip-version-check "standardwebhooks==$PYTHON_LIBRARY" &&
    timeout "$FETCH_LIMIT" npm install --silent --no-audit --no-fund --prefix "$libraries" "standardwebhooks@$NODE_LIBRARY"; } \
    >"$run/fetch.log" 2>&1 || { tail -n 20 "$run/fetch.log" >&2; echo "0 passed, 1 failed"; exit 1; }
  touch "$libraries/.ready"
fi
exec 9>&-

# Every process that the checks start ends with them.
mkdir "$run/work"
timeout --kill-after=10 "$SUITE_LIMIT" "$libraries/bin/python" -B "$here/webhooks/checks.py" "$bin" "$libraries/node_modules" "$run/work"
