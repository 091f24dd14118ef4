"""Opal's own client against loginsync: argument 1 is the address, argument 2 the secret of an API client."""

import json
import sys
import urllib.request

import opal_security as opal

url, secret = sys.argv[1], sys.argv[2]


def own(path):
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {secret}"})
    return json.load(urllib.request.urlopen(request))


app = own("/api/v1/providers/okta")["key"]
group = own("/api/v1/groups/Staff")["key"]
client = opal.ApiClient(opal.Configuration(host=url + "/v1", access_token=secret))
api = opal.IdpGroupMappingsApi(client)

made = api.create_idp_group_mapping(app, group)
assert str(made.group_id) == group and made.hidden_from_end_user is False, made
body = opal.CreateIdpGroupMappingRequest(alias="Crew", hidden_from_end_user=True)
changed = api.create_idp_group_mapping(app, group, body)
assert changed.alias == "Crew" and changed.hidden_from_end_user is True, changed
kept = api.create_idp_group_mapping(app, group, opal.CreateIdpGroupMappingRequest(hidden_from_end_user=False))
assert kept.alias == "Crew" and kept.hidden_from_end_user is False, kept
shown = api.get_idp_group_mapping(app, group)
assert shown.alias == "Crew", shown
listed = api.get_idp_group_mappings(app)
assert len(listed.mappings) == 1, listed
api.delete_idp_group_mappings(app, group)
try:
    api.get_idp_group_mapping(app, group)
    raise SystemExit("expected 404")
except opal.exceptions.NotFoundException:
    pass
print("ok")
