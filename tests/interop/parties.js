// Mode relying-party: the sidecar runs the login, for an app that has none.

import { setTimeout as sleep } from "node:timers/promises";
import { Browser, encodeForm, findForm, findLink } from "./browser.js";
import { check, checkEqual, fail } from "./checks.js";

const RENEWAL_MS = 10_000; // `session.renew` of the second run

// A browser that logs in by the sidecar, and what the app then says.
export class Visitor extends Browser {
  constructor(url, way = null) {
    super();
    this.url = url;
    this.way = way; // the title on the sign-in page, where there are several
  }

  // What the app heard of who this is; null where the request does not reach it.
  async heard(path = "/page", headers = {}) {
    const page = await this.ask(this.url + path, headers);
    return page.status === 200 ? JSON.parse(page.text) : null;
  }

  async signOut() {
    const page = await this.open(`${this.url}/.loginsync/sign-out`);
    return this.submit(findForm(page) ?? fail(`no button on the page for signing out: ${page.status} ${page.text.slice(0, 400)}`));
  }

  // Opens a page and logs in on the way. Keycloak asks for no password where it has a session.
  async logIn(path, person) {
    let page = await this.open(this.url + path);
    const visited = [...page.visited];
    const go = async (next) => {
      page = await next;
      visited.push(...page.visited);
    };
    const link = this.way && findLink(page, this.way);
    if (link) await go(this.open(link));
    const credentials = findForm(page, (_action, element) => element.getAttribute("id") === "kc-form-login");
    if (credentials) await go(this.submit(credentials, person));
    const posted = findForm(page, (action) => action === `${this.url}/.loginsync/acs`);
    if (posted) await go(this.submit(posted));
    const app = page.status === 200 && page.text.startsWith("{") ? JSON.parse(page.text) : null;
    return { page, visited, app, posted, password: Boolean(credentials) };
  }
}

export const heardGroups = (heard) => heard?.identity["x-loginsync-groups"]?.join() ?? null;
export const heardUser = (heard) => heard?.identity["x-loginsync-user"]?.join() ?? null;

// A client that says of itself who it is, in the spellings that apps read as one.
export const FORGED = {
  "X-Loginsync-User": "mallory",
  "x-loginsync-roles": "admin",
  "X-Loginsync-Email": "mallory@example.com",
  "X-Loginsync-Hidden-Groups": "Administrators",
  "X_Loginsync_Groups": "Administrators",
  "X-Loginsync_Name": "mallory",
};

