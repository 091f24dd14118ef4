#!/usr/bin/env bash
# The interop suite: loginsync between parts that nobody here wrote.
#
#   browser  ->  loginsync  ->  an app (express, openid-client, @node-saml/node-saml), its token exchange by the relay too
#   browser  ->  loginsync  ->  an app without a login
#   browser  ->  nginx, Caddy  ->  the same app; each asks loginsync first
#      \______________________  Keycloak, for OIDC and for SAML
#
# usage: tests/interop/run.sh          (or: make interop)
#
# It fetches Keycloak's distribution with Maven and the app's libraries with npm, starts everything on free loopback
# ports, logs people in, changes their groups at Keycloak, forges and replays answers, rotates Keycloak's keys, and looks
# each time at what the app received and at what loginsync recorded. It ends what it started, whatever happens.
# The last line is `N passed, M failed`; the exit code is 0 only if all passed.
#
# Environment:
#   LOGINSYNC_BIN      the sidecar to test; default: target/debug/loginsync, built first
#   XDG_CACHE_HOME     where downloads are kept, in loginsync-interop/; default: ~/.cache
#   INTEROP_KEEP=1     keep the run's directory (configuration, database, logs, arrivals.json: what reached the app)
#   INTEROP_ONLY=word  only the sections whose title holds it, while working on them
#   INTEROP_DIRECT=1   without the sidecar, the browser talks to the app: shows whether a failure is of the parts around it
#
# Needs: bash, curl, openssl, nginx, Caddy, Java 17 or newer, Maven, Node 20 or newer with npm. What is missing is installed by apt
# where that is possible.
set -euo pipefail

KEYCLOAK_VERSION=26.4.5
KEYCLOAK_SHA256=74fed80ab67607c86995824ad4b965f53cca0a706e2aeded45e173d3ccb0b24d
FETCH_LIMIT=240     # seconds: for Maven, and again for npm
KEYCLOAK_LIMIT=150  # until Keycloak answers
SUITE_LIMIT=330     # for all checks

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/loginsync-interop
keycloak_home=$cache/keycloak-$KEYCLOAK_VERSION
run=$(mktemp -d "${TMPDIR:-/tmp}/loginsync-interop.XXXXXX")
started=()          # process groups of ours
SECONDS=0

say() { printf '%s\n' "$*"; }

# Runs a command in the background in a process group of its own; sets `group`. Signals to this script are then heard at once.
launch() {
    setsid "$@" </dev/null 9>&- &
    group=$!
    started+=("$group")
}

bounded() {
    local limit=$1
    shift
    launch timeout --kill-after=10 "$limit" "$@"
    wait "$group"
}

# Asks first, insists after five seconds; each part runs in a process group of its own, so that no child survives.
finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM
    for group in "${started[@]}"; do kill -TERM -- "-$group" 2>/dev/null || true; done
    for _ in {1..50}; do
        local alive=
        for group in "${started[@]}"; do if kill -0 -- "-$group" 2>/dev/null; then alive=1; fi; done
        [ -n "$alive" ] || break
        sleep 0.1
    done
    for group in "${started[@]}"; do kill -KILL -- "-$group" 2>/dev/null || true; done
    [ "${INTEROP_KEEP:-}" = 1 ] || rm -rf "$run"
    exit "$code"
}
trap finish EXIT
if [ "${INTEROP_KEEP:-}" = 1 ]; then say "this run is kept in $run"; fi
trap 'exit 130' INT
trap 'exit 143' TERM

stop_with() {
    say "$1" >&2
    if [ -n "${2:-}" ] && [ -f "$2" ]; then tail -n 40 "$2" >&2; fi
    say "0 passed, 1 failed"
    exit 1
}

# ---- what the suite needs

