#!/usr/bin/env bash
# gRPC through loginsync: a server and a client of grpcio (PyPI), over ports, over sockets of this machine, and over TLS by ALPN.
#
#   client  ->  loginsync (`app.protocol = "http2"`)  ->  server
#
# usage: tests/interop/grpc.sh    (make interop runs it, too)
#
# It installs grpcio into a virtual environment, starts server and loginsync three times, on loopback ports and on sockets in a
# temporary directory, and ends them, whatever happens. The last line is `N passed, M failed`; the exit code is 0 only if
# all passed.
#
# Environment:
#   LOGINSYNC_BIN     the sidecar to test; default: the debug build, made first
#   XDG_CACHE_HOME    where the virtual environment is kept, in loginsync-interop/; default: ~/.cache
#
# Needs: bash, curl, Python 3.10 or newer with venv; as root on Debian it installs what is missing.
set -euo pipefail

GRPCIO='grpcio>=1.70,<2'
SUITE_LIMIT=120     # seconds: for all calls of one way

# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock_cache
missing_packages curl curl openssl openssl python3 python3-venv
install_packages "${missing[@]}" || stop_with "please install: ${missing[*]}" "$run/apt.log"
venv=$cache/grpc
if ! "$venv/bin/python" -c 'import grpc' 2>/dev/null; then
  python3 -m venv "$venv"
  bounded "$FETCH_LIMIT" "$venv/bin/pip" install --quiet --disable-pip-version-check "$GRPCIO" >"$run/pip.log" 2>&1 \
    || stop_with "pip could not install grpcio" "$run/pip.log"
fi
flock -u 9
build_sidecar

free_port() { "$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
passed=0 failed=0
way() { # name, the app for the server, for loginsync, loginsync's own address, the same for the client, and whether all is TLS
  local name=$1 app=$2 url=$3 address=$4 target=$5 tls=${6:-} admin out listen= trust= served=() called=()
  if [ -n "$tls" ]; then
    listen="tls_certificate = \"$run/certificate.pem\"
tls_key = \"$run/key.pem\"" trust="ca_file = \"$run/certificate.pem\""
    served=("$run/key.pem" "$run/certificate.pem") called=("$run/certificate.pem")
  fi
  admin=$(free_port)
  mkdir "$run/$name"
  cat >"$run/$name/loginsync.toml" <<TOML
public_url = "https://app.example"

[listen]
address = "$address"
$listen

[app]
url = "$url"
$trust
protocol = "http2"

[admin]
address = "127.0.0.1:$admin"

[store]
path = "store.db"

[[provider]]
name = "clients"
mode = "bearer"
issuer = "https://idp.example/"
audience = "the-app"
header = "authorization"
jwks_file = "$root/fixtures/tokens/jwks.json"

[provider.claims.groups]

[[group]]
name = "Staff"

[[mapping]]
provider = "clients"
claim = "groups"
value = "staff"
group = "Staff"
TOML
  launch "$venv/bin/python" "$here/grpc/calls.py" serve "$app" "${served[@]}" >"$run/$name/server.log" 2>&1
  launch "$LOGINSYNC_BIN" serve --config "$run/$name/loginsync.toml" >"$run/$name/log" 2>&1
  for _ in $(seq 100); do curl -fs "http://127.0.0.1:$admin/healthz" >/dev/null && break; sleep 0.1; done
  out=$run/$name/out
  timeout "$SUITE_LIMIT" "$venv/bin/python" "$here/grpc/calls.py" call "$target" "${called[@]}" >"$out" 2>&1 \
    || printf 'FAILED  the calls did not end\n' >>"$out"
  sed "s/^\(ok  *\|FAILED  *\)/&$name: /" "$out"
  passed=$((passed + $(grep -c '^ok ' "$out" || true)))
  failed=$((failed + $(grep -c '^FAILED ' "$out" || true)))
  if grep -q '^FAILED ' "$out"; then tail -n 30 "$run/$name/log" "$run/$name/server.log" | sed 's/^/        /'; fi
}
app_port=$(free_port) proxy_port=$(free_port)
way ports "127.0.0.1:$app_port" "http://127.0.0.1:$app_port" "127.0.0.1:$proxy_port" "127.0.0.1:$proxy_port"
way sockets "unix:$run/app.sock" "unix:$run/app.sock" "unix:$run/proxy.sock" "unix:$run/proxy.sock"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=interop test only" -addext "basicConstraints=critical,CA:FALSE" \
  -addext "subjectAltName=DNS:app.example,IP:127.0.0.1" -keyout "$run/key.pem" -out "$run/certificate.pem" 2>/dev/null
app_port=$(free_port) proxy_port=$(free_port)
way tls "127.0.0.1:$app_port" "https://127.0.0.1:$app_port" "127.0.0.1:$proxy_port" "127.0.0.1:$proxy_port" tls

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
