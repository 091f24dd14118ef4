#!/usr/bin/env bash
# Mixed traffic through three sidecars to three apps: uploads, downloads, server-sent events, WebSockets and logins, with a reload of
# every configuration each minute. No answer may be lost, changed, or given to another person than the one who asked.
#
#   people  ->  HAProxy, by the PROXY protocol  ->  loginsync  ->  Express, with ws   (events, WebSockets, quiet streams)
#           ->  loginsync  ->  gunicorn + Flask on a socket       (keep-alive of two seconds, its default)
#           ->  loginsync  ->  nginx with WebDAV          (PUT and GET of files)
#      \____  oidc-provider, which rotates refresh tokens
#
# usage: tests/interop/traffic.sh          (or: make traffic)
#
# It ends what it started, whatever happens. The last line is `N passed, M failed`; the exit code is 0 only if all passed.
#
# Environment:
#   LOGINSYNC_BIN        the sidecar to test; default: target/debug/loginsync, built first
#   TRAFFIC_MINUTES=20   how long
#   TRAFFIC_PEOPLE=18    how many people at once, a third of them at each app
#   XDG_CACHE_HOME, INTEROP_KEEP=1   as for run.sh
#
# Needs: bash, HAProxy, nginx with its WebDAV module, Python 3.10 or newer with venv, Node 20 or newer with npm. What is missing is installed by
# apt where that is possible.
set -euo pipefail

TRAFFIC_MINUTES=${TRAFFIC_MINUTES:-20}
TRAFFIC_PEOPLE=${TRAFFIC_PEOPLE:-18}

# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build_sidecar
lock_cache
missing_packages node nodejs npm npm python3 python3-venv nginx nginx haproxy haproxy
install_packages "${missing[@]}" || stop_with "please install: ${missing[*]}" "$run/apt.log"
install_libraries "$here" || stop_with "npm could not install the libraries" "$run/npm.log"
hash=$(sha256sum "$here/stacks/requirements.txt" | cut -c1-16)
venv=$cache/stacks-$hash
if [ ! -f "$venv/.ready" ]; then
    say "fetching the libraries of Python"
    rm -rf "$venv"
    python3 -m venv "$venv" >"$run/pip.log" 2>&1 && bounded "$FETCH_LIMIT" "$venv/bin/pip" install --quiet \
        --disable-pip-version-check --only-binary :all: -r "$here/stacks/requirements.txt" >>"$run/pip.log" 2>&1 \
        || stop_with "pip could not install Flask" "$run/pip.log"
    touch "$venv/.ready"
fi
flock -u 9

cp "$here"/*.js "$here"/*.json "$here"/traffic.py "$run"
ln -s "$libraries/node_modules" "$run/node_modules"
export TRAFFIC_MINUTES TRAFFIC_PEOPLE TRAFFIC_DIRECTORY="$run" TRAFFIC_GUNICORN="$venv/bin/gunicorn" TRAFFIC_GROUPS="$groups"
run_checks $((TRAFFIC_MINUTES * 60 + 180)) node "$run/traffic.js"
show_verdict
