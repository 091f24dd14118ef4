# What the interop suites share: sourced by run.sh and stacks.sh, after `set -euo pipefail`.
# It sets `root`, `cache` and `run` (a temporary directory), and ends whatever `launch` started when the script ends.

FETCH_LIMIT=240     # seconds: for each package manager

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/loginsync-interop
run=$(mktemp -d "${TMPDIR:-/tmp}/loginsync-interop.XXXXXX")
started=()          # process groups of ours
groups=$run/groups  # further ones, a line each, that what we started writes down
SECONDS=0
# Debian keeps nginx and php-fpm where the paths of people do not lead.
export PATH=$PATH:/usr/sbin
mkdir -p "$cache"

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
    if [ -f "$groups" ]; then mapfile -t -O "${#started[@]}" started <"$groups"; fi
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

# Packages that a command, or a file, shows to be missing: pairs of what is looked for and what to install.
missing_packages() {
    missing=()
    while [ $# -gt 0 ]; do
        if [[ $1 = /* ]]; then [ -e "$1" ] || missing+=("$2"); else command -v "$1" >/dev/null || missing+=("$2"); fi
        shift 2
    done
}

# Fails when apt does; its words are in apt.log.
install_packages() {
    [ $# -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "not root, or not Debian" >"$run/apt.log"; return 1; }
    say "installing $*"
    # RUNLEVEL: what is installed here must not start as a service of the machine.
    { apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$run/apt.log" 2>&1
}

# The libraries of a package.json, kept by the hash of its lock file, outside the repository. Sets `libraries`.
install_libraries() {
    local from=$1 hash
    hash=$(cat "$from/package.json" "$from/package-lock.json" | sha256sum | cut -c1-16)
    libraries=$cache/libraries-$hash
    [ -f "$libraries/.ready" ] && return
    say "fetching the libraries of ${from#"$root/"}"
    rm -rf "$libraries"
    mkdir -p "$libraries"
    cp "$from/package.json" "$from/package-lock.json" "$here/.npmrc" "$libraries"
    bounded "$FETCH_LIMIT" npm ci --prefix "$libraries" --ignore-scripts --no-audit --no-fund >"$run/npm.log" 2>&1 || return 1
    touch "$libraries/.ready"
}

# Keycloak of a version, whose archive has this digest. Unpacked and configured once; a run leaves nothing in it, its database is in
# memory. Sets `keycloak_home`.
install_keycloak() {
    local version=$1 sha256=$2
    keycloak_home=$cache/keycloak-$version
    [ -f "$keycloak_home/.ready" ] && return
    say "fetching Keycloak $version"
    local fetched=$run/fetched archive
    archive=$fetched/keycloak-quarkus-dist-$version.tar.gz
    bounded "$FETCH_LIMIT" mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
        -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:tar.gz" \
        -DoutputDirectory="$fetched" -Dmdep.useBaseVersion=true >"$run/maven.log" 2>&1 \
        || stop_with "Maven could not fetch Keycloak" "$run/maven.log"
    printf '%s  %s\n' "$sha256" "$archive" | sha256sum -c --quiet - || stop_with "Keycloak's archive is not the expected one"
    rm -rf "$keycloak_home"
    tar -xzf "$archive" -C "$cache"
    rm -rf "$fetched"
    touch "$keycloak_home/.ready"
}

build_sidecar() {
    if [ -z "${LOGINSYNC_BIN:-}" ]; then
        say "building the sidecar"
        (cd "$root" && cargo build --quiet --locked --bin loginsync) || stop_with "the sidecar does not build"
        LOGINSYNC_BIN=${CARGO_TARGET_DIR:-$root/target}/debug/loginsync
    fi
    [ -x "$LOGINSYNC_BIN" ] || stop_with "no sidecar at $LOGINSYNC_BIN"
    LOGINSYNC_BIN=$(realpath "$LOGINSYNC_BIN")
    export LOGINSYNC_BIN
}

# Until `flock -u 9`, no other run installs.
lock_cache() {
    exec 9>"$cache/lock"
    flock -w 600 9 || stop_with "another run is installing for more than ten minutes"
}

# Runs checks that write a `verdict` beside their log, showing the log as it grows; sets `code`.
run_checks() {
    local limit=$1 suite shown
    shift
    launch timeout --kill-after=10 "$limit" "$@" >"$run/suite.log" 2>&1
    suite=$group
    launch tail -n +1 -f --pid="$suite" "$run/suite.log"
    shown=$group
    code=0
    wait "$suite" || code=$?
    wait "$shown" || true
    if [ "$code" = 124 ]; then say "the checks were stopped after $limit s"; fi
}

show_verdict() {
    if [ -s "$run/verdict" ]; then cat "$run/verdict"; else say "0 passed, 1 failed"; fi
    exit "$code"
}
