// Mode token-relay: an app that exchanges codes itself, at the sidecar's token endpoint.

import { Browser, findForm } from "./browser.js";
import { check, checkEqual, fail } from "./checks.js";

const NAMESPACE = "keycloak-relay";
const ENGINEERING = { groups: ["Engineering"], roles: [] };

export async function runRelay({ sidecar, keycloak, people, publicUrl, relayUrl, secret, secrets, arrivals }) {
  const endpoint = `${relayUrl}/${NAMESPACE}/token`;
  await keycloak.setGroups("alice", ["marketing", "engineering", "unmapped"]);

  const metadata = "/.well-known/openid-configuration";
  const theirs = await (await fetch(keycloak.issuer + metadata)).json();
  const ours = await (await fetch(`${relayUrl}/${NAMESPACE}${metadata}`)).json();
  const aliases = { ...theirs.mtls_endpoint_aliases, token_endpoint: endpoint }; // of clients that show a certificate
  checkEqual("relay: its discovery document is Keycloak's, with another token endpoint",
    ours, { ...theirs, token_endpoint: endpoint, mtls_endpoint_aliases: aliases });

  for (const method of ["basic", "post"]) {
    const browser = new Browser();
    const login = await logIn(browser, `${publicUrl}/login/relay?method=${method}`, people.alice);
    check(`relay: ${method}: the app asks by PKCE`, new URL(login.asked).searchParams.get("code_challenge_method") === "S256", login.asked);
    secrets.set(`code of the relay, ${method}`, new URL(login.answered).searchParams.get("code"));
    check(`relay: ${method}: a login enters the app`, login.me !== null, login.page.text.slice(0, 400));
    if (!login.me) continue;
    secrets.set(`refresh token of the relay, ${method}`, login.me.refreshToken);
    checkEqual(`relay: ${method}: the mapped groups are granted before the app has its tokens`,
      await sidecar.memberships(NAMESPACE, login.me.user), { groups: ["Engineering", "Marketing"], roles: ["editor"] });
    checkEqual(`relay: ${method}: the callback tells nothing of who it is`, arrivals.at(-1).identity, {});
  }

  const browser = new Browser();
  const { me, answered } = await logIn(browser, `${publicUrl}/login/relay`, people.alice);
  const subject = me?.user ?? fail("nobody is logged in");
  const refresh = async () => JSON.parse((await browser.post(`${publicUrl}/refresh`, "")).text);

  await keycloak.setGroups("alice", ["engineering"]);
  checkEqual("relay: what changes at Keycloak changes nothing by itself",
    await sidecar.memberships(NAMESPACE, subject), { groups: ["Engineering", "Marketing"], roles: ["editor"] });
  const fresh = await refresh();
  checkEqual("relay: a refresh brings the app new tokens of the same person", fresh, { user: subject, groups: ["engineering"] });
  checkEqual("relay: and has revoked the group lost at Keycloak", await sidecar.memberships(NAMESPACE, subject), ENGINEERING);

  // Errors of Keycloak: the same bytes as without a relay.
  const spent = new URL(answered).searchParams.get("code");
  const forms = {
    "an invented code": { grant_type: "authorization_code", code: "invented", redirect_uri: `${publicUrl}/callback/relay`, code_verifier: "v".repeat(43) },
    "a spent code": { grant_type: "authorization_code", code: spent, redirect_uri: `${publicUrl}/callback/relay`, code_verifier: "v".repeat(43) },
    "an invented refresh token": { grant_type: "refresh_token", refresh_token: "invented" },
    "an unknown grant type": { grant_type: "urn:example:unknown" },
    "a wrong secret": { grant_type: "refresh_token", refresh_token: "invented", client_secret: "wrong" },
  };
  for (const [what, form] of Object.entries(forms)) {
    const body = new URLSearchParams({ client_id: "interop-relay", client_secret: secret, ...form });
    const relayed = await ask(endpoint, body);
    check(`relay: ${what} is an error`, relayed.status >= 400 && relayed.status < 500, relayed);
    checkEqual(`relay: ${what}: Keycloak's own answer reaches the app`, relayed, await ask(theirs.token_endpoint, body));
  }
  checkEqual("relay: errors change no membership", await sidecar.memberships(NAMESPACE, subject), ENGINEERING);

  const other = new Browser();
  await sidecar.user("disable", NAMESPACE, subject);
  const refused = await logIn(other, `${publicUrl}/login/relay`, people.alice);
  check("relay: who is disabled here gets no tokens", refused.me === null && refused.page.text.includes("invalid_grant"),
    refused.page.text.slice(0, 400));
  await sidecar.user("enable", NAMESPACE, subject);
  const again = await logIn(other, `${publicUrl}/login/relay`, people.alice);
  checkEqual("relay: and does when enabled again", again.me?.user, subject);
}

async function logIn(browser, address, person) {
  let page = await browser.open(address);
  const asked = page.visited.find((each) => each.includes("/protocol/openid-connect/auth?")) ?? fail(`${address} leads to ${page.visited}`);
  const credentials = findForm(page, (_action, element) => element.getAttribute("id") === "kc-form-login");
  if (credentials) page = await browser.submit(credentials, person);
  const answered = page.visited.find((each) => each.includes("/callback/relay?")) ?? fail(`no answer in ${page.visited}: ${page.text.slice(0, 400)}`);
  return { asked, answered, page, me: page.status === 200 ? JSON.parse(page.text) : null };
}

async function ask(endpoint, body) {
  const answer = await fetch(endpoint, { method: "POST", body });
  return { status: answer.status, type: answer.headers.get("content-type"), text: await answer.text() };
}
