# One command for each thing that one does here; `make help` lists them.

SHELL := /bin/bash
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-postgres demo test reality torture torture-postgres postgres-versions oracle interleavings mutants fuzz interop traffic bench scale fixtures deny sbom reproducible static image-check

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

setup: ## install what the build needs, where it is missing
	@scripts/setup

setup-postgres: ## install a PostgreSQL server, on which the tests run the store where one is installed
	@scripts/setup postgres

demo: setup ## a provider, an app and loginsync on this machine, to look at (ARGS=--headless: it walks by itself and ends; ARGS=--replicas: three sidecars)
	@cargo run --locked -- demo $(ARGS)

test: setup ## formatting, lints and every test
	@scripts/test

reality: setup ## random rules and people: what `plan` and `explain` foretell is what reloads and logins do (ARGS=1000: rounds)
	@REALITY_ROUNDS=$(or $(ARGS),1000) cargo test --quiet --locked --test it -- --ignored --nocapture reality::

torture: setup ## one sidecar over its file, killed again and again for three minutes while people log in (ARGS=3600: seconds)
	@TORTURE_SECONDS=$(or $(ARGS),180) cargo test --quiet --locked --test it -- --ignored --nocapture torture::one_sidecar_for_long

torture-postgres: ## three sidecars over one PostgreSQL, killed, paused and crashed for five minutes while people log in (ARGS=3600: seconds)
	@scripts/setup torture
	@TORTURE_SECONDS=$(or $(ARGS),300) cargo test --quiet --locked --test it -- --ignored --nocapture torture::three_sidecars_for_long

postgres-versions: setup ## the tests of the store on PostgreSQL 14, 16, 17 and 18 (ARGS=VERSION: of the npm package)
	@scripts/postgres-versions $(ARGS)

oracle: ## the SAML tests with a second verifier (libxmlsec1), which must agree on every mutant (ARGS=1000000)
	@scripts/setup oracle
	@scripts/oracle $(ARGS)

interleavings: setup ## random writers that race: every order of their steps, by a model checker (ARGS=2000: rounds)
	@INTERLEAVINGS=$(or $(ARGS),2000) cargo test --quiet --locked --package loginsync-pipeline --test it -- --ignored --nocapture interleavings::

mutants: setup ## mutation testing of the pipeline: each change of its code must make a test fail (ARGS="--shard 0/50": a sample of them)
	@scripts/mutants $(ARGS)

fuzz: setup ## libFuzzer at every door that takes a stranger's bytes, guided by coverage, 25 seconds each (FUZZ_SECONDS=600, ARGS=DOOR: it alone)
	@scripts/fuzz $(ARGS)

interop: setup ## logins through Keycloak, to OctoPrint, gRPC, APIs, webhooks, SCIM and SAML with other people's clients and parsers, attacks on ten real servers
	@tests/interop/apis.sh
	@tests/interop/saml.sh
	@tests/interop/grpc.sh
	@tests/interop/console.sh
	@tests/interop/inside.sh
	@tests/interop/octoprint.sh
	@tests/interop/webhooks.sh
	@tests/interop/scim.sh
	@tests/interop/stacks.sh
	@tests/interop/run.sh $(ARGS)

traffic: setup ## twenty minutes of uploads, downloads, events, WebSockets and logins to three apps, with a reload each minute (TRAFFIC_MINUTES=5)
	@tests/interop/traffic.sh

bench: setup ## ratios against nginx and against the floor of the work a login needs
	@benches/run.sh $(ARGS)

scale: ## what logins cost with 1,000, 100,000 and a million users, over SQLite and PostgreSQL (ARGS="1000 100000")
	@scripts/setup torture
	@cargo bench --quiet --locked --bench scale -- $(ARGS)

fixtures: setup ## write the expected plans and the fixtures anew; look at the difference before you commit it
	@BLESS=1 cargo test --quiet --locked --test it $(ARGS)

deny: ## licences, sources, banned crates and known vulnerabilities of the dependencies (ARGS="licenses bans sources": those alone)
	@scripts/deny $(ARGS)

sbom: setup ## what the release binary is built from, as a CycloneDX document (ARGS=FILE: where to put it)
	@scripts/sbom $(ARGS)

reproducible: setup ## the static release binary, built twice in different folders: the same bytes
	@scripts/reproducible

static: setup ## a release binary that needs no library of the system it runs on (ARGS=FILE: where to put it)
	@scripts/static $(ARGS)

image-check: setup ## run the Dockerfile's steps in fresh Debian roots and start what comes out; needs root, no engine
	@scripts/image-check $(ARGS)
