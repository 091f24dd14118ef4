"""Clients that generators made of the OpenAPI documents, unmodified, against the admin listener.

usage: generated.py GENERATOR FOLDER DOCUMENT URL CLIENT_ID CLIENT_SECRET

GENERATOR is `openapi-python-client` or `openapi-generator`, FOLDER holds the package `DOCUMENT` that it made, and DOCUMENT is
one of `v1`, `onelogin`, `opal`, `timbal` and `odc`. Both generators get the same calls: to list, read, create, change and
delete, and some that are refused. The first answer that is not as it should be ends the script with exit code 1, and so does an
operation of the document that was not called.
"""

import importlib
import inspect
import json
import pkgutil
import sys
import typing
import urllib.request

GENERATOR, FOLDER, DOCUMENT, URL, CLIENT, SECRET = sys.argv[1:]
sys.path.insert(0, FOLDER)
package = importlib.import_module(DOCUMENT)
used = set()


def modules(name):
    """Every module below a package, imported."""
    found = importlib.import_module(name)
    for one in pkgutil.walk_packages(found.__path__, f"{name}."):
        yield importlib.import_module(one.name)


def plain(name):
    """A name as both generators and the document have it, whatever they put between its words."""
    return name.replace("_", "").lower()


def model_of(annotation):
    """The class of a generated model within an annotation, if there is one."""
    if inspect.isclass(annotation) and hasattr(annotation, "from_dict"):
        return annotation
    return next(filter(None, map(model_of, typing.get_args(annotation))), None)


def made_of(function, parameter, body):
    model = model_of(typing.get_type_hints(function).get(parameter))
    if model is None or not isinstance(body, dict):
        return body
    # One generator's `from_dict` makes null of what is absent.
    return model.model_validate(body) if hasattr(model, "model_validate") else model.from_dict(body)


def as_data(value):
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    return [as_data(item) for item in value] if isinstance(value, list) else value


class PythonClient:
    """What openapi-python-client makes: a module for each operation."""

    def __init__(self, token):
        kind = package.AuthenticatedClient if token else package.Client
        token = {"token": token} if token else {}
        self.client = kind(base_url=URL + base(), raise_on_unexpected_status=True, **token)
        self.operations = {plain(module.__name__.rsplit(".", 1)[-1]): module for module in modules(f"{DOCUMENT}.api")}

    def call(self, operation, body, arguments):
        module = self.operations[plain(operation)]
        if body is not None:
            arguments["body"] = made_of(module._get_kwargs, "body", body)
        answer = module.sync_detailed(client=self.client, **arguments)
        return int(answer.status_code), as_data(answer.parsed)


class ApiClient:
    """What openapi-generator makes for Python: a class for each tag, a method for each operation."""

    def __init__(self, token):
        client = package.ApiClient(package.Configuration(host=URL + base(), access_token=token))
        classes = [kind for module in modules(f"{DOCUMENT}.api") for _, kind in inspect.getmembers(module, inspect.isclass)]
        self.operations = {}
        for kind in set(classes):
            if kind.__module__.startswith(f"{DOCUMENT}.api."):
                methods = inspect.getmembers(kind(client), inspect.ismethod)
                self.operations.update((plain(name), method) for name, method in methods)

    def call(self, operation, body, arguments):
        method = self.operations[plain(f"{operation}_with_http_info")]
        if body is not None:
            taken = set(arguments) | {"self"}
            parameter = next(
                name for name in inspect.signature(method).parameters
                if not name.startswith("_") and name not in taken and name not in ("confirm", "cursor", "limit")
            )
            arguments[parameter] = made_of(method, parameter, body)
        try:
            answer = method(**arguments)
        except package.ApiException as error:
            return error.status, json.loads(error.body)
        return answer.status_code, as_data(answer.data)


def base():
    return "/v1" if DOCUMENT == "opal" else ""


KINDS = {"openapi-python-client": PythonClient, "openapi-generator": ApiClient}
bearer = KINDS[GENERATOR](SECRET)


