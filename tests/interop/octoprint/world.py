"""What the checks of OctoPrint share: parts that are started and ended, a browser, and a count."""

import http.client
import http.cookiejar
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from provider import SECRET

RUN = Path(sys.argv[3])
HERE = Path(__file__).parent
START_LIMIT = 90
counts = {"passed": 0, "failed": 0}


def check(what, found, expected):
    if found == expected:
        counts["passed"] += 1
        print(f"ok      {what}", flush=True)
    else:
        counts["failed"] += 1
        print(f"FAILED  {what}: found {found}, expected {expected}", flush=True)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def launch(name, command, environment=None):
    with open(RUN / f"{name}.log", "ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=RUN, env=environment)


def until_up(url, process, name):
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.3)
    print((RUN / f"{name}.log").read_text()[-4000:], file=sys.stderr)
    raise SystemExit(f"{name} does not start\n{counts['passed']} passed, {counts['failed'] + 1} failed")


class World:
    """OctoPrint, a sidecar before it, and whatever else is started, in one folder."""

    def __init__(self, sidecar, folder):
        self.sidecar, self.folder, self.file, self.started = sidecar, folder, folder / "loginsync.toml", []
        folder.mkdir()

    def octoprint(self, program, port, config, users):
        """Starts OctoPrint. Returns the folder that it keeps its users in."""
        folder = self.folder / "octoprint"
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if users:
            (folder / "users.yaml").write_text(yaml.safe_dump(users))
        words = [program, "serve", "--iknowwhatimdoing", "--host", "127.0.0.1", "--port", str(port)]
        self.started.append(launch("octoprint", [*words, "--basedir", str(folder)]))
        return folder

    def serve(self, app, issuer, more=""):
        """Starts a sidecar. Returns its address."""
        sidecar_port, admin_port = free_ports(2)
        (self.folder / "client.secret").write_text(SECRET)
        (self.folder / "client.secret").chmod(0o600)
        public = f"http://127.0.0.1:{sidecar_port}"
        values = {
            "PUBLIC_URL": public, "SIDECAR": f"127.0.0.1:{sidecar_port}", "ADMIN": f"127.0.0.1:{admin_port}", "APP": app,
            "ISSUER": issuer,
        }
        text = (HERE / "loginsync.toml").read_text() + more
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        self.file.write_text(text)
        process = launch("loginsync", [self.sidecar, "serve", "--config", str(self.file)])
        self.started.append(process)
        until_up(f"http://127.0.0.1:{admin_port}/readyz", process, "loginsync")
        return public

    def end(self):
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def command(world, *words):
    """Runs a command of the sidecar. Returns what it prints."""
    said = subprocess.run(
        [world.sidecar, *words, "--config", str(world.file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said
    return said.stdout


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


def kept_groups(folder, who, active=None):
    """What OctoPrint wrote down. `active`: only of an account that is so."""
    users = yaml.safe_load((folder / "users.yaml").read_text()) if (folder / "users.yaml").exists() else {}
    user = (users or {}).get(who)
    return sorted(user["groups"]) if user and active in (None, user["active"]) else None


def log_in(public, provider, who, groups):
    provider.who, provider.groups = who, groups
    browser = Browser()
    status, _ = browser.get(f"{public}/api/version", {"Accept": "text/html"})
    assert status in (200, 403), f"{who} is refused: {status}"
    _, body = browser.get(f"{public}/api/currentuser", {"Accept": "application/json"})
    return browser, json.loads(body)
