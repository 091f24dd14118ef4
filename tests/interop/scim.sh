#!/usr/bin/env bash
# Logins through a sidecar to SCIM servers of others: scim2-server, scimmy, Canaille, Keycloak.
#
# usage: tests/interop/scim.sh    (make interop runs it, too)
#
# It installs the four (PyPI, npm, Maven), starts one after the other on a free loopback port with users and groups in memory, has
# `loginsync delivery test` learn what it can, logs people in, and compares what the server shows of its own members, also
# at the moment when a login reaches the app. It ends what it started, whatever happens. The last line is `N passed, M failed`; the exit
# code is 0 only if all passed.
#
# Environment:
#   LOGINSYNC_BIN      the sidecar to test; default: target/debug/loginsync, built first
#   XDG_CACHE_HOME     where the servers are kept, in loginsync-interop/; default: ~/.cache
#   INTEROP_ONLY=word  only the servers whose name holds it
#   INTEROP_KEEP=1     keep the run's directory
#
# Needs: bash, Python 3 with venv, Node 20 with npm, Java 17 or newer, Maven.
set -euo pipefail

SCIM2_SERVER=0.8.3
CANAILLE=0.3.6
KEYCLOAK_VERSION=26.7.3   # the first with a SCIM server of its own; the other suites have one that they know
KEYCLOAK_SHA256=77657f30b7e90d70f727712ce1c967f430fd6a5e9f458d32d8c6df0635345f47
SUITE_LIMIT=420           # for all checks

# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A Python environment with one package, kept by its version. Sets `venv`.
install_python() {
    local name=$1
    shift
    venv=$cache/$name
    [ -f "$venv/.ready" ] && return
    say "fetching $name"
    rm -rf "$venv"
    python3 -m venv "$venv"
    bounded "$FETCH_LIMIT" "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" >"$run/pip.log" 2>&1 \
        || stop_with "pip could not install $name" "$run/pip.log"
    touch "$venv/.ready"
}

missing_packages java default-jre-headless mvn maven node nodejs npm npm
install_packages "${missing[@]}" || stop_with "please install: ${missing[*]}" "$run/apt.log"
build_sidecar
lock_cache
install_keycloak "$KEYCLOAK_VERSION" "$KEYCLOAK_SHA256"
install_libraries "$here/scim" || stop_with "npm could not install scimmy" "$run/npm.log"
install_python "scim2-server-$SCIM2_SERVER" "scim2-server==$SCIM2_SERVER"
scim2=$venv/bin/scim2-server
# Its newest models are not those that it was written for.
install_python "canaille-$CANAILLE" "canaille[oidc,server]==$CANAILLE" 'scim2-models<0.10'
canaille=$venv/bin/python
flock -u 9

# Beside their libraries, so that Node finds them.
cp "$here"/scim/* "$run"
ln -s "$libraries/node_modules" "$run/node_modules"
mkdir "$run/work"
code=0
bounded "$SUITE_LIMIT" node "$run/checks.mjs" "$LOGINSYNC_BIN" "$run/work" \
    "{\"scim2\":\"$scim2\",\"canaille\":\"$canaille\",\"scimmy\":\"$run/scimmy_server.mjs\",\"keycloak\":\"$keycloak_home\"}" || code=$?
if [ "$code" = 124 ]; then say "the checks were stopped after $SUITE_LIMIT s"; fi
exit "$code"