def call(operation, status, body=None, by=None, **arguments):
    used.add(operation)
    found, answer = (by or bearer).call(operation, body, arguments)
    if found not in (status if isinstance(status, tuple) else (status,)):
        sys.exit(f"FAIL {operation} {arguments} {body}: expected {status}, found {found}: {answer}")
    return answer


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"FAIL {what}: expected {expected!r}, found {found!r}")


def own(path):
    request = urllib.request.Request(URL + path, headers={"Authorization": f"Bearer {SECRET}"})
    return json.load(urllib.request.urlopen(request))


def v1():
    before = len(call("list_groups", 200)["items"])
    expect("a group", call("create_group", 201, {"name": "Generated", "roles": ["editor"]})["roles"], ["editor"])
    expect("one more group", len(call("list_groups", 200)["items"]), before + 1)
    expect("a change", call("update_group", 200, {"description": "x"}, name="Generated", if_match="*")["description"], "x")
    call("create_role", 201, {"name": "generated"})
    call("update_role", 200, {"description": "y"}, name="generated", if_match="*")
    expect("its description", call("show_role", 200, name="generated")["description"], "y")
    definition = {
        "provider": "okta",
        "when": [{"claim": "groups", "is": "generated"}],
        "then": [{"add_group": "Generated"}, {"add_role": "generated"}],
        "name": "generated",
    }
    made = call("create_mapping", 201, {"definition": definition})
    shown = call("show_mapping", 200, id=made["id"])
    expect("its value", shown["definition"]["when"][0]["is"], "generated")
    changed = {"definition": {**definition, "match": "any"}}
    expect("its join", call("update_mapping", 200, changed, id=made["id"], if_match="*")["definition"]["match"], "any")
    expect("it is listed", made["id"] in [one["id"] for one in call("list_mappings", 200)["items"]], True)
    wrong = {"definition": {**definition, "when": [{"claim": "grups", "is": "x"}]}}
    problem = call("update_mapping", 422, wrong, id=made["id"], if_match="*")
    expect("where", problem["errors"][0]["field"], "when[0].claim")
    call("update_mapping", 412, changed, id=made["id"], if_match='"77"')
    person = {"namespace": "okta", "subject": "generated"}
    call("assign_to_user", 204, kind="group", name="Generated", **person)
    expect("by hand", call("show_user", 200, **person)["groups"], ["Generated"])
    call("deny_user", 204, {"reason": "a test"}, kind="role", name="generated", **person)
    call("undeny_user", 204, kind="role", name="generated", **person)
    call("disable_user", 204, **person)
    expect("disabled", [one["enabled"] for one in call("list_users", 200)["items"] if one["subject"] == "generated"], [False])
    call("enable_user", 204, **person)
    call("list_group_members", 200, name="Generated")
    call("list_role_members", 200, name="generated")
    call("unassign_from_user", 204, kind="group", name="Generated", **person)
    new = {"users": [{"old": person, "new": {**person, "subject": "regenerated"}}]}
    expect("new keys, looked at", call("rekey_users", 200, new)["applied"], False)
    expect("no sessions", call("resync_user", 200, **person)["sessions"], [])
    expect("none to list", call("list_sessions_of_user", 200, **person)["items"], [])
    expect("none to end", call("end_sessions_of_user", 200, **person)["sessions"], 0)
    expect("planned", "brake_refuses" in call("plan_mappings", 200, {"change": {"id": made["id"]}}), True)
    many = {"changes": [{"definition": {**definition, "name": "one of many"}}, {"id": made["id"], **changed}]}
    looked = call("change_mappings", 200, many, if_match="*")
    expect("planned together", (looked["applied"], "brake_refuses" in looked["plan"]), (False, True))
    wrong = {"apply": True, "changes": [*many["changes"], {"id": "999999"}]}
    expect("all or none", call("change_mappings", 422, wrong, if_match="*")["errors"][0]["field"], "changes[2].id")
    done = call("change_mappings", 200, {"apply": True, **many}, if_match="*")["changes"]
    expect("together", [one["result"] for one in done], ["created", "changed"])
    done = call("change_mappings", 200, {"apply": True, "changes": [{"id": done[0]["id"], "version": 1}]}, if_match="*")
    expect("one taken away", done["changes"][0]["result"], "deleted")
    expect("applied", call("apply_mappings", 200, {})["people"], 0)
    decided = call("explain_login", 200, {"provider": "okta", "claims": {"sub": "generated", "groups": ["generated"]}})
    expect("explained", isinstance(decided, dict), True)
    call("erase_user", 200, forget=True, **person)
    order = [one["id"] for one in call("list_mappings", 200)["items"] if one["origin"] == "store" and one.get("position")]
    call("sort_mappings", 204, {"ids": order[::-1]}, if_match="*")
    expect("released", call("release_holds", 200, {"provider": "okta"})["holds"], 0)
    expect("discarded", call("discard_holds", 200, {"provider": "okta"})["holds"], 0)
    expect("a provider", call("show_provider", 200, name="okta")["protocol"], "oidc")
    call("delete_mapping", 204, id=made["id"], if_match="*")
    call("delete_role", 204, name="generated", if_match="*")
    call("delete_group", 204, name="Generated", if_match="*")
    expect("gone", call("show_group", 404, name="Generated")["status"], 404)
    expect("a receiver", [one["name"] for one in call("list_deliveries", 200)["items"]], ["app"])
    expect("its state", call("show_delivery", 200, name="app")["receiver"]["name"], "app")
    expect("paused", call("steer_delivery", 200, name="app", act="pause")["state"], "paused")
    expect("a test", call("test_delivery", 200, name="app")["works"], False)
    call("retry_delivery", 200, {"all": True}, name="app")
    call("resync_delivery", 200, {"all": True}, name="app")
    expect("it is told again", call("steer_delivery", 200, name="app", act="resume")["state"] != "paused", True)
    # No name is used twice, so that each generator has its own.
    name = f"of-{GENERATOR}"
    expect("a client", call("create_client", 201, {"name": name, "scopes": ["read"]})["client_id"], name)
    expect("it is listed", name in [one["name"] for one in call("list_clients", 200)["items"]], True)
    call("revoke_client", 204, name=name)
    expect("no operator", call("list_console_sessions", 200)["items"], [])
    expect("none to end", call("end_console_session", 404, id="unknown")["status"], 404)
    expect("the configuration", len(call("show_configuration", 200)["tables"]) > 0, True)
    # Once a minute.
    call("verify_audit", (202, 409))
    call("show_audit_verification", 200)
    for operation in ("list_roles", "list_stages", "list_providers", "list_holds", "list_leases", "list_audit", "list_mapping_hits", "list_unmapped_values"):
        call(operation, 200)


