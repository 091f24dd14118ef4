#!/usr/bin/env bash
# `allow_http` and `[egress]`: providers (npm oidc-provider) at a private address, in a network of its own.
#
#   browser  ->  loginsync  ->  an app without a login
#                   |  \____  a provider over http, at 10.77.0.1; another, at a public address, which must never be asked
#                    \___  tinyproxy  ->  a provider over https, which knows loginsync by its certificate
#
# usage: tests/interop/inside.sh    (make interop runs it, too)
#
# The network is a namespace that holds these addresses on its loopback interface alone, so that none of it can be reached from this or any
# other machine. Where the system allows no such namespace, the script says so and fails. The last line is `N passed, M failed`.
#
# Environment: LOGINSYNC_BIN, XDG_CACHE_HOME, INTEROP_KEEP as for run.sh.
# Needs: bash, Node 20 or newer with npm, tinyproxy, openssl, unshare (util-linux), ip (iproute2). What is missing is installed by apt where that is possible.
set -euo pipefail

SUITE_LIMIT=120
PRIVATE=10.77.0.1
PUBLIC=198.41.0.4   # within the namespace only

# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock_cache
missing_packages node nodejs npm npm tinyproxy tinyproxy openssl openssl unshare util-linux ip iproute2
install_packages "${missing[@]}" || stop_with "please install: ${missing[*]}" "$run/apt.log"
install_libraries "$here" || stop_with "npm could not install the libraries" "$run/npm.log"
flock -u 9
build_sidecar

cp "$here"/*.js "$here"/*.json "$run"
ln -s "$libraries/node_modules" "$run/node_modules"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=interop test only" -addext "basicConstraints=critical,CA:FALSE" \
    -addext "subjectAltName=IP:$PRIVATE" -keyout "$run/key.pem" -out "$run/certificate.pem" 2>/dev/null
printf '127.0.0.1 localhost\n%s provider.abroad\n' "$PUBLIC" >"$run/hosts"
unshare --user --map-root-user --net --mount true 2>"$run/unshare.log" || stop_with "this system allows no network of its own (unshare --net)" "$run/unshare.log"
export INTEROP_DIRECTORY=$run INSIDE_ADDRESSES="$PRIVATE $PUBLIC"
run_checks "$SUITE_LIMIT" unshare --user --map-root-user --net --mount bash -euc '
    ip link set lo up
    for address in $INSIDE_ADDRESSES; do ip address add "$address/32" dev lo; done
    mount --bind "$INTEROP_DIRECTORY/hosts" /etc/hosts
    exec node "$INTEROP_DIRECTORY/inside.js"'
if [ "$code" != 0 ] && [ -f "$run/inside.log" ]; then tail -n 20 "$run/inside.log"; fi
show_verdict
