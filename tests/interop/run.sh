#!/usr/bin/env bash
# The interop suite: loginsync between parts that nobody here wrote.
#
#   browser  ->  loginsync  ->  an app (express, openid-client, @node-saml/node-saml), its token exchange by the relay too
#   browser  ->  loginsync  ->  an app without a login
#   browser  ->  nginx, Caddy  ->  the same app; each asks loginsync first
#   Chromium  ->  nginx  ->  the same app on three hosts of a domain, below a path, and with our pages elsewhere
#   Chromium, Firefox  ->  loginsync  ->  the same app; and with a provider that rotates refresh tokens (oidc-provider)
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
#   INTEROP_SCREENS=D  keep the pictures of the browsers there
#   INTEROP_KEEP=1     keep the run's directory (configuration, database, logs, arrivals.json: what reached the app)
#   INTEROP_ONLY=word  only the sections whose title holds it, while working on them
#   INTEROP_DIRECT=1   without the sidecar, the browser talks to the app: shows whether a failure is of the parts around it
#
# Needs: bash, curl, openssl, nginx, Caddy, Chromium, Firefox ESR, Java 17 or newer, Maven, Node 20 or newer with npm. What is missing is installed by apt
# where that is possible.
set -euo pipefail

KEYCLOAK_VERSION=26.4.5
KEYCLOAK_SHA256=74fed80ab67607c86995824ad4b965f53cca0a706e2aeded45e173d3ccb0b24d
KEYCLOAK_LIMIT=150  # until Keycloak answers
SUITE_LIMIT=840     # for all checks

# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# ---- what the suite needs

install_tools() {
    missing_packages java default-jre-headless mvn maven node nodejs npm npm curl curl openssl openssl nginx nginx caddy caddy \
        chromium chromium firefox-esr firefox-esr
    install_packages "${missing[@]}" || stop_with "please install: ${missing[*]}" "$run/apt.log"
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' \
        || stop_with "Node 20 or newer is needed, this is $(node --version)"
}

install_tools
[ "${INTEROP_DIRECT:-}" = 1 ] || build_sidecar
lock_cache
install_keycloak "$KEYCLOAK_VERSION" "$KEYCLOAK_SHA256"
install_libraries "$here" || stop_with "npm could not install the app's libraries" "$run/npm.log"
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
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=app.localhost" -addext "subjectAltName=DNS:app.localhost" \
    -keyout "$run/walk-key.pem" -out "$run/walk-certificate.pem" 2>/dev/null
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

export APP_PORT PROXY_PORT ADMIN_PORT KEYCLOAK_URL KEYCLOAK_ADMIN KEYCLOAK_ADMIN_PASSWORD INTEROP_DIRECTORY="$run"
run_checks "$SUITE_LIMIT" node "$run/suite.js"

if [ "$code" != 0 ] && [ -f "$run/loginsync.log" ]; then
    say "--- the end of the sidecar's log"
    tail -n 40 "$run/loginsync.log"
fi
say "prepared in $prepared s, Keycloak up in $((keycloak_ready - prepared)) s, checks in $((SECONDS - keycloak_ready)) s, $SECONDS s in all"
show_verdict