def onelogin():
    credentials = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET}
    stranger = KINDS[GENERATOR](None)
    first = call("generate_token", 200, credentials, by=stranger)["access_token"]
    wrong = {**credentials, "client_secret": "x" * 43}
    expect("refused", call("generate_token", 401, wrong, by=stranger)["status"]["code"], 401)
    second = call("generate_token_version1", 200, credentials, by=stranger)["data"][0]["access_token"]
    by_token = KINDS[GENERATOR](first)
    call("revoke_token", 200, {"access_token": second}, by=by_token)
    call("revoke_token_version2", 200, {"access_token": first}, by=by_token)
    call("list_mappings", 401, by=by_token)
    mapping = {
        "name": "generated",
        "match": "all",
        "enabled": True,
        "position": None,
        "conditions": [{"source": "last_login", "operator": ">", "value": "90"}],
        "actions": [{"action": "set_status", "value": ["2"]}],
    }
    before = len(call("list_mappings", 200))
    made = call("create_mapping", 201, mapping)["id"]
    expect("one more mapping", len(call("list_mappings", 200)), before + 1)
    expect("its condition", call("get_mapping", 200, id=made)["conditions"], mapping["conditions"])
    call("update_mapping", 200, {**mapping, "name": "regenerated"}, id=made)
    expect("its name", call("get_mapping", 200, id=made)["name"], "regenerated")
    order = [one["id"] for one in call("list_mappings", 200)]
    expect("sorted", call("sort_mappings", 200, order[::-1]), order[::-1])
    call("sort_mappings", 422, order[1:])
    role = call("list_roles", 200)[0]
    expect("a role", call("get_role", 200, id=role["id"]), role)
    expect("nobody", call("list_users", 200, email="nobody@example.com"), [])
    expect("nobody by number", call("get_user", 404, id=999999)["statusCode"], 404)
    expect("tried on nobody", call("dryrun_mapping", 200, [], id=made), [])
    for operation in ("list_conditions", "list_actions", "get_rate_limit"):
        call(operation, 200)
    expect("operators", len(call("list_condition_operators", 200, source="last_login")), 2)
    expect("values", call("list_condition_values", 200, source="last_login"), [])
    expect("statuses", call("list_action_values", 200, action="set_status")[2]["value"], 2)
    wrong = {**mapping, "conditions": [{"source": "nothing", "operator": "=", "value": "x"}]}
    expect("where", call("create_mapping", 422, wrong)["errors"][0]["field"], "conditions.[0].source")
    call("delete_mapping", 204, id=made)
    expect("gone", call("get_mapping", 404, id=made)["statusCode"], 404)


