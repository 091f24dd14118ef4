"""OneLogin's own client (PyPI `onelogin` 4.x), unmodified, against the admin listener.

usage: onelogin_client.py URL CLIENT_ID CLIENT_SECRET

Takes a token, makes, lists, changes, sorts and deletes mappings, asks for the vocabulary, and ends the token. The first thing
that is not as it should be ends it with exit code 1.
"""

import json
import sys

import onelogin
from onelogin.api.o_auth2_api import OAuth2Api
from onelogin.api.user_mappings_api import UserMappingsApi
from onelogin.models.action_obj import ActionObj
from onelogin.models.condition import Condition
from onelogin.models.generate_token_request import GenerateTokenRequest
from onelogin.models.mapping import Mapping
from onelogin.models.revoke_tokens_request import RevokeTokensRequest
from onelogin.rest import ApiException

passed = 0


def check(what, found, expected):
    global passed
    if found != expected:
        sys.exit(f"FAIL {what}: expected {expected!r}, found {found!r}")
    passed += 1
    print(f"ok   {what}")


def refused(what, status, call):
    try:
        call()
    except ApiException as error:
        check(what, error.status, status)
        return json.loads(error.body)
    sys.exit(f"FAIL {what}: was not refused")


def raw(call, *arguments, **options):
    """The body as it came: some of the client's models ask for more than the vendor answers."""
    answer = call(*arguments, _preload_content=False, **options)
    return json.loads(answer.raw_data)


def mapping(name, action, value):
    return Mapping(
        name=name,
        match="all",
        enabled=True,
        position=None,
        conditions=[Condition(source="last_login", operator=">", value="90")],
        actions=[ActionObj(action=action, value=[value])],
    )


def main(url, client, secret):
    basic = onelogin.Configuration(host=url, username=client, password=secret)
    oauth = OAuth2Api(onelogin.ApiClient(basic))
    token = oauth.generate_token(GenerateTokenRequest(grant_type="client_credentials"))
    check("a token for ten hours", token.expires_in, 36000)

    bearer = onelogin.Configuration(host=url)
    # Its constructor takes one, and forgets it.
    bearer.access_token = token.access_token
    client_api = onelogin.ApiClient(bearer)
    api = UserMappingsApi(client_api)

    before = len(api.list_mappings())
    first = raw(api.create_mapping_with_http_info, mapping=mapping("interop one", "set_status", "2"))["id"]
    second = raw(api.create_mapping_with_http_info, mapping=mapping("interop two", "set_status", "1"))["id"]
    check("two more mappings", len(api.list_mappings()), before + 2)
    check("none is disabled", [one.name for one in api.list_mappings(enabled=False)], [])
    check("a filter", [one.name for one in api.list_mappings(has_action="set_status:2")], ["interop one"])
    seen = api.get_mapping(first)
    check("the condition comes back", seen.conditions[0].value, "90")
    check("the action comes back", seen.actions[0].value, ["2"])

    raw(api.update_mapping_with_http_info, first, body={"name": "interop first"})
    check("what is left out stays", api.get_mapping(first).actions[0].value, ["2"])
    check("its new name", api.get_mapping(first).name, "interop first")
    order = [one.id if hasattr(one, "id") else one["id"] for one in raw_list(api)]
    order.reverse()
    check("sorted", api.sort_mappings(order), order)
    body = refused("not all of them", 422, lambda: api.sort_mappings(order[1:]))
    check("why", body["errors"][0]["message"], ["Sorting list must contain all mapping IDs"])

    conditions = raw(api.list_mapping_conditions_with_http_info)
    check("conditions", "last_login" in [word["value"] for word in conditions], True)
    check("operators", [word.value for word in api.list_mapping_conditions_operators("last_login")], [">", "<"])
    check("values of a role", isinstance(api.list_mapping_contion_values("has_role"), list), True)
    check("actions", "add_role" in [word.value for word in api.list_mappings_actions()], True)
    statuses = api.list_mapping_action_values("set_status")
    check("values of a status", statuses[2].value, 2)

    wrong = refused("a bad operator", 422, lambda: raw(api.update_mapping_with_http_info, first, body={"conditions": [
        {"source": "last_login", "operator": "contains", "value": "90"}]}))
    check("where", wrong["errors"][0]["field"], "conditions.[0].operator")
    for one in (first, second):
        api.delete_mapping(one)
    check("as many as before", len(api.list_mappings()), before)
    refused("gone", 404, lambda: api.get_mapping(first))

    check("revoked", oauth.revoke_tokens(
        revoke_tokens_request=RevokeTokensRequest(access_token=token.access_token)).message, "Success")
    refused("no longer good", 401, lambda: api.list_mappings())
    print(f"{passed} passed, 0 failed")


def raw_list(api):
    return raw(api.list_mappings_with_http_info)


main(*sys.argv[1:])
