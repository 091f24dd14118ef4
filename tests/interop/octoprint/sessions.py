"""Several people in one browser: OctoPrint's own session outlives neither the person who signs in at the sidecar nor their groups."""

import json
import time
from urllib.parse import urlsplit

import requests
import websocket
from world import check, command

JSON = {"Accept": "application/json"}
CACHED = 1.3  # seconds: what the sidecar read of a session serves the next requests for one


class Tab:
    """A browser that keeps its cookies, and sends OctoPrint's CSRF token with what it posts."""

    def __init__(self, public, provider):
        self.public, self.provider, self.kept = public, provider, requests.Session()

    def sign_in(self, who, groups):
        self.provider.who, self.provider.groups = who, groups
        answer = self.kept.get(self.public, headers={"Accept": "text/html"}, timeout=60)
        assert answer.status_code == 200, answer

    def sign_out(self):
        same = {"Accept": "text/html", "Origin": self.public, "Sec-Fetch-Site": "same-origin"}
        answer = self.kept.post(f"{self.public}/.loginsync/sign-out", headers=same, timeout=30)
        assert answer.status_code == 200, answer

    def tokens(self):
        return [cookie.value for cookie in self.kept.cookies if cookie.name.startswith("csrf_token")]

    def post(self, path, **more):
        headers = {**JSON, "X-CSRF-Token": self.tokens()[-1]}
        return self.kept.post(self.public + path, headers=headers, timeout=30, **more)

    def person(self):
        """Who OctoPrint says it is: at a look, and to its own page, which logs in passively."""
        looked = self.kept.get(f"{self.public}/api/currentuser", headers=JSON, timeout=30).json()
        passive = self.post("/api/login", json={"passive": True}).json()
        return [(found["name"], sorted(found["groups"])) for found in (looked, passive)]

    def administers(self):
        return self.kept.get(f"{self.public}/api/access/users", headers=JSON, timeout=30).status_code == 200

    def pushed(self, key):
        """Whether the socket of OctoPrint's page takes a key: what it says after it."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.kept.cookies)
        address = f"ws://{urlsplit(self.public).netloc}/sockjs/websocket"
        socket = websocket.create_connection(address, cookie=cookies, origin=self.public, timeout=15)
        try:
            assert "connected" in json.loads(socket.recv()), "the first message"
            socket.send(json.dumps({"auth": key}))
            for _ in range(20):
                said = json.loads(socket.recv())
                if "reauthRequired" in said:
                    return "refused"
                if "history" in said or "current" in said:
                    return "taken"
        finally:
            socket.close()
        return "unanswered"


def of_octoprint_alone(app):
    """The session of an administrator as OctoPrint sets it without the sidecar. Returns its cookie's value."""
    told = {"Accept": "text/html", "Remote-User": "alice", "Remote-Groups": "admins"}
    browser = requests.Session()
    browser.get(app, headers=told, timeout=60)
    name = f"session_P{urlsplit(app).port}"
    value = browser.cookies[name]
    other = {**JSON, "Remote-User": "bob", "Remote-Groups": "users"}
    found = requests.get(f"{app}/api/currentuser", headers=other, cookies={name: value}, timeout=30).json()
    check("one browser: OctoPrint alone believes its own session, and not the headers", found["name"], "alice")
    return value


def checks(world, public, app, provider):
    tab = Tab(public, provider)
    tab.sign_in("alice", ["staff", "it-admins"])
    check("one browser: alice, an administrator", tab.person(), [("alice", ["admins", "users"])] * 2)
    check("one browser: she may do what administrators may", tab.administers(), True)
    command(world, "user", "deny", "company/alice", "--group", "admins", "--reason", "a test")
    time.sleep(CACHED)
    check("one browser: alice, demoted while she is signed in", tab.person(), [("alice", ["users"])] * 2)
    check("one browser: she may do so no more", tab.administers(), False)
    command(world, "user", "undeny", "company/alice", "--group", "admins")
    time.sleep(CACHED)
    check("one browser: alice, promoted again", tab.person(), [("alice", ["admins", "users"])] * 2)
    tab.sign_out()
    tab.sign_in("bob", ["staff"])
    check("one browser: bob after alice", tab.person(), [("bob", ["users"])] * 2)
    check("one browser: bob is no administrator", tab.administers(), False)
    tab.sign_out()
    tab.sign_in("alice", [])
    check("one browser: alice again, without a group", tab.person(), [("alice", [])] * 2)
    tab.sign_out()
    tab.sign_in("bob", ["staff"])
    # What bob may have kept of a time when he, or alice, was an administrator there.
    stale, ports = of_octoprint_alone(app), [urlsplit(address).port for address in (app, public)]
    for name in ["session", *(f"session_P{port}" for port in ports)]:
        tab.kept.cookies.set(name, stale, domain="127.0.0.1", path="/")
    check("one browser: bob with alice's cookies of OctoPrint", tab.person(), [("bob", ["users"])] * 2)
    check("one browser: and no administrator by them", tab.administers(), False)
    works(tab)


def works(tab):
    """What OctoPrint's page does works without OctoPrint's session."""
    key = tab.post("/api/login", json={"passive": True}).json()["session"]
    check("one browser: the socket takes the key of the page", tab.pushed(f"bob:{key}"), "taken")
    check("one browser: and no other", tab.pushed("bob:0"), "refused")
    file = {"file": ("cube.gcode", b"G28\n", "text/plain")}
    check("one browser: an upload", tab.post("/api/files/local", files=file).status_code, 201)
    listed = tab.kept.get(f"{tab.public}/api/files/local/cube.gcode", headers=JSON, timeout=30)
    check("one browser: what was uploaded", listed.json().get("name"), "cube.gcode")
    without = tab.kept.post(f"{tab.public}/api/files/local", files=file, headers=JSON, timeout=30)
    check("one browser: an upload without the CSRF token", without.status_code, 400)
    made = tab.post("/api/files/local", files={"foldername": (None, "cubes")})
    check("one browser: a form", made.status_code, 201)
