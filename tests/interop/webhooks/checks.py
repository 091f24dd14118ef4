"""Runs a sidecar with two receivers, changes what people hold, and looks at what the receivers believe."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

bin_, libraries, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
here = pathlib.Path(__file__).parent
NEW, OLD = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
running, passed, failed = [], 0, 0


def free():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def start(name, *words, **more):
    out = open(folder / f"{name}.out", "w")
    running.append(subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, cwd=folder, **more))


def messages(name):
    lines = (folder / f"{name}.out").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def within(seconds, look):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    return look()


def check(what, holds):
    global passed, failed
    print(("ok      " if holds else "FAILED  ") + what)
    passed, failed = passed + bool(holds), failed + (not holds)


def command(*words):
    done = subprocess.run([bin_, *words, "--config", "loginsync.toml"], cwd=folder, capture_output=True, text=True)
    return done.returncode


ports = {"python": free(), "node": free(), "other": free()}
proxy, admin = free(), free()
(folder / "jwks.json").write_text(
    '{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
)
# While a secret changes, both sign: one receiver has the old one still.
(folder / "both.secret").write_text(f"{NEW}\n{OLD}\n")
(folder / "loginsync.toml").write_text(
    f"""
public_url = "https://app.example.com"
[listen]
address = "127.0.0.1:{proxy}"
[admin]
address = "127.0.0.1:{admin}"
[app]
url = "http://127.0.0.1:1"
[[provider]]
name = "okta"
mode = "oidc-form-post"
issuer = "https://acme.okta.com"
client_id = "the-app"
callback = "/callback"
jwks_file = "jwks.json"
authorization_endpoint = "https://acme.okta.com/authorize"
[[group]]
name = "Märkte"
"""
    + "".join(
        f'[[webhook]]\nname = "{name}"\nurl = "http://127.0.0.1:{port}/hook"\nsecret_file = "both.secret"\n'
        for name, port in ports.items()
    )
)
try:
    start("python", sys.executable, "-B", str(here / "receiver.py"), str(ports["python"]), NEW)
    start("node", "node", str(here / "receiver.cjs"), str(ports["node"]), OLD, env={**os.environ, "NODE_PATH": libraries})
    # A receiver with a secret of its own believes nothing.
    foreign = "whsec_YSBzZWNyZXQgdGhhdCBub2JvZHkgZWxzZSBoYXM="
    start("other", sys.executable, "-B", str(here / "receiver.py"), str(ports["other"]), foreign)
    start("loginsync", bin_, "serve", "--config", "loginsync.toml")
    check("the sidecar starts", within(20, lambda: command("health") == 0))
    for name in ("python", "node"):
        check(f"a ping is believed in {name}", within(10, lambda: command("delivery", "test", name) == 0))
    check("a ping is not believed with another secret", command("delivery", "test", "other") == 1)
    command("user", "assign", "okta/zoë", "--group", "Märkte")
    for name in ("python", "node"):
        got = within(15, lambda: messages(name))
        check(f"{name} hears of a new member", got and got[0]["type"] == "user.created")
        check(f"{name} hears of the group", got and got[0]["data"]["after"]["groups"] == ["Märkte"])
    command("user", "unassign", "okta/zoë", "--group", "Märkte")
    for name in ("python", "node"):
        got = within(15, lambda: messages(name)[1:])
        removed = got and [(it["kind"], it["name"]) for it in got[0]["data"]["removed"]]
        check(f"{name} hears that the last group is gone", removed == [("group", "Märkte")])
    check("nothing is believed with another secret", messages("other") == [])
finally:
    for process in running:
        process.terminate()
    for process in running:
        process.wait()
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0)
