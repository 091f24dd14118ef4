#!/usr/bin/env bash
# The APIs of the admin listener, between loginsync and clients that nobody here wrote:
#
#   schemathesis            every operation of every OpenAPI document: no undocumented status, no 5xx, no other schema
#   openapi-spec-validator  every document is valid
#   openapi-python-client   clients that it and openapi-generator make of each document, and every operation through them
#   openapi-generator
#   onelogin                OneLogin's own clients, unmodified: 4.x, and 2.0.4, which many still use
#   opal-security           Opal's own client, unmodified
#   @timbal-ai/timbal-sdk   Timbal's own client, unmodified
#
# usage: tests/interop/apis.sh         (make interop runs it, too)
#
# It makes a configuration, a database and a virtual environment in a temporary directory, starts loginsync on a free
# loopback port, and ends it, whatever happens. The last line is `N passed, M failed`; the exit code is 0 only if all passed.
#
# Environment:
#   LOGINSYNC_BIN     the sidecar to test; default: the debug build, made first
#   XDG_CACHE_HOME    where the virtual environment and openapi-generator are kept, in loginsync-interop/; default: ~/.cache
#   EXAMPLES          requests that schemathesis makes of one operation; default: 40, some 90 seconds in all
#
# Needs: bash, curl, Python 3.10 or newer with venv, Java 11 or newer, Maven, Node 20 or newer with npm; as root on Debian it installs what is missing.
set -euo pipefail

GENERATOR=7.14.0    # of openapi-generator
GENERATOR_SHA256=e03186835022ca02da4aa95e3967b6a3b6d44c2e5f7606e6d5c22466f519c757
DOCUMENT_LIMIT=240  # seconds: for all operations of one document
EXAMPLES=${EXAMPLES:-40}

# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

passed=0 failed=0
check() {
  local what=$1; shift
  if "$@" >"$run/out" 2>&1; then
    passed=$((passed + 1)); printf 'ok      %s\n' "$what"
  else
    failed=$((failed + 1)); printf 'FAILED  %s\n' "$what"; tail -n 60 "$run/out" | sed 's/^/        /'
  fi
}

lock_cache
missing_packages java default-jre-headless mvn maven curl curl python3 python3-venv node nodejs npm npm
install_packages "${missing[@]}" || stop_with "please install: ${missing[*]}" "$run/apt.log"
venv=$cache/apis
if ! "$venv/bin/python" -c 'import schemathesis, onelogin, opal_security, openapi_spec_validator, openapi_python_client' 2>/dev/null; then
  python3 -m venv "$venv"
  bounded "$FETCH_LIMIT" "$venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis>=4,<5' 'opal-security>=1,<2' \
    'onelogin>=4,<5' 'openapi-spec-validator>=0.9,<0.10' 'openapi-python-client>=0.29,<0.30'
fi
earlier=$cache/apis-onelogin-2.0.4    # of one name with the later one
if [ ! -f "$earlier/.ready" ]; then
  rm -rf "$earlier"
  python3 -m venv "$earlier"
  bounded "$FETCH_LIMIT" "$earlier/bin/pip" install --quiet --disable-pip-version-check 'onelogin==2.0.4'
  touch "$earlier/.ready"
fi
install_libraries "$here" || stop_with "npm could not install Timbal's client" "$run/npm.log"
generator=$cache/openapi-generator-cli-$GENERATOR.jar
if [ ! -f "$generator" ]; then
  bounded "$FETCH_LIMIT" mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    -Dartifact="org.openapitools:openapi-generator-cli:$GENERATOR" -DoutputDirectory="$run/fetched" >"$run/maven.log" 2>&1 \
    || stop_with "Maven could not fetch openapi-generator" "$run/maven.log"
  printf '%s  %s\n' "$GENERATOR_SHA256" "$run/fetched/${generator##*/}" | sha256sum -c --quiet - \
    || stop_with "openapi-generator is not the expected one"
  mv "$run/fetched/${generator##*/}" "$generator"
fi
flock -u 9
build_sidecar
bin=$LOGINSYNC_BIN

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

# Nothing listens there.
[[webhook]]
name = "app"
url = "http://127.0.0.1:9/hook"

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
launch "$bin" serve --config "$run/loginsync.toml" >"$run/log" 2>&1
url=http://127.0.0.1:$admin_port
for _ in $(seq 100); do curl -fs "$url/healthz" >/dev/null && break; sleep 0.1; done

check "OneLogin's client" "$venv/bin/python" "$here/apis/onelogin_client.py" "$url" interop "$secret"
check "OneLogin's earlier client" "$earlier/bin/python" "$here/apis/onelogin_earlier.py" "$url" interop "$secret"
cp "$here/apis/timbal.js" "$here/package.json" "$run" && ln -s "$libraries/node_modules" "$run/node_modules"
check "Timbal's client" node "$run/timbal.js" "$url" "$secret"
check "Opal's client" "$venv/bin/python" "$here/apis/opal.py" "$url" "$secret"

# Of each document: it is valid, two generators make a client of it, and every operation works through that.
generated() { # name and address of the document
  curl -fsS "$url$2" >"$run/$1.json"
  check "$2 is valid" "$venv/bin/openapi-spec-validator" "$run/$1.json"
  check "openapi-python-client reads it" env PATH="$venv/bin:$PATH" "$venv/bin/openapi-python-client" generate --fail-on-warning \
    --meta none --path "$run/$1.json" --output-path "$run/openapi-python-client/$1"
  check "openapi-generator reads it" java -jar "$generator" generate -g python --package-name "$1" -i "$run/$1.json" \
    -o "$run/openapi-generator"
  for kind in openapi-python-client openapi-generator; do
    check "every operation of $2 through the client of $kind" \
      "$venv/bin/python" "$here/apis/generated.py" "$kind" "$run/$kind" "$1" "$url" interop "$secret"
  done
}
mkdir "$run/openapi-python-client"
generated v1 /api/v1/openapi.json
for document in onelogin opal timbal odc; do generated "$document" "/openapi/$document.json"; done

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