export async function runOidcParty({ party, keycloak, people, secrets }) {
  const { url, sidecar } = party;
  const membershipsOf = (heard) => sidecar.memberships("keycloak", heardUser(heard) ?? fail("nobody is logged in"));
  await keycloak.setGroups("alice", ["marketing", "engineering", "unmapped"]);
  await keycloak.setGroups("bob", ["engineering"]);

  const alice = new Visitor(url, "Keycloak by OIDC");
  const page = { accept: "text/html" };
  const away = await alice.ask(`${url}/page?year=1`, page);
  checkEqual("party: a page sends a stranger to sign in",
    [away.status, away.location], [303, `${url}/.loginsync/sign-in?rd=%2Fpage%3Fyear%3D1`]);
  checkEqual("party: a program hears 401", (await alice.ask(`${url}/page`, { accept: "application/json" })).status, 401);
  checkEqual("party: and so does whoever asks an API", (await alice.ask(`${url}/api/list`, page)).status, 401);
  checkEqual("party: a public path is open, and says nothing of anybody", (await alice.heard("/public/a", FORGED))?.identity, {});

  const first = await alice.logIn("/page?year=1", people.alice);
  const visited = (part) => new URL(first.visited.find((each) => each.includes(part)) ?? fail(`no ${part} in ${first.visited}`));
  const [asked, answered] = [visited("/protocol/openid-connect/auth?"), visited("/.loginsync/callback?")];
  secrets.set("code of the party", answered.searchParams.get("code"));
  const session = (await alice.cookies(url)).find((cookie) => cookie.key.endsWith("loginsync-s")) ?? fail("no cookie of a session");
  secrets.set("session of the party", session.value);
  const { response_type: type, code_challenge_method: method, state, nonce } = Object.fromEntries(asked.searchParams);
  checkEqual("party: Keycloak is asked by code, with PKCE, state and nonce",
    [type, method, Boolean(state), Boolean(nonce)], ["code", "S256", true, true]);
  checkEqual("party: a login ends at the page that was wanted", first.app?.address, "/page?year=1");
  checkEqual("party: the app hears the groups", heardGroups(first.app), "Engineering,Marketing");
  checkEqual("party: which are granted", await membershipsOf(first.app), { groups: ["Engineering", "Marketing"], roles: ["editor"] });
  check("party: the sidecar keeps its cookies to itself", !/loginsync/.test(first.app?.cookies), first.app?.cookies);
  const forged = await alice.heard("/page", FORGED);
  checkEqual("party: forged identity headers are gone", forged?.identity, first.app?.identity);

  const replayed = await alice.ask(answered.href, page);
  checkEqual("party: the provider's answer is good once, and a reload goes on to the app", [replayed.status, replayed.location], [303, `${url}/`]);
  const thief = new Visitor(url);
  checkEqual("party: and good for nobody else", [(await thief.ask(answered.href, page)).status >= 400, await thief.heard()], [true, null]);

  // Keycloak ends sessions.
  const second = new Visitor(url, "Keycloak by OIDC");
  const before = new Set(await keycloak.sessionsOf("alice"));
  await second.logIn("/", people.alice);
  const mine = (await keycloak.sessionsOf("alice")).filter((id) => !before.has(id));
  const bob = new Visitor(url, "Keycloak by OIDC");
  await bob.logIn("/", people.bob);
  const alive = async () => [await alice.heard(), await second.heard(), await bob.heard()].map(Boolean);
  checkEqual("party: three browsers are logged in", await alive(), [true, true, true]);
  await keycloak.endSession(mine[0]);
  checkEqual("party: back-channel logout of one session ends that one", await alive(), [true, false, true]);
  await keycloak.logOut("alice");
  checkEqual("party: and of a person all of theirs", await alive(), [false, false, true]);
  checkEqual("party: memberships stay", await membershipsOf(first.app), { groups: ["Engineering", "Marketing"], roles: ["editor"] });

  // A person signs out, here and at Keycloak.
  const back = await alice.logIn("/", people.alice);
  check("party: a login after that needs the password", back.password && back.app !== null, back.page.text.slice(0, 400));
  const gone = await alice.signOut();
  const logout = `${keycloak.issuer}/protocol/openid-connect/logout?`;
  check("party: sign-out goes on to Keycloak", gone.visited.some((each) => each.startsWith(logout)), gone.visited);
  checkEqual("party: Keycloak knows whose session ends, asks nothing and leads back", [gone.status, gone.url.split("?")[0]], [200, `${url}/.loginsync/signed-out`]);
  checkEqual("party: the session here has ended", await alice.heard(), null);
  checkEqual("party: Keycloak's session has ended too", await keycloak.sessionsOf("alice"), []);

  // With renewal, after a restart.
  await party.restart(`renew = "${RENEWAL_MS / 1000}s"`);
  check("party: a session outlives a restart", await bob.heard() !== null);
  const renewed = await alice.logIn("/", people.alice);
  checkEqual("party: renewal: a login", heardGroups(renewed.app), "Engineering,Marketing");
  const beside = new Visitor(url, "Keycloak by OIDC");
  await beside.logIn("/", people.bob);
  const since = Date.now();
  await keycloak.setGroups("alice", ["marketing"]);
  checkEqual("party: renewal: not due, nothing changes", heardGroups(await alice.heard()), "Engineering,Marketing");
  await sleep(Math.max(0, since + RENEWAL_MS + 300 - Date.now()));
  checkEqual("party: renewal: the request that is due hears what changed at Keycloak", heardGroups(await alice.heard()), "Marketing");
  checkEqual("party: renewal: and so does the store", await membershipsOf(renewed.app), { groups: ["Marketing"], roles: ["editor"] });
  checkEqual("party: renewal: everybody else keeps theirs", heardGroups(await beside.heard()), "Engineering");
}

