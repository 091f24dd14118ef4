"""Logs people in to OctoPrint through the sidecar, and looks at OctoPrint's own groups after each login."""

import http.client
import http.cookiejar
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from provider import SECRET, Provider

SIDECAR, OCTOPRINT, RUN = sys.argv[1], sys.argv[2], Path(sys.argv[3])
HERE = Path(__file__).parent
START_LIMIT = 90
passed = failed = 0


def check(what, found, expected):
    global passed, failed
    if found == expected:
        passed += 1
        print(f"ok      {what}", flush=True)
    else:
        failed += 1
        print(f"FAILED  {what}: found {found}, expected {expected}", flush=True)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def launch(name, command):
    with open(RUN / f"{name}.log", "wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=RUN)


def until_up(url, process, name):
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.3)
    print((RUN / f"{name}.log").read_text()[-4000:], file=sys.stderr)
    raise SystemExit(f"{name} does not start\n{passed} passed, {failed + 1} failed")


class Browser:
    """Keeps cookies and follows redirects."""

    def __init__(self):
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(jar)

    def get(self, url, headers=None):
        request = urllib.request.Request(url, headers=headers or {"Accept": "text/html"})
        try:
            with self.opener.open(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def kept_groups(who):
    """What OctoPrint wrote down."""
    users = yaml.safe_load((RUN / "octoprint" / "users.yaml").read_text()) or {}
    return sorted(users[who]["groups"]) if who in users else None


def log_in(public, provider, who, groups):
    provider.who, provider.groups = who, groups
    browser = Browser()
    status, _ = browser.get(f"{public}/api/version", {"Accept": "text/html"})
    assert status in (200, 403), f"{who} is refused: {status}"
    _, body = browser.get(f"{public}/api/currentuser", {"Accept": "application/json"})
    return browser, json.loads(body)


def checks(public, app, provider):
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
        check(f"{told}: groups in OctoPrint's file", kept_groups(who), expected)
        status, _ = browser.get(f"{public}/api/access/users", {"Accept": "application/json"})
        check(f"{told}: what administrators alone may see", status, 200 if administers else 403)
    stranger = {"Accept": "application/json", "Remote-User": "alice", "Remote-Groups": "admins", "Remote_User": "alice"}
    status, _ = Browser().get(f"{public}/api/currentuser", stranger)
    check("a stranger who sends the headers", status, 401)
    check("and changed nothing", kept_groups("alice"), ["users"])
    # What the sidecar is for: without it, a missing header keeps what there is.
    Browser().get(f"{app}/api/currentuser", {"Accept": "application/json", "Remote-User": "alice"})
    check("OctoPrint alone keeps groups that it is not told of", kept_groups("alice"), ["users"])


def main():
    provider = Provider()
    app_port, sidecar_port, admin_port = free_ports(3)
    app, public = f"http://127.0.0.1:{app_port}", f"http://127.0.0.1:{sidecar_port}"
    (RUN / "octoprint").mkdir()
    shutil.copy(HERE / "config.yaml", RUN / "octoprint" / "config.yaml")
    (RUN / "client.secret").write_text(SECRET)
    (RUN / "client.secret").chmod(0o600)
    text = (HERE / "loginsync.toml").read_text()
    values = {
        "PUBLIC_URL": public, "SIDECAR": f"127.0.0.1:{sidecar_port}", "ADMIN": f"127.0.0.1:{admin_port}", "APP": app,
        "ISSUER": provider.issuer,
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    (RUN / "loginsync.toml").write_text(text)
    started = []
    try:
        octoprint = [OCTOPRINT, "serve", "--iknowwhatimdoing", "--host", "127.0.0.1", "--port", str(app_port)]
        started.append(launch("octoprint", [*octoprint, "--basedir", str(RUN / "octoprint")]))
        started.append(launch("loginsync", [SIDECAR, "serve", "--config", str(RUN / "loginsync.toml")]))
        until_up(f"http://127.0.0.1:{admin_port}/readyz", started[1], "loginsync")
        until_up(f"{app}/online.txt", started[0], "octoprint")
        checks(public, app, provider)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    if failed and os.environ.get("INTEROP_LOGS"):
        print((RUN / "loginsync.log").read_text()[-6000:])
    print(f"{passed} passed, {failed} failed")
    raise SystemExit(failed > 0)


main()
