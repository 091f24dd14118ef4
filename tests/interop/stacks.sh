#!/usr/bin/env bash
# The attack corpus (fixtures/attacks) against real servers: gunicorn and uWSGI with Flask, unicorn, puma and thin with Rack, PHP
# with Symfony's HttpFoundation behind `php -S` and behind nginx, Express, Tomcat, Jetty.
#
# usage: tests/interop/stacks.sh          (make interop runs it, too)
#
# Behind each stands an app of ours that takes tokens wherever its framework finds one, verifies them with a usual library, and
# writes down whom it knows. Every case is sent to it directly, where it has to believe many; then through loginsync, in each mode,
# with a genuine token of a person who is disabled and of one whom a gate denies. No case may make the app know them, but those that
# stacks/open.json names, with the reason.
# It ends what it started, whatever happens. The last line is `N passed, M failed`; the exit code is 0 only if all passed.
#
# Environment:
#   LOGINSYNC_BIN      the sidecar to test; default: target/debug/loginsync, built first
#   XDG_CACHE_HOME     where downloads are kept, in loginsync-interop/; default: ~/.cache
#   INTEROP_KEEP=1     keep the run's directory (journals, logs, believed.tsv: which stack believes which case)
#   INTEROP_ONLY=word  only the stacks whose name holds it; INTEROP_MODE=word only the modes
#   STACKS_SHARE=4     through the sidecar only every fourth case, others at each stack; without it, all
#   STACKS_MUTANTS=1000  so many cases with random changes as well, in each mode with tokens at each stack; STACKS_SEED makes them again
#   STACKS_ALL=1       print every case that got past, not the first twelve
#   STACKS_DIRECT=1    without the sidecar: which stack believes what, in believed.tsv of the run's directory
#
# Needs: bash, Python 3.10 or newer with venv, Node 20 or newer with npm, Java 17 or newer with Maven, and Debian's packages of Ruby
# and PHP. What is missing is installed by apt where that is possible; a stack that cannot be installed is left out, loudly.
set -euo pipefail

SUITE_LIMIT=900     # seconds: for all stacks, of which an idle machine takes a third
LEAST=7             # stacks: with fewer the run has failed

# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PYTHON=("gunicorn + Flask" "uWSGI + Flask")
RUBY=("unicorn + Rack" "puma + Rack" "thin + Rack")
PHP=("php -S + HttpFoundation" "nginx, php-fpm + HttpFoundation")
NODE=("Express")
JAVA=("Tomcat" "Jetty")
STACKS_SKIP=

without() {
    local why=$1 log=$2 stack
    shift 2
    say "!!! $why: without $*" >&2
    [ ! -f "$log" ] || tail -n 20 "$log" >&2
    for stack in "$@"; do STACKS_SKIP+="$stack|"; done
}

build_sidecar
lock_cache

missing_packages node nodejs npm npm python3 python3-venv javac default-jdk-headless mvn maven unicorn unicorn puma puma thin thin \
    /usr/share/doc/ruby-jwt ruby-jwt php php-cli /usr/share/doc/php-fpm php-fpm nginx nginx \
    /usr/share/php/Symfony/Component/HttpFoundation/autoload.php php-symfony-http-foundation
if ! install_packages "${missing[@]}"; then
    command -v node >/dev/null || stop_with "please install Node 20 or newer" "$run/apt.log"
    command -v javac >/dev/null && command -v mvn >/dev/null || without "no JDK or Maven" "$run/apt.log" "${JAVA[@]}"
    command -v unicorn >/dev/null && command -v puma >/dev/null && command -v thin >/dev/null || without "no Ruby" "$run/apt.log" "${RUBY[@]}"
    command -v php >/dev/null && command -v nginx >/dev/null || without "no PHP or nginx" "$run/apt.log" "${PHP[@]}"
fi

hash=$(sha256sum "$here/stacks/requirements.txt" | cut -c1-16)
STACKS_VENV=$cache/stacks-$hash
if [ ! -f "$STACKS_VENV/.ready" ]; then
    say "fetching the libraries of Python"
    rm -rf "$STACKS_VENV"
    if python3 -m venv "$STACKS_VENV" >"$run/pip.log" 2>&1 && bounded "$FETCH_LIMIT" "$STACKS_VENV/bin/pip" install --quiet \
        --disable-pip-version-check --only-binary :all: -r "$here/stacks/requirements.txt" >>"$run/pip.log" 2>&1; then
        touch "$STACKS_VENV/.ready"
    else
        without "pip could not install" "$run/pip.log" "${PYTHON[@]}"
    fi
fi

install_libraries "$here/stacks" || without "npm could not install" "$run/npm.log" "${NODE[@]}"

STACKS_JARS=$cache/jars-$(sha256sum "$here/stacks/pom.xml" | cut -c1-16)
STACKS_CLASSES=$run/classes
if [ ! -f "$STACKS_JARS/.ready" ]; then
    say "fetching the libraries of Java"
    rm -rf "$STACKS_JARS"
    if bounded "$FETCH_LIMIT" mvn -B -q -f "$here/stacks/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DoutputDirectory="$STACKS_JARS" >"$run/maven.log" 2>&1; then touch "$STACKS_JARS/.ready"; fi
fi
if ! javac -d "$STACKS_CLASSES" -cp "$STACKS_JARS/*" "$here/stacks/apps/App.java" >>"$run/maven.log" 2>&1; then
    without "the servlet does not compile" "$run/maven.log" "${JAVA[@]}"
fi
flock -u 9
prepared=$SECONDS

# Beside the libraries, so that Node finds them.
cp "$here"/stacks/*.js "$here"/stacks/package.json "$here"/stacks/open.json "$here/sidecar.js" "$here/checks.js" "$run"
cp -r "$here/stacks/apps" "$run"
ln -s "$libraries/node_modules" "$run/node_modules"
STACKS_FPM=$(compgen -c php-fpm | sort | tail -n 1)
STACKS_GROUPS=$groups STACKS_DIRECTORY=$run STACKS_CORPUS=$root/fixtures/attacks STACKS_LEAST=$LEAST
export STACKS_GROUPS STACKS_DIRECTORY STACKS_CORPUS STACKS_LEAST STACKS_SKIP STACKS_VENV STACKS_JARS STACKS_CLASSES STACKS_FPM
run_checks "$SUITE_LIMIT" node "$run/run.js"
say "prepared in $prepared s, checks in $((SECONDS - prepared)) s"
show_verdict