export async function runSamlParty({ party, keycloak, people, secrets }) {
  const { url, sidecar } = party;
  const way = "Keycloak by SAML";
  await keycloak.logOut("alice"); // of all browsers of the sections before
  const heldBy = (person) => sidecar.memberships("keycloak-saml", person.username); // NameID is the username
  await keycloak.setGroups("alice", ["marketing", "engineering", "unmapped"]);
  await keycloak.setGroups("bob", ["engineering"]);

  const alice = new Visitor(url, way);
  const first = await alice.logIn("/page?year=1", people.alice);
  const asked = first.visited.find((each) => each.includes("SAMLRequest=")) ?? fail(`no request in ${first.visited}`);
  check("party, SAML: Keycloak is asked by a signed redirect", ["SAMLRequest", "RelayState", "SigAlg", "Signature"]
    .every((name) => new URL(asked).searchParams.has(name)), asked);
  secrets.set("SAMLResponse of the party", (first.posted?.fields.SAMLResponse ?? fail("no response was posted")).slice(-400, -200));
  checkEqual("party, SAML: a login ends at the page that was wanted", first.app?.address, "/page?year=1");
  checkEqual("party, SAML: the app hears who it is", [heardUser(first.app), heardGroups(first.app)], ["alice", "Engineering,Marketing"]);
  checkEqual("party, SAML: the groups are granted", await heldBy(people.alice), { groups: ["Engineering", "Marketing"], roles: ["editor"] });

  // A request whose signature does not fit: the client at Keycloak asks for signed ones, and so its answer shows that ours is right.
  const forged = new URL(asked);
  forged.searchParams.set("RelayState", "another");
  const refused = await new Browser().open(forged.href);
  check("party, SAML: Keycloak looks at the signature of requests", refused.status === 400, refused.status);

  const body = encodeForm(first.posted.fields);
  const replay = async (browser) => {
    const page = await browser.post(first.posted.action, body);
    return page.location ? browser.open(page.location) : page;
  };
  const replayed = await replay(new Browser());
  check("party, SAML: a response is good for one browser", replayed.status >= 400, replayed.status);
  const again = await replay(alice);
  checkEqual("party, SAML: and in that one once, and a reload goes on to the app", [again.status, again.url], [200, `${url}/`]);

  await keycloak.setGroups("alice", ["engineering"]);
  const second = new Visitor(url, way);
  checkEqual("party, SAML: the next login revokes what was lost", heardGroups((await second.logIn("/", people.alice)).app), "Engineering");

  // Ours by redirect: Keycloak ends its session and answers.
  const bob = new Visitor(url, way);
  await bob.logIn("/", people.bob);
  const out = await alice.signOut();
  check("party, SAML: sign-out takes a signed LogoutRequest to Keycloak",
    out.visited.some((each) => each.startsWith(keycloak.issuer) && each.includes("SAMLRequest=") && each.includes("Signature=")), out.visited);
  check("party, SAML: whose answer comes back", out.status === 200 && out.url.startsWith(`${url}/.loginsync/slo`),
    { url: out.url, status: out.status, text: out.text.slice(0, 600) });
  const alive = async () => [await alice.heard(), await second.heard(), await bob.heard()].map(Boolean);
  checkEqual("party, SAML: one session has ended, the others live", await alive(), [false, true, true]);
  checkEqual("party, SAML: at Keycloak too", (await keycloak.sessionsOf("alice")).length, 1);

  // Keycloak's in the browser: it visits every service provider of its session.
  const confirm = await second.open(`${keycloak.issuer}/protocol/openid-connect/logout`);
  let page = await second.submit(findForm(confirm) ?? fail(`Keycloak asks nothing: ${confirm.text.slice(0, 400)}`));
  const visited = [...page.visited];
  for (let form; (form = findForm(page, (action) => action.startsWith(url) || action.includes("/protocol/saml")));) {
    page = await second.submit(form);
    visited.push(...page.visited);
  }
  check("party, SAML: Keycloak's logout passes here", visited.some((each) => each.startsWith(`${url}/.loginsync/slo`)), visited);
  check("party, SAML: and takes our signed answer",
    visited.some((each) => each.startsWith(keycloak.issuer) && each.includes("SAMLResponse=") && each.includes("Signature=")), visited);
  check("party, SAML: which Keycloak believes", page.status === 200 && page.url.startsWith(keycloak.issuer), { url: page.url, status: page.status, text: page.text.slice(0, 600) });
  checkEqual("party, SAML: the session has ended", await alive(), [false, false, true]);
  checkEqual("party, SAML: memberships stay", await heldBy(people.alice), { groups: ["Engineering"], roles: [] });

  // Keycloak's without a browser: it posts the request itself.
  await keycloak.setFrontChannelLogout(`${url}/.loginsync/metadata`, false);
  await keycloak.logOut("bob");
  checkEqual("party, SAML: a LogoutRequest that Keycloak posts ends the session", await bob.heard(), null);
}

// ID tokens that Keycloak signs by ES512 (P-521).
export async function runEs512({ party, keycloak, people }) {
  await keycloak.setGroups("alice", ["engineering"]);
  const login = await new Visitor(party.url).logIn("/page", people.alice);
  checkEqual("ES512: a login enters", [heardGroups(login.app), login.app?.address], ["Engineering", "/page"]);
  const { keys } = await (await fetch(`${keycloak.issuer}/protocol/openid-connect/certs`)).json();
  check("ES512: by a key on P-521", keys.some(({ alg, crv }) => alg === "ES512" && crv === "P-521"), keys);
  // A configuration that leaves ES512 out refuses the same login: it was by ES512 that Keycloak signed.
  await party.without();
  const refused = await new Visitor(party.url).logIn("/page", people.alice);
  check("ES512: and in no other way", refused.app === null && refused.page.status === 403, `${refused.page.status} ${refused.page.text.slice(0, 200)}`);
}