def opal():
    app, group = own("/api/v1/providers/okta")["key"], own("/api/v1/groups/Staff")["key"]
    ids = {"app_resource_id": app, "group_id": group}
    made = call("create_idp_group_mapping", 200, {"alias": "Generated"}, **ids)
    expect("its alias", made["alias"], "Generated")
    call("create_idp_group_mapping", 200, {"hidden_from_end_user": True}, **ids)
    shown = call("get_idp_group_mapping", 200, **ids)
    expect("hidden, under its alias", (shown["alias"], shown["hidden_from_end_user"]), ("Generated", True))
    whole = {"mappings": [{"group_id": group, "hidden_from_end_user": False}]}
    replaced = call("update_idp_group_mappings", 200, whole, app_resource_id=app)["mappings"]
    expect("without an alias", replaced[0].get("alias"), None)
    expect("listed", len(call("get_idp_group_mappings", 200, app_resource_id=app)["mappings"]), 1)
    call("delete_idp_group_mappings", 200, **ids)
    expect("gone", call("get_idp_group_mapping", 404, **ids)["code"], 404)


def timbal():
    org = {"org_id": "1"}
    at = {"provider_id": "okta", **org}
    expect("connections", [one["id"] for one in call("list_connections", 200, **org)["identity_providers"]], ["okta"])
    expect("a connection", call("show_connection", 200, **at)["kind"], "oidc")
    role = next(one["id"] for one in call("list_roles", 200, **org)["roles"] if one["name"] == "editor")
    expect("a role", call("show_role", 200, role_id=role, **org)["name"], "editor")
    body = {"external_group": "generated", "role_id": int(role)}
    made = call("create_group_mapping", 201, body, **at)
    expect("its role", made["role_id"], role)
    call("create_group_mapping", 409, body, **at)
    listed = call("list_group_mappings", 200, **at)["group_role_mappings"]
    expect("listed", made["id"] in [one["id"] for one in listed], True)
    expect("a default", call("set_default_role", 200, {"role_id": int(role)}, **at)["default_role_id"], role)
    expect("no default", call("set_default_role", 200, {"role_id": None}, **at)["default_role_id"], None)
    call("delete_group_mapping", 204, mapping_id=made["id"], **at)
    expect("gone", call("delete_group_mapping", 404, mapping_id=made["id"], **at)["code"], "NOT_FOUND")
    for operation, where in (("create_connection", org), ("change_connection", at), ("delete_connection", at)):
        expect("not here", call(operation, 403, **where)["code"], "FORBIDDEN")


