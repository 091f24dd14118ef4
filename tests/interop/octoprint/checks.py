"""Logs people in to OctoPrint through the sidecar, and looks at OctoPrint's own groups after each login, or before it sees one."""

import os
import sys

import delivered
import sessions
import yaml
from provider import Provider
from world import HERE, RUN, Browser, World, check, counts, free_ports, kept_groups, log_in, until_up

SIDECAR, OCTOPRINT = sys.argv[1], sys.argv[2]


def by_headers(provider):
    (app_port,) = free_ports(1)
    app, world = f"http://127.0.0.1:{app_port}", World(SIDECAR, RUN / "headers")
    folder = world.octoprint(OCTOPRINT, app_port, yaml.safe_load((HERE / "config.yaml").read_text()), None)
    try:
        public = world.serve(app, provider.issuer)
        until_up(f"{app}/online.txt", world.started[0], "octoprint")
        follow(public, app, folder, provider)
        sessions.checks(world, public, app, provider)
    finally:
        world.end()


def follow(public, app, folder, provider):
    stories = [
        ("alice", ["staff"], ["users"], False),
        ("alice", ["staff", "it-admins"], ["admins", "users"], True),
        ("alice", ["guests"], ["readonly"], False),
        ("alice", ["it-admins"], ["admins"], True),
        ("alice", [], [], False),
        ("alice", ["unknown here"], [], False),
        ("alice", ["staff"], ["users"], False),
        ("bob", [], [], False),
        ("bob", ["it-admins"], ["admins"], True),
        ("bob", [], [], False),
    ]
    for who, groups, expected, administers in stories:
        browser, user = log_in(public, provider, who, groups)
        told = f"{who} with {groups or 'no group'}"
        check(f"{told}: OctoPrint knows them", user["name"], who)
        check(f"{told}: groups by OctoPrint's API", sorted(user["groups"]), expected)
        check(f"{told}: groups in OctoPrint's file", kept_groups(folder, who), expected)
        status, _ = browser.get(f"{public}/api/access/users", {"Accept": "application/json"})
        check(f"{told}: what administrators alone may see", status, 200 if administers else 403)
    stranger = {"Accept": "application/json", "Remote-User": "alice", "Remote-Groups": "admins", "Remote_User": "alice"}
    status, _ = Browser().get(f"{public}/api/currentuser", stranger)
    check("a stranger who sends the headers", status, 401)
    check("and changed nothing", kept_groups(folder, "alice"), ["users"])
    # What the sidecar is for: without it, a missing header keeps what there is.
    Browser().get(f"{app}/api/currentuser", {"Accept": "application/json", "Remote-User": "alice"})
    check("OctoPrint alone keeps groups that it is not told of", kept_groups(folder, "alice"), ["users"])


def main():
    provider = Provider()
    by_headers(provider)
    delivered.checks(SIDECAR, OCTOPRINT, provider)
    if counts["failed"] and os.environ.get("INTEROP_LOGS"):
        print((RUN / "loginsync.log").read_text()[-6000:])
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    raise SystemExit(counts["failed"] > 0)


main()
