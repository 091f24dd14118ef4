#!/usr/bin/env bash
# What we write as SAML, seen by other people's programs:
#
#   libxml2     20,000 random documents, whole and one element of each, in exclusive canonical form: byte for byte ours
#   pysaml2     requests, answers and metadata of ours against the schemas of OASIS that it ships
#
# usage: tests/interop/saml.sh         (make interop runs it, too)
#
# Needs: bash, Python 3.10 or newer with venv, libxml2 (any distribution has it). The last line is `N passed, M failed`.
#
# Environment:
#   XDG_CACHE_HOME    where the virtual environment is kept, in loginsync-interop/; default: ~/.cache
set -euo pipefail

FETCH_LIMIT=240     # seconds: for pip

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/loginsync-interop
run=$(mktemp -d "${TMPDIR:-/tmp}/loginsync-saml.XXXXXX")
trap 'rm -rf "$run"' EXIT

passed=0 failed=0
check() {
  local what=$1; shift
  if "$@" >"$run/out" 2>&1; then
    passed=$((passed + 1)); printf 'ok      %s\n' "$what"
  else
    failed=$((failed + 1)); printf 'FAILED  %s\n' "$what"; tail -n 20 "$run/out" | cut -c 1-2000 | sed 's/^/        /'
  fi
}

venv=$cache/saml
if ! "$venv/bin/python" -c 'import saml2.xml.schema' 2>/dev/null; then
  mkdir -p "$cache"
  python3 -m venv "$venv"
  timeout "$FETCH_LIMIT" "$venv/bin/pip" install --quiet --disable-pip-version-check 'pysaml2>=7,<8'
fi
mkdir "$run/messages"
(cd "$root" && CANONICAL_OUT=$run/documents MESSAGES_OUT=$run/messages \
  cargo test --locked --quiet --lib -- --ignored random_documents_for_another_canonicalizer messages_for_the_schemas)

check "canonical forms are libxml2's" "$venv/bin/python" "$here/saml/canonical.py" "$run/documents"
check "messages are valid by the schemas of OASIS" "$venv/bin/python" "$here/saml/schemas.py" "$run/messages"

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
