// Timbal's own client (npm @timbal-ai/timbal-sdk), unmodified, against the admin listener. Started by apis.sh with URL and token.

import assert from "node:assert/strict";
import Timbal from "@timbal-ai/timbal-sdk";

const [url, token] = process.argv.slice(2);
let passed = 0;
const check = (what, found, expected) => {
  assert.deepEqual(found, expected, what);
  passed++;
  console.log(`ok   ${what}`);
};

const org = "loginsync";
const timbal = new Timbal({ token, baseUrl: url, orgId: org });
const api = timbal.getApiClient();
const asked = async (call) => (await call).data ?? (await call);
const refused = async (what, status, call) => {
  const error = await call.then(() => null, (error) => error);
  check(what, error?.statusCode, status);
  return error;
};
// Its `delete` reads a body where the document says 204, and complains though all went well.
const removed = async (what, path) => {
  const error = await api.delete(path).then(() => null, (error) => error);
  check(what, [undefined, 0].includes(error?.statusCode), true);
};

const base = `/orgs/${org}/identity-providers`;
const { identity_providers: providers } = await asked(api.get(base));
check("the providers", providers.map(({ provider_key }) => provider_key), ["okta"]);
const provider = `${base}/${providers[0].id}`;
check("one of them", (await asked(api.get(provider))).issuer, "https://idp.example/");
const before = (await asked(api.get(`${provider}/group-mappings`))).group_role_mappings;
const { roles } = await asked(api.get(`/orgs/${org}/iam/roles`));
const role = roles.find(({ name }) => name === "editor");
const made = await asked(api.post(`${provider}/group-mappings`, { external_group: "interop", role_id: role.id }));
check("a mapping is made", [made.external_group, typeof made.id, made.role_id], ["interop", "string", String(role.id)]);
const after = (await asked(api.get(`${provider}/group-mappings`))).group_role_mappings;
check("and listed", after.length, before.length + 1);
const twice = await refused("twice is refused", 409, api.post(`${provider}/group-mappings`, { external_group: "interop", role_id: role.id }));
check("in the vendor's words", twice.code, "ALREADY_EXISTS");
check("a default role", (await asked(api.put(`${provider}/default-role`, { role_id: role.id }))).default_role_id, String(role.id));
check("and none", (await asked(api.put(`${provider}/default-role`, { role_id: null }))).default_role_id, null);
await removed("it is taken away", `${provider}/group-mappings/${made.id}`);
check("as many as before", (await asked(api.get(`${provider}/group-mappings`))).group_role_mappings.length, before.length);
await refused("what is gone is not found", 404, api.get(`${base}/nothing`));
await refused("without a token", 401, new Timbal({ token: "wrong", baseUrl: url, orgId: org }).getApiClient().get(base));
console.log(`${passed} passed, 0 failed`);
