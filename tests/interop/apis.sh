#!/usr/bin/env bash
# The APIs of the admin listener, between loginsync and clients that nobody here wrote:
#
#   schemathesis            every operation of every OpenAPI document: no undocumented status, no 5xx, no other schema
#   onelogin                OneLogin's own client, unmodified
#   opal-security           Opal's own client, unmodified
#
# usage: tests/interop/apis.sh         (make interop runs it, too)
#
# It makes a configuration, a database and a virtual environment in a temporary directory, starts loginsync on a free
# loopback port, and ends it, whatever happens. The last line is `N passed, M failed`; the exit code is 0 only if all passed.
#
# Environment:
#   LOGINSYNC_BIN     the sidecar to test; default: target/debug/loginsync, built first
#   XDG_CACHE_HOME    where the virtual environment is kept, in loginsync-interop/; default: ~/.cache
#   EXAMPLES          requests that schemathesis makes of one operation; default: 40, some 90 seconds in all
#
# Needs: bash, curl, Python 3.10 or newer with venv.
set -euo pipefail

FETCH_LIMIT=240     # seconds: for pip
DOCUMENT_LIMIT=240  # for all operations of one document
EXAMPLES=${EXAMPLES:-40}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/loginsync-interop
run=$(mktemp -d "${TMPDIR:-/tmp}/loginsync-apis.XXXXXX")
sidecar=
trap '[ -z "$sidecar" ] || { kill "$sidecar" 2>/dev/null; wait "$sidecar" 2>/dev/null; } || true; rm -rf "$run"' EXIT

passed=0 failed=0
check() {
  local what=$1; shift
  if "$@" >"$run/out" 2>&1; then
    passed=$((passed + 1)); printf 'ok      %s\n' "$what"
  else
    failed=$((failed + 1)); printf 'FAILED  %s\n' "$what"; tail -n 60 "$run/out" | sed 's/^/        /'
  fi
}

bin=${LOGINSYNC_BIN:-$root/target/debug/loginsync}
[ -n "${LOGINSYNC_BIN:-}" ] || (cd "$root" && cargo build --quiet --locked --bin loginsync)

venv=$cache/apis
if ! "$venv/bin/python" -c 'import schemathesis, onelogin, opal_security' 2>/dev/null; then
  mkdir -p "$cache"
  python3 -m venv "$venv"
  timeout "$FETCH_LIMIT" "$venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis>=4,<5' 'opal-security>=1,<2' \
    'onelogin>=4,<5'
fi

free_port() { "$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
admin_port=$(free_port) proxy_port=$(free_port)
cat >"$run/loginsync.toml" <<TOML
public_url = "https://app.example"

[listen]
address = "127.0.0.1:$proxy_port"

[app]
url = "http://127.0.0.1:9"

[admin]
address = "127.0.0.1:$admin_port"
rate_limit = 1000000

[store]
path = "store.db"

[[role]]
name = "editor"

[[group]]
name = "Staff"
roles = ["editor"]

[[provider]]
name = "okta"
mode = "oidc-form-post"
issuer = "https://idp.example/"
client_id = "the-app"
callback = "/callback"
jwks_file = "$root/fixtures/tokens/jwks.json"
authorization_endpoint = "https://idp.example/authorize"

[provider.claims.groups]

[[mapping]]
provider = "okta"
claim = "groups"
value = "staff"
group = "Staff"
TOML
secret=$("$bin" client create --config "$run/loginsync.toml" interop --scope admin --json |
  "$venv/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["client_secret"])')
"$bin" serve --config "$run/loginsync.toml" >"$run/log" 2>&1 &
sidecar=$!
url=http://127.0.0.1:$admin_port
for _ in $(seq 100); do curl -fs "$url/healthz" >/dev/null && break; sleep 0.1; done

check "OneLogin's client" "$venv/bin/python" "$here/apis/onelogin_client.py" "$url" interop "$secret"
check "Opal's client" "$venv/bin/python" "$here/apis/opal.py" "$url" "$secret"
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance
describe() { # document, and which of its paths
  timeout "$DOCUMENT_LIMIT" "$venv/bin/schemathesis" run "$url$1" --url "$url" --header "Authorization: Bearer $secret" \
    --header "If-Match: *" --checks "$checks" --max-examples "$EXAMPLES" --phases examples,coverage,fuzzing --no-color "${@:2}"
}
tokens='^/(auth|identity)/'
for document in /api/v1/openapi.json /openapi/onelogin.json /openapi/opal.json /openapi/timbal.json /openapi/odc.json; do
  check "schemathesis on $document" describe "$document" --exclude-path-regex "$tokens"
done
# Wrong secrets slow down the address that they come from, so that these are last.
for document in /openapi/onelogin.json /openapi/odc.json; do
  check "schemathesis on the tokens of $document" describe "$document" --include-path-regex "$tokens"
done
check "it runs on" curl -fsS "$url/readyz"
check "the audit is whole" "$bin" audit verify --config "$run/loginsync.toml"

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
