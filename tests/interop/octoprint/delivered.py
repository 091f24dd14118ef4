"""OctoPrint takes no groups from headers: its own follow by delivery, and it sees no login before."""

import base64
import http.client
import json
import os
import secrets
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from world import RUN, Browser, World, check, command, free_ports, kept_groups, launch, log_in, until_up

HERE = Path(__file__).parent
KEY_HOLDER = "loginsync"


class Door:
    """Stands before OctoPrint and notes what its own list says when a request about a person arrives."""

    def __init__(self, port, folder):
        self.arrivals = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                who = self.headers["Remote-User"]
                if who:
                    door.arrivals.append((who, kept_groups(folder, who)))
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                upstream.request("GET", self.path, headers=dict(self.headers))
                answer = upstream.getresponse()
                body = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def first(self):
        """What the list said as the first request of the last login arrived."""
        found, self.arrivals = self.arrivals[:1], []
        return found


def receiver(world, port, app, key, secret):
    environment = {
        **os.environ, "OCTOPRINT_URL": app, "OCTOPRINT_API_KEY": key, "OCTOPRINT_KEY_HOLDER": KEY_HOLDER, "PORT": str(port),
        "VERSIONS_FILE": str(world.folder / "versions.json"), "WEBHOOK_SECRET": secret,
    }
    process = launch("receiver", [sys.executable, "-B", str(HERE / "receiver.py")], environment)
    world.started.append(process)
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        try:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/", b"{}"), timeout=5)
        except urllib.error.HTTPError as error:
            check("a message without a signature", error.code, 401)
            return process
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the receiver does not start")


def until(what, found, expected):
    limit = time.monotonic() + 20
    while time.monotonic() < limit and found() != expected:
        time.sleep(0.1)
    check(what, found(), expected)


def checks(sidecar, octoprint, provider):
    key, secret = secrets.token_hex(16), "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    receiver_port, app_port = free_ports(2)
    app = f"http://127.0.0.1:{app_port}"
    world = World(sidecar, RUN / "delivered")
    users = {KEY_HOLDER: {"active": True, "apikey": key, "groups": ["admins"], "password": "none", "permissions": []}}
    config = yaml.safe_load((HERE / "config.yaml").read_text())
    config["accessControl"]["trustRemoteGroups"] = False
    folder = world.octoprint(octoprint, app_port, config, users)
    door = Door(app_port, folder)
    (world.folder / "webhook.secret").write_text(secret)
    (world.folder / "webhook.secret").chmod(0o600)
    more = (HERE / "delivery.toml").read_text().replace("@RECEIVER@", str(receiver_port))
    try:
        until_up(f"{app}/online.txt", world.started[0], "octoprint")
        hook = receiver(world, receiver_port, app, key, secret)
        public = world.serve(f"http://127.0.0.1:{door.server.server_port}", provider.issuer, more)
        check("a ping", command(world, "delivery", "test", "octoprint").split(), ["ping", "taken"])
        stories = [
            ("alice", ["staff", "it-admins"], ["admins", "users"], True),
            ("alice", ["staff"], ["users"], False),
            ("alice", ["it-admins"], ["admins"], True),
            ("alice", [], [], False),
            ("bob", ["staff"], ["users"], False),
            ("bob", ["unknown here"], [], False),
            ("alice", ["staff"], ["users"], False),
        ]
        for who, groups, expected, administers in stories:
            browser, user = log_in(public, provider, who, groups)
            told = f"delivered: {who} with {groups or 'no group'}"
            check(f"{told}: OctoPrint's own list before it sees the login", door.first(), [(who, expected)])
            check(f"{told}: groups by OctoPrint's API", sorted(user["groups"]), expected)
            status, _ = browser.get(f"{public}/api/access/users", {"Accept": "application/json"})
            check(f"{told}: what administrators alone may see", status, 200 if administers else 403)
            door.first()
        # What an operator does follows without a login.
        command(world, "user", "assign", "company/alice", "--group", "readonly")
        until("delivered: what an operator assigns", lambda: kept_groups(folder, "alice"), ["readonly", "users"])
        command(world, "user", "unassign", "company/alice", "--group", "readonly")
        until("delivered: and takes back", lambda: kept_groups(folder, "alice"), ["users"])
        # A receiver that is away lets no one in who would keep what they have lost.
        hook.terminate()
        hook.wait(10)
        provider.who, provider.groups = "alice", []
        status, _ = Browser().get(f"{public}/api/version")
        check("delivered: a login that loses a group while the receiver is away", status, 503)
        check("delivered: OctoPrint has not seen it", door.first(), [])
        receiver(world, receiver_port, app, key, secret)
        command(world, "delivery", "retry", "octoprint")
        log_in(public, provider, "alice", [])
        check("delivered: the same once the receiver is back", door.first(), [("alice", [])])
        command(world, "user", "disable", "company/bob")
        until("delivered: a disabled user", lambda: kept_groups(folder, "bob", active=True), None)
        check("delivered: the account of the key is as it was", kept_groups(folder, KEY_HOLDER), ["admins"])
        shown = json.loads(command(world, "delivery", "list", "--json"))[0]
        check("delivered: nothing is pending", (shown["state"], shown["pending"], shown["stuck"]), ("delivers", 0, 0))
    finally:
        world.end()