install_tools() {
    local missing=()
    command -v java >/dev/null || missing+=(default-jre-headless)
    command -v mvn >/dev/null || missing+=(maven)
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    command -v curl >/dev/null || missing+=(curl)
    command -v openssl >/dev/null || missing+=(openssl)
    command -v nginx >/dev/null || missing+=(nginx)
    command -v caddy >/dev/null || missing+=(caddy)
    if [ ${#missing[@]} -gt 0 ]; then
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || stop_with "please install: ${missing[*]}"
        say "installing ${missing[*]}"
        # RUNLEVEL: what is installed here must not start as a service of the machine.
        { apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
            >"$run/apt.log" 2>&1 || stop_with "apt could not install ${missing[*]}" "$run/apt.log"
    fi
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' \
        || stop_with "Node 20 or newer is needed, this is $(node --version)"
}

# Unpacked and configured once; a run leaves nothing in it, its database is in memory.
install_keycloak() {
    [ -f "$keycloak_home/.ready" ] && return
    say "fetching Keycloak $KEYCLOAK_VERSION"
    local fetched=$run/fetched archive
    archive=$fetched/keycloak-quarkus-dist-$KEYCLOAK_VERSION.tar.gz
    bounded "$FETCH_LIMIT" mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
        -Dartifact="org.keycloak:keycloak-quarkus-dist:$KEYCLOAK_VERSION:tar.gz" \
        -DoutputDirectory="$fetched" -Dmdep.useBaseVersion=true >"$run/maven.log" 2>&1 \
        || stop_with "Maven could not fetch Keycloak" "$run/maven.log"
    printf '%s  %s\n' "$KEYCLOAK_SHA256" "$archive" | sha256sum -c --quiet - || stop_with "Keycloak's archive is not the expected one"
    rm -rf "$keycloak_home"
    tar -xzf "$archive" -C "$cache"
    rm -rf "$fetched"
    touch "$keycloak_home/.ready"
}

# The libraries are kept by the hash of the lock file, outside the repository.
install_libraries() {
    local hash
    hash=$(cat "$here/package.json" "$here/package-lock.json" | sha256sum | cut -c1-16)
    libraries=$cache/libraries-$hash
    [ -f "$libraries/.ready" ] && return
    say "fetching the app's libraries"
    rm -rf "$libraries"
    mkdir -p "$libraries"
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$libraries"
    bounded "$FETCH_LIMIT" npm ci --prefix "$libraries" --ignore-scripts --no-audit --no-fund >"$run/npm.log" 2>&1 \
        || stop_with "npm could not install the app's libraries" "$run/npm.log"
    touch "$libraries/.ready"
}

build_sidecar() {
    [ "${INTEROP_DIRECT:-}" = 1 ] && return
    if [ -z "${LOGINSYNC_BIN:-}" ]; then
        say "building the sidecar"
        (cd "$root" && cargo build --quiet --locked --bin loginsync) || stop_with "the sidecar does not build"
        LOGINSYNC_BIN=${CARGO_TARGET_DIR:-$root/target}/debug/loginsync
    fi
    [ -x "$LOGINSYNC_BIN" ] || stop_with "no sidecar at $LOGINSYNC_BIN"
    LOGINSYNC_BIN=$(realpath "$LOGINSYNC_BIN")
    export LOGINSYNC_BIN
}

mkdir -p "$cache"
install_tools
build_sidecar
exec 9>"$cache/lock"
flock -w 600 9 || stop_with "another run is installing for more than ten minutes"
install_keycloak
install_libraries
prepared=$SECONDS

# ---- the run

read -r keycloak_port APP_PORT PROXY_PORT ADMIN_PORT < <(node -e '
    const servers = Array.from({ length: 4 }, () => require("node:net").createServer().listen(0, "127.0.0.1"));
    Promise.all(servers.map((server) => new Promise((done) => server.on("listening", done)))).then(() => {
        console.log(servers.map((server) => server.address().port).join(" "));
        servers.forEach((server) => server.close());
    });')

# Keys and passwords of one run only.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=interop test only" \
    -keyout "$run/sp-key.pem" -out "$run/sp-certificate.pem" 2>/dev/null
KEYCLOAK_ADMIN=interop-admin
KEYCLOAK_ADMIN_PASSWORD=$(openssl rand -hex 16)

launch env KC_BOOTSTRAP_ADMIN_USERNAME="$KEYCLOAK_ADMIN" KC_BOOTSTRAP_ADMIN_PASSWORD="$KEYCLOAK_ADMIN_PASSWORD" \
    JAVA_OPTS_KC_HEAP="-Xms64m -Xmx512m" \
    "$keycloak_home/bin/kc.sh" start-dev --db=dev-mem --http-host=127.0.0.1 --http-port="$keycloak_port" \
    >"$run/keycloak.log" 2>&1
keycloak=$group

KEYCLOAK_URL=http://127.0.0.1:$keycloak_port
until curl -fsS --max-time 5 -o "$run/answer" "$KEYCLOAK_URL/realms/master" 2>/dev/null; do
    kill -0 "$keycloak" 2>/dev/null || stop_with "Keycloak ended" "$run/keycloak.log"
    [ $((SECONDS - prepared)) -lt "$KEYCLOAK_LIMIT" ] || stop_with "Keycloak does not answer" "$run/keycloak.log"
    sleep 0.5
done
flock -u 9          # its first start writes its configuration: only now may another run use it
keycloak_ready=$SECONDS

# Beside its libraries, so that Node finds them.
cp "$here"/*.js "$here"/*.json "$here"/*.toml "$root/docs/gateways.md" "$run"
ln -s "$libraries/node_modules" "$run/node_modules"

# Debian keeps nginx where the paths of people do not lead.
export PATH=$PATH:/usr/sbin
export APP_PORT PROXY_PORT ADMIN_PORT KEYCLOAK_URL KEYCLOAK_ADMIN KEYCLOAK_ADMIN_PASSWORD INTEROP_DIRECTORY="$run"
launch timeout --kill-after=10 "$SUITE_LIMIT" node "$run/suite.js" >"$run/suite.log" 2>&1
suite=$group
launch tail -n +1 -f --pid="$suite" "$run/suite.log"
shown=$group
code=0
wait "$suite" || code=$?
wait "$shown" || true

if [ "$code" != 0 ] && [ -f "$run/loginsync.log" ]; then
    say "--- the end of the sidecar's log"
    tail -n 40 "$run/loginsync.log"
fi
say "prepared in $prepared s, Keycloak up in $((keycloak_ready - prepared)) s, checks in $((SECONDS - keycloak_ready)) s, $SECONDS s in all"
if [ "$code" = 124 ]; then say "the checks were stopped after $SUITE_LIMIT s"; fi
if [ -s "$run/verdict" ]; then cat "$run/verdict"; else say "0 passed, 1 failed"; fi
exit "$code"