def odc():
    stranger = KINDS[GENERATOR](None)
    expect("where to take tokens", call("discover", 200, by=stranger)["token_endpoint"], f"{URL}/identity/connect/token")
    form = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET}
    # One generator takes the fields of a form one by one.
    form = {"body": form} if GENERATOR == "openapi-python-client" else form
    token = call("generate_token", 200, by=stranger, **form)["access_token"]
    call("list_groups", 200, by=KINDS[GENERATOR](token))
    provider = call("list_identity_providers", 200)["results"][0]["key"]
    expect("a provider", call("show_identity_provider", 200, key=provider)["name"], "okta")
    before = call("list_groups", 200)["page"]["totalResults"]
    group = call("create_group", 201, {"name": "Generated", "applicationRoleKeys": [], "environmentKey": None})["key"]
    expect("one more group", call("list_groups", 200)["page"]["totalResults"], before + 1)
    call("update_group", 204, {"description": "x"}, key=group)
    expect("a change", call("show_group", 200, key=group)["description"], "x")
    role = call("list_application_roles", 200)["results"][0]["key"]
    call("update_group_roles", 200, {"applicationRoleKeysToAdd": [role]}, key=group)
    expect("its roles", [one["key"] for one in call("list_group_roles", 200, key=group)["results"]], [role])
    claim = {"providerKey": provider, "foreignClaim": {"name": "groups", "value": "generated"}}
    mapping = call("create_claim_mapping", 201, claim, key=group)["key"]
    shown = call("show_group", 200, key=group)["groupIdpClaimMappings"]
    expect("its claim", shown[0]["foreignClaim"]["value"], "generated")
    wrong = {"providerKey": provider, "foreignClaim": {"name": "groups", "value": "it's"}}
    expect("a quote", call("create_claim_mapping", 400, wrong, key=group)["errorCode"], "OS-ID-BIZ-40001")
    call("update_claim_mapping", 204, {"foreignClaim": {"value": "other"}}, key=group, mapping_key=mapping)
    call("delete_claim_mapping", 204, key=group, mapping_key=mapping)
    person = {"identityProviderKey": provider, "subject": "generated", "name": "Gene Rated"}
    user = call("create_user", 201, person)["key"]
    bulk = call("create_users", 202, {"records": [{**person, "subject": "generated too"}]})
    expect("made with others", call("show_bulk_operation", 200, key=bulk["key"])["status"], "Finished")
    call("delete_user", 204, key=bulk["operations"][0]["record"]["key"])
    call("update_user", 204, {"name": "Gene"}, key=user)
    expect("a new name", call("show_user", 200, key=user)["name"], "Gene")
    call("update_group_users", 200, {"userKeysToAdd": [user]}, key=group)
    expect("a member", len(call("list_group_users", 200, key=group)["results"]), 1)
    expect("its group", len(call("list_user_groups", 200, key=user)["results"]), 1)
    call("grant_user_role", 201, key=user, role_key=role)
    expect("its role", len(call("list_user_roles", 200, key=user)["results"]), 1)
    call("list_role_users", 200, key=role)
    call("revoke_user_role", 204, key=user, role_key=role)
    expect("users", call("count_users", 200)["userCount"] >= 1, True)
    call("list_users", 200)
    call("delete_user", 204, key=user)
    call("delete_group", 204, key=group)
    expect("gone", call("show_group", 404, key=group)["status"], 404)


{"v1": v1, "onelogin": onelogin, "opal": opal, "timbal": timbal, "odc": odc}[DOCUMENT]()
path = "/api/v1/openapi.json" if DOCUMENT == "v1" else f"/openapi/{DOCUMENT}.json"
every = {operation["operationId"] for methods in own(path)["paths"].values() for operation in methods.values()}
called = set(map(plain, used))
expect("operations that were not called", [name for name in every if plain(name) not in called], [])
print(f"{len(every)} operations")
