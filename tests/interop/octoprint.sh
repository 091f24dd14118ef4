#!/usr/bin/env bash
# OctoPrint behind loginsync: its own groups follow login by login, to none as well. First by headers; then by signed messages, before it
# sees a login.
#
#   browser  ->  loginsync  ->  OctoPrint (PyPI), which believes Remote-User and Remote-Groups
#      |             \______->  octoprint/receiver.py, which sets groups by OctoPrint's API
#      \________________________  a provider of OpenID Connect that puts people into the groups that a test asks for
#
# usage: tests/interop/octoprint.sh    (make interop runs it, too)
#
# It installs OctoPrint into a virtual environment, starts all of them on free loopback ports with a throw-away folder, logs
# people in, and asks OctoPrint after each login: by its API, and in the file that it keeps its users in. It ends what it
# started, whatever happens. The last line is `N passed, M failed`; the exit code is 0 only if all passed.
#
# Environment:
#   LOGINSYNC_BIN     the sidecar to test; default: target/debug/loginsync, built first
#   XDG_CACHE_HOME    where the virtual environment is kept, in loginsync-interop/; default: ~/.cache
#
# Needs: bash, Python 3.9 to 3.13 with venv.
set -euo pipefail

OCTOPRINT=1.11.8
LIBRARY=1.1.0       # standardwebhooks
FETCH_LIMIT=300     # seconds: for pip
SUITE_LIMIT=300     # for all checks, the start of OctoPrint included

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/loginsync-interop
run=$(mktemp -d "${TMPDIR:-/tmp}/loginsync-octoprint.XXXXXX")
trap 'rm -rf "$run"' EXIT

bin=${LOGINSYNC_BIN:-}
if [ -z "$bin" ]; then
  (cd "$root" && cargo build --quiet --locked --bin loginsync)
  bin=${CARGO_TARGET_DIR:-$root/target}/debug/loginsync
fi

venv=$cache/octoprint-$OCTOPRINT-$LIBRARY
mkdir -p "$cache"
exec 9>"$cache/octoprint.lock"
flock -w "$FETCH_LIMIT" 9
if [ ! -f "$venv/.ready" ]; then
  echo "fetching OctoPrint $OCTOPRINT"
  rm -rf "$venv"
  python3 -m venv "$venv"
  timeout "$FETCH_LIMIT" "$venv/bin/pip" install --quiet --disable-pip-version-check "OctoPrint==$OCTOPRINT" 'PyJWT[crypto]>=2,<3' \
    "standardwebhooks==$LIBRARY" \
    >"$run/pip.log" 2>&1 || { tail -n 20 "$run/pip.log" >&2; echo "0 passed, 1 failed"; exit 1; }
  touch "$venv/.ready"
fi
exec 9>&-

# Every process that the checks start ends with them.
timeout --kill-after=10 "$SUITE_LIMIT" "$venv/bin/python" -B "$here/octoprint/checks.py" "$bin" "$venv/bin/octoprint" "$run"
