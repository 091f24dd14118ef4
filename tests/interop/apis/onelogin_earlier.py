"""OneLogin's earlier client (PyPI `onelogin` 2.0.4), unmodified, against the admin listener.

usage: onelogin_earlier.py URL CLIENT_ID CLIENT_SECRET

It knows no address but the vendor's, so its requests are carried to ours on their way out.
"""

import sys

import requests
from onelogin.api.client import OneLoginClient

passed = 0


def check(what, found, expected):
    global passed
    if found != expected:
        sys.exit(f"FAIL {what}: expected {expected!r}, found {found!r}")
    passed += 1
    print(f"ok   {what}")


def carried_to(url):
    send = requests.Session.send

    def carried(session, request, **options):
        vendor = "https://us.onelogin.com"
        if not request.url.startswith((vendor, "https://api.us.onelogin.com")):
            sys.exit(f"FAIL a request to {request.url}")
        request.url = url + request.url.split(".onelogin.com", 1)[1]
        return send(session, request, **options)

    requests.Session.send = carried


def mapping(name, action, value):
    return {
        "name": name, "match": "all", "enabled": True, "position": None,
        "conditions": [{"source": "last_login", "operator": ">", "value": "90"}],
        "actions": [{"action": action, "value": [value]}],
    }


def main(url, client_id, secret):
    carried_to(url)
    client = OneLoginClient(client_id, secret, "us")

    def fine(what):
        check(f"{what}: no error", (client.error, client.error_description), (None, None))

    before = client.get_mappings()
    fine("a token, and the mappings")
    first = client.create_mapping(mapping("earlier one", "set_status", "2"))
    fine("a mapping is made")
    second = client.create_mapping(mapping("earlier two", "set_status", "1"))
    check("two more", len(client.get_mappings()), len(before) + 2)
    seen = client.get_mapping(first)
    fine("one mapping")
    check("its name", seen.name, "earlier one")
    check("its condition", seen.conditions[0]["value"], "90")
    check("its action", seen.actions[0]["value"], ["2"])
    changed = client.update_mapping(first, {**mapping("earlier first", "set_status", "2")})
    fine("a change")
    check("which is told", changed, first)
    check("and kept", client.get_mapping(first).name, "earlier first")
    order = [one.id for one in client.get_mappings()][::-1]
    client.mapping_sort(order)
    fine("the order")
    check("the conditions", "last_login" in [word["value"] for word in client.get_mapping_conditions()], True)
    check("their operators", [word["value"] for word in client.get_mapping_condition_operators("last_login")], [">", "<"])
    check("their values", isinstance(client.get_mapping_condition_values("has_role"), list), True)
    check("the actions", "add_role" in [word["value"] for word in client.get_mapping_actions()], True)
    check("their values", 2 in [word["value"] for word in client.get_mapping_action_values("set_status")], True)
    check("a dry run of nobody", client.dryrun_mapping(first, []), [])
    client.create_mapping({**mapping("bad", "set_status", "2"), "match": "some"})
    check("what is refused", client.error is not None, True)
    for one in (first, second):
        check("one is gone", client.delete_mapping(one), True)
    check("as many as before", len(client.get_mappings()), len(before))
    check("what is gone is not found", client.get_mapping(first), None)
    print(f"{passed} passed, 0 failed")


main(*sys.argv[1:])
