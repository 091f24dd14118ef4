// The modes in which the corpus is shown: the sidecar's configuration, what an app behind it counts as knowing a person, and how
// an honest person enters.

import { CLIENT } from "./provider.js";
import { request } from "./corpus.js";

const common = ({ proxy, app, admin }) => `
public_url = "https://app.example"
[listen]
address = "127.0.0.1:${proxy}"
max_connections = 100
[app]
url = "http://127.0.0.1:${app}"
response_timeout = "5s"
[admin]
address = "127.0.0.1:${admin}"
[log]
level = "debug"
[store]
path = "loginsync.db"
synchronous = "normal"
[[group]]
name = "Staff"
[[mapping]]
name = "staff"
when = [{ claim = "groups", is = "staff" }]
then = [{ add_group = "Staff" }]
[[gate]]
name = "no contractors"
deny = [{ claim = "groups", is = "contractors" }]
`;

const provider = (name, mode, issuer, more) => `
[[provider]]
name = "${name}"
mode = "${mode}"
issuer = "${issuer}"
${more}
[provider.claims.groups]
`;

const keys = `jwks_file = "jwks.json"`;
const FORM = [["Content-Type", "application/x-www-form-urlencoded"]];

export const MODES = {
  "bearer": {
    mode: "bearer",
    field: "access_token",
    namespaces: ["api", "edge"],
    config: (ports, { issuer, gateway }) => common(ports) + `[bearer]\ncookies = ["token"]\n`
      + provider("api", "bearer", issuer, `header = "authorization"\naudience = "${CLIENT}"\n${keys}`)
      + provider("edge", "bearer", gateway, `header = "cf-access-jwt-assertion"\naudience = "${CLIENT}"\n${keys}`),
    counts: (via) => !/id_token|^code$/.test(via),
    enter: (values) => [
      request({ headers: [["Cf-Access-Jwt-Assertion", "{{TOKEN}}"]] }, { token: values.gateway }),
      request({ headers: [["Authorization", "Bearer {{TOKEN}}"]] }, values),
    ],
  },
  "oidc-form-post": {
    mode: "oidc-form-post",
    field: "id_token",
    namespaces: ["web"],
    config: (ports, { issuer }) => common(ports) + provider("web", "oidc-form-post", issuer,
      `client_id = "${CLIENT}"\ncallback = "/login/callback"\nbinding = "observe"\nauthorization_endpoint = "${issuer}/authorize"\n${keys}`),
    // Such an app may take tokens in headers and JSON as well.
    counts: (via) => /id_token$|^authorization$|^json:access_token$/.test(via),
    enter: (values) => [request({ headers: FORM, body: "id_token={{TOKEN}}" }, values)],
  },
  "token-relay": {
    mode: "token-relay",
    field: "id_token",
    namespaces: ["relay"],
    config: (ports, { issuer }) => common(ports).replace("[admin]", `[relay]\naddress = "127.0.0.1:${ports.relay}"\n[admin]`)
      + provider("relay", "token-relay", issuer, `client_id = "${CLIENT}"\ncallback = "/login/callback"\n`
        + `token_endpoint = "${issuer}/token"\n${keys}`),
    counts: (via) => /id_token$|^code$/.test(via),
    enter: (values) => [request({ query: `code=${values.who}~${values.jti}&state=x` }, values)],
  },
};

// The two ways of writing access rules: all is open but the callback, or closed but what is below `/public`.
for (const [name, access] of [
  ["relying-party, the rest public", `[access]\ndefault = "public"\n[[path]]\nprefix = "/login/callback"\naccess = "required"\n`],
  ["relying-party, the rest required", `[access]\ndefault = "required"\n[[path]]\nprefix = "/public"\naccess = "public"\n`],
]) {
  MODES[name] = {
    mode: "relying-party",
    namespaces: ["staff"],
    config: (ports, { issuer }) => common(ports) + access
      + provider("staff", "relying-party", issuer, `client_id = "${CLIENT}"\nclient_auth = "none"\n`),
  };
}
