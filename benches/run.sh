#!/bin/sh
# One run of the ratios, and the micro benchmarks of mappings and of SAML. Takes about five minutes on two cores; loopback only.
# Parts of the ratios can be named: proxy, logins, mappings, start. BENCH_BEFORE=FILE names an earlier build of loginsync,
# which is then measured against this one by turns (part `before`).
set -eu
cd "$(dirname "$0")/.."

missing=
for program in nginx haproxy xmlsec1 taskset; do
    command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing="$missing $program"
done
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    packages=$(echo "$missing" | sed 's/taskset/util-linux/')
    apt-get update -qq
    # Not started, only installed: the run starts its own.
    # shellcheck disable=SC2086
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >/dev/null
elif [ -n "$missing" ]; then
    echo "not installed:$missing; nginx and taskset are needed, the others make the comparison better" >&2
fi

cargo bench --locked --quiet --no-run --bench ratios --bench mapping --bench saml
cargo bench --locked --quiet --bench ratios -- "$@"
if [ $# -eq 0 ]; then
    cargo bench --locked --quiet --bench mapping --bench saml -- --warm-up-time 1 --measurement-time 3 --noplot
fi
