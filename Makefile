# One command for each thing that one does here; `make help` lists them.

SHELL := /bin/bash
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz interop bench fixtures deny image-check

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: ## install what the build needs, where it is missing
	@scripts/setup

demo: setup ## a provider, an app and loginsync on this machine, to look at (ARGS=--headless: it walks by itself and ends)
	@cargo run --quiet --locked -- demo $(ARGS)

test: setup ## formatting, lints and every test
	@scripts/test

fuzz: setup ## mutated input at every door that takes a stranger's bytes, a minute each (FUZZ_SECONDS=600, FUZZ_SEED=1)
	@cargo test --quiet --locked --test it -- --ignored --nocapture fuzz::every_door_for_long

interop: setup ## logins through Keycloak to an app of other people's libraries, and the APIs with clients of theirs
	@tests/interop/apis.sh
	@tests/interop/run.sh $(ARGS)

bench: setup ## ratios against nginx and against the floor of the work a login needs
	@benches/run.sh $(ARGS)

fixtures: setup ## write the expected plans and the fixtures anew; look at the difference before you commit it
	@BLESS=1 cargo test --quiet --locked --test it $(ARGS)

deny: ## licences, sources, banned crates and known vulnerabilities of the dependencies (ARGS="licenses bans sources": offline)
	@command -v cargo-deny >/dev/null || { echo "make deny needs cargo-deny: cargo install --locked cargo-deny" >&2; exit 1; }
	@cargo deny --locked check $(ARGS)

image-check: setup ## run the Dockerfile's steps in fresh Debian roots and start what comes out; needs root, no engine
	@scripts/image-check $(ARGS)
