#!/usr/bin/env bash
# The console in Chromium: an operator's walk over the demo, and axe-core on every page, light and dark, wide and narrow.
#
#   Chromium  ->  the console of `loginsync demo`, while people log in to the demo's app
#
# usage: tests/interop/console.sh      (make interop runs it, too)
#
# It starts the demo on free loopback ports, walks, and ends it, whatever happens. The last line is `N passed, M failed`.
#
# Environment:
#   LOGINSYNC_BIN      the program to test; default: target/debug/loginsync, built first
#   XDG_CACHE_HOME     where the libraries are kept, in loginsync-interop/; default: ~/.cache
#   CONSOLE_SCREENS=D  keep a picture of every page there; those in docs/console are made so
#
# Needs: bash, Chromium, Node 20 or newer with npm. What is missing is installed by apt where that is possible.
set -euo pipefail

SUITE_LIMIT=300     # seconds: for the whole walk

# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock_cache
missing_packages node nodejs npm npm chromium chromium
install_packages "${missing[@]}" || stop_with "please install: ${missing[*]}" "$run/apt.log"
install_libraries "$here" || stop_with "npm could not install the libraries" "$run/npm.log"
flock -u 9
build_sidecar

launch "$LOGINSYNC_BIN" demo --port 0 >"$run/demo.log" 2>&1
demo=$group
for _ in $(seq 150); do
  grep -q 'Ctrl-C' "$run/demo.log" && break
  kill -0 "$demo" 2>/dev/null || stop_with "the demo ended" "$run/demo.log"
  sleep 0.1
done

cp "$here/console.js" "$here/checks.js" "$here/package.json" "$run"
ln -s "$libraries/node_modules" "$run/node_modules"
export INTEROP_DIRECTORY="$run" CONSOLE_SCREENS="${CONSOLE_SCREENS:-}"
run_checks "$SUITE_LIMIT" node "$run/console.js" "$run/demo.log"
if [ "$code" != 0 ]; then tail -n 20 "$run/demo.log"; fi
show_verdict
