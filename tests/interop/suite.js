// The interop suite: one person with a browser, Keycloak, the sidecar, and an app that does its own login.
// Started by run.sh, which says what the environment variables below are. Prints a line a check and leaves the totals in `verdict`.

import { createHash, createPublicKey, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createApp } from "./app.js";
import { Browser, encodeForm, findForm } from "./browser.js";
import { check, checkEqual, counts, fail, section } from "./checks.js";
import * as forge from "./forge.js";
import { Gateway, NO_GROUPS, gatewayNames, runGateway } from "./gateways.js";
import { APP, runHosts } from "./hosts.js";
import { Keycloak } from "./keycloak.js";
import { OPERATORS, runOperators } from "./operators.js";
import { runEs512, runOidcParty, runSamlParty } from "./parties.js";
import { createPlainApp } from "./plain.js";
import { runRelay } from "./relay.js";
import { RotatingProvider, runRotation as runRefreshRotation } from "./rotation.js";
import { Sidecar } from "./sidecar.js";
import { BROWSERS, Detour, runWalk } from "./walk.js";

const env = (name) => process.env[name] ?? fail(`${name} is not set: start this suite by run.sh`);

const directory = env("INTEROP_DIRECTORY"); // throw-away: configuration, keys, database, logs
const ports = {
  ...{ app: env("APP_PORT"), proxy: env("PROXY_PORT"), admin: env("ADMIN_PORT") },
  ...await freePorts(["relay", "plain", "party", "partyAdmin", "rotating", "rotatingAdmin", "provider", "walk", "walkAdmin", "detour", "third", "hosts", "hostsSidecar", "hostsAdmin", "elsewhere", "es512", "es512Admin", "console", "consoleAdmin", ...gatewayNames.flatMap((name) => [name, `${name}Sidecar`, `${name}Admin`])]),
};
const direct = process.env.INTEROP_DIRECT === "1"; // no sidecar: shows whether the other parts fit together
const local = (port) => `http://127.0.0.1:${port}`;
const publicUrl = local(direct ? ports.app : ports.proxy);
const screens = process.env.INTEROP_SCREENS ?? join(directory, "screens");
const ROTATION_PATIENCE_MS = 20_000;

const keycloak = new Keycloak(env("KEYCLOAK_URL"), { username: env("KEYCLOAK_ADMIN"), password: env("KEYCLOAK_ADMIN_PASSWORD") });
const oidcSecret = createHash("sha256").update(env("KEYCLOAK_ADMIN_PASSWORD")).digest("hex");
const spKeyFile = join(directory, "sp-key.pem");
const spKey = readFileSync(spKeyFile, "utf8");
const spCertificate = readFileSync(join(directory, "sp-certificate.pem"), "utf8");
const spPublicKey = createPublicKey(spKey).export({ type: "spki", format: "pem" });

const people = {
  alice: { username: "alice", password: "alice-interop-password" },
  bob: { username: "bob", password: "bob-interop-password" },
};

const { app, arrivals } = createApp({
  ...{ publicUrl, issuer: keycloak.issuer, clientId: "interop-oidc", clientSecret: oidcSecret },
  ...{ relayUrl: local(ports.relay), spKeyFile },
});
const createSidecar = (name, adminPort) => new Sidecar({
  binary: env("LOGINSYNC_BIN"),
  config: join(directory, `${name}.toml`),
  directory,
  adminUrl: local(adminPort),
  logFile: join(directory, `${name}.log`),
});
const sidecar = direct ? null : createSidecar("loginsync", ports.admin);

// What must never be found in the sidecar's log or database: filled as the logins go by.
const secrets = new Map();

// ---- The four ways to log in

const samlResigned = { "with its assertion signed by a stranger's key": forge.resignResponse };
const encryptedResigned = {
  "with its assertion signed by a stranger's key, encrypted again": (fields) =>
    forge.resignEncryptedResponse(fields, { key: spKey, certificate: spCertificate, publicKey: spPublicKey }),
};

const saml = (name, title, forgeries) => ({
  title,
  namespace: `keycloak-${name}`,
  login: `/login/saml/${name}`,
  silent: `/login/saml/${name}?passive=true`,
  callback: `/saml/${name}/acs`,
  token: "SAMLResponse",
  forgeries: { "with one changed byte": forge.tamperResponse, ...forgeries },
});

const oidc = (flow, title) => ({
  title,
  namespace: "keycloak-oidc",
  login: `/login/oidc?flow=${flow}`,
  silent: `/login/oidc?flow=${flow}&prompt=none`,
  callback: "/callback/oidc",
  token: "id_token",
  forgeries: { "with a group added to its claims": forge.tamperIdToken, "with its signature removed": forge.unsignIdToken },
});

const flows = [
  oidc("id_token", "OIDC id_token"),
  oidc("hybrid", "OIDC code id_token"),
  saml("signed", "SAML signed", { "with its signature removed": forge.unsignResponse, ...samlResigned }),
  saml("encrypted", "SAML signed, encrypted (GCM)", encryptedResigned),
  saml("enveloped", "SAML encrypted (CBC), message signed", { "with its signature removed": forge.unsignResponse, ...encryptedResigned }),
];

// ---- What a person does

// Up to the page by which the IdP sends its answer: the answer is not posted yet.
async function askToLogIn(browser, path, person) {
  let page = await browser.open(publicUrl + path);
  const credentials = findForm(page, (_action, element) => element.getAttribute("id") === "kc-form-login");
  if (credentials) {
    if (!person) fail(`${path}: Keycloak asks for a password where none should be needed`);
    page = await browser.submit(credentials, person);
  }
  const answer = findForm(page, (action) => action.startsWith(`${publicUrl}/`));
  if (!answer) fail(`${path}: no form that posts to the app in what came from ${page.url} (${page.status}): ${page.text.slice(0, 600)}`);
  for (const [what, value] of secretsOf(answer.fields)) secrets.set(`${what} of ${path}, ${secrets.size}`, value);
  for (const cookie of await browser.cookies(publicUrl)) {
    if (cookie.value.length >= 20) secrets.set(`cookie ${cookie.key} ${secrets.size}`, cookie.value);
  }
  return answer;
}

// Of a token its signature, of a document a piece as sent and one as decoded: what no other login shares.
function* secretsOf({ id_token: idToken, SAMLResponse: response, code }) {
  if (code) yield ["code", code];
  if (idToken) yield ["id_token", idToken.split(".")[2]];
  if (!response) return;
  const xml = Buffer.from(response, "base64").toString();
  const unique = [...xml.matchAll(/<(?:\w+:)?(?:SignatureValue|CipherValue)>([^<]{80})/g)].at(-1);
  if (!unique) return;
  yield ["SAMLResponse, decoded,", unique[1]];
  // Cut where base64 groups of three bytes begin, so that the piece stands in the document as sent.
  const from = Math.ceil(unique.index / 3) * 3 + 60;
  yield ["SAMLResponse", Buffer.from(xml).subarray(from, from + 60).toString("base64")];
}

async function logIn(browser, flow, person, headers) {
  const answer = await askToLogIn(browser, flow.login, person);
  const before = browser.clone();
  const body = encodeForm(answer.fields);
  const seen = arrivals.length;
  const page = await browser.post(answer.action, body, headers);
  return { answer, before, body, page, arrived: arrivals.slice(seen), me: await whoAmI(browser) };
}

async function whoAmI(browser) {
  const page = await browser.open(`${publicUrl}/me`);
  return page.status === 200 ? JSON.parse(page.text) : null;
}

// An arrival without its body: enough for a failed check.
const outcome = ({ path, user, error, identity }) => ({ path, user, error, identity });

function sentGroups(arrival) {
  return (arrival?.identity["x-loginsync-groups"] ?? []).flatMap((line) => line.split(",")).map((name) => name.trim()).filter(Boolean).sort();
}

// Posts what must be refused, and looks whether it left a trace.
async function mustBeRefused(name, browser, action, body, subject, flow) {
  const seen = arrivals.length;
  const held = sidecar && await sidecar.memberships(flow.namespace, subject);
  const page = await browser.post(action, body);
  check(`${name} is refused`, page.status >= 400 && page.status < 500, `${page.status} ${page.text.slice(0, 300)}`);
  if (!sidecar) return;
  check(`${name} never reaches the app`, arrivals.length === seen, arrivals.slice(seen).map(outcome));
  checkEqual(`${name} changes no membership`, await sidecar.memberships(flow.namespace, subject), held);
}

async function checkMemberships(name, flow, subject, groups) {
  if (!sidecar) return;
  const roles = groups.includes("Marketing") ? ["editor"] : [];
  checkEqual(name, await sidecar.memberships(flow.namespace, subject), { groups, roles });
}

// ---- The story of one way to log in

async function runFlow(flow) {
  const { title } = flow;
  const alice = new Browser();
  await keycloak.setGroups("alice", ["marketing", "engineering", "unmapped"]);
  await keycloak.setGroups("bob", ["engineering"]);

  // A client that asserts its own groups: nothing of this may be believed.
  const forged = { "X-Loginsync-User": "mallory", "x-loginsync-groups": "Administrators", "X_Loginsync_Roles": "admin" };
  const first = await logIn(alice, flow, people.alice, sidecar ? forged : {});
  const subject = first.me?.user;
  check(`${title}: a login enters the app`, first.page.status === 303 && first.arrived.length === 1 && Boolean(subject),
    { status: first.page.status, text: first.page.text.slice(0, 400), arrived: first.arrived.map(outcome) });
  if (!subject) return;
  checkEqual(`${title}: the app gets the body byte for byte`, first.arrived[0].rawBody, first.body);
  await checkMemberships(`${title}: the mapped groups are granted, the unmapped one is not`, flow, subject, ["Engineering", "Marketing"]);
  if (sidecar) {
    checkEqual(`${title}: the callback carries the groups`, sentGroups(first.arrived[0]), ["Engineering", "Marketing"]);
    check(`${title}: forged identity headers are gone`, !/mallory|admin/i.test(JSON.stringify(first.arrived[0].identity)), first.arrived[0].identity);
    check(`${title}: the sidecar keeps its cookies to itself`, !/loginsync/i.test(first.arrived[0].cookies), first.arrived[0].cookies);
  }

  await keycloak.setGroups("alice", ["marketing", "unmapped"]);
  const second = await logIn(alice, flow, null); // Keycloak's own session is still there: no password
  checkEqual(`${title}: a second login enters the app as the same person`, second.me?.user, subject);
  await checkMemberships(`${title}: the group lost at the IdP is revoked, the other stays`, flow, subject, ["Marketing"]);
  if (sidecar) checkEqual(`${title}: the callback carries what is left`, sentGroups(second.arrived[0]), ["Marketing"]);

  await mustBeRefused(`${title}: a replay with the cookies of that moment`, first.before, first.answer.action, first.body, subject, flow);
  await mustBeRefused(`${title}: a replay by another browser`, new Browser(), first.answer.action, first.body, subject, flow);

  for (const [how, change] of Object.entries(flow.forgeries)) {
    const browser = new Browser();
    const answer = await askToLogIn(browser, flow.login, people.alice);
    await mustBeRefused(`${title}: an answer ${how}`, browser, answer.action, encodeForm(await change(answer.fields)), subject, flow);
    check(`${title}: an answer ${how} opens no session`, await whoAmI(browser) === null);
  }

  const stolen = await askToLogIn(new Browser(), flow.login, people.alice);
  await mustBeRefused(`${title}: an answer brought by a browser that did not ask`, new Browser(), stolen.action, encodeForm(stolen.fields), subject, flow);

  const nobody = new Browser();
  const silent = await askToLogIn(nobody, flow.silent, null);
  check(`${title}: a silent login without a session is answered by an error`,
    !silent.fields.id_token && !/Assertion[ >]/.test(Buffer.from(silent.fields.SAMLResponse ?? "", "base64")), silent.fields);
  const seen = arrivals.length;
  await nobody.post(silent.action, encodeForm(silent.fields));
  check(`${title}: an error answer reaches the app, without identity headers`,
    arrivals.length === seen + 1 && Object.keys(arrivals.at(-1).identity).length === 0, arrivals.slice(seen).map(outcome));

  const bob = await logIn(new Browser(), flow, people.bob);
  check(`${title}: another person enters as another person`, Boolean(bob.me?.user) && bob.me.user !== subject, bob.page.text.slice(0, 400));
  if (bob.me) await checkMemberships(`${title}: another person gets their own groups`, flow, bob.me.user, ["Engineering"]);
  await checkMemberships(`${title}: and the first person keeps theirs`, flow, subject, ["Marketing"]);

  await keycloak.setGroups("alice", []);
  const last = await logIn(alice, flow, null);
  checkEqual(`${title}: a login without any group enters`, last.me?.user, subject);
  await checkMemberships(`${title}: the last group lost at the IdP is revoked`, flow, subject, []);
}

async function runCodeOnly() {
  const browser = new Browser();
  const answer = await askToLogIn(browser, "/login/oidc?flow=code", people.alice);
  const seen = arrivals.length;
  const page = await browser.post(answer.action, encodeForm(answer.fields));
  check("OIDC code alone: is refused", page.status >= 400 && page.status < 500, page.status);
  check("OIDC code alone: the refusal names token-relay", page.text.includes("token-relay"), page.text.slice(0, 400));
  check("OIDC code alone: never reaches the app", arrivals.length === seen);
}

// What the sidecar must remember across a restart: whom it has seen, and whom it has sent away to log in.
async function runRestart() {
  await keycloak.setGroups("alice", ["engineering"]);
  const underWay = [];
  for (const flow of flows) {
    const done = await logIn(new Browser(), flow, people.alice);
    const browser = new Browser();
    underWay.push({ flow, done, browser, answer: await askToLogIn(browser, flow.login, people.alice) });
  }
  await sidecar.stop();
  await sidecar.start();
  for (const { flow, done, browser, answer } of underWay) {
    await checkMemberships(`restart: ${flow.title}: memberships are kept`, flow, done.me?.user, ["Engineering"]);
    await mustBeRefused(`restart: ${flow.title}: a replay of an answer from before`, done.before, done.answer.action, done.body, done.me?.user, flow);
    await browser.post(answer.action, encodeForm(answer.fields));
    checkEqual(`restart: ${flow.title}: a login begun before ends well`, (await whoAmI(browser))?.user, done.me?.user);
  }
}

async function runRotation() {
  await keycloak.setGroups("alice", ["marketing"]);
  const before = await keycloak.signingKeyId();
  await keycloak.rotateSigningKey();
  const after = await keycloak.signingKeyId();
  check("key rotation: Keycloak signs with another key", before !== after);
  for (const flow of flows) {
    // Keys are fetched in the background: a login in between may be refused, and the next one must not be for long.
    const started = Date.now();
    let login;
    do {
      if (login) await sleep(500);
      login = await logIn(new Browser(), flow, people.alice);
    } while (!login.me && Date.now() - started < ROTATION_PATIENCE_MS);
    const waited = ((Date.now() - started) / 1000).toFixed(1);
    check(`key rotation: ${flow.title} enters again (after ${waited} s)`, Boolean(login.me), login.page.text.slice(0, 400));
    if (!login.me) continue;
    if (flow.token === "id_token") {
      const { kid } = JSON.parse(Buffer.from(login.answer.fields.id_token.split(".")[0], "base64url"));
      checkEqual(`key rotation: ${flow.title} was signed by the new key`, kid, after);
    }
    await checkMemberships(`key rotation: ${flow.title} grants again`, flow, login.me.user, ["Marketing"]);
  }
}

async function runAftermath() {
  const audit = await sidecar.verifyAudit();
  check("audit: the chain verifies", audit.status === 0, audit.stdout + audit.stderr);
  await sidecar.stop();
  const written = ["loginsync", "party", "rotating", "es512", "walk", "hosts", ...gatewayNames].flatMap((name) => [`${name}.log`, `${name}.db`, `${name}.db-wal`]);
  for (const name of written) {
    let content;
    try { content = readFileSync(join(directory, name), "latin1"); } catch { continue; }
    const found = [...secrets].filter(([, value]) => content.includes(value)).map(([what]) => what);
    check(`${name} holds none of the ${secrets.size} secrets that went by`, found.length === 0, found);
  }
}

// ---- Putting the parts together

function fill(template, more = {}) {
  const values = {
    ...{ PARTY_URL: local(ports.party), NGINX_URL: local(ports.nginx), CADDY_URL: local(ports.caddy), HOSTS_URL: APP },
    RELAY_ADDRESS: `127.0.0.1:${ports.relay}`,
    PUBLIC_URL: publicUrl,
    ISSUER: keycloak.issuer,
    APP_URL: local(ports.app),
    SIDECAR_ADDRESS: `127.0.0.1:${ports.proxy}`,
    ADMIN_ADDRESS: `127.0.0.1:${ports.admin}`,
    OIDC_SECRET: oidcSecret,
    SP_CERTIFICATE: spCertificate.replace(/-----[^-]+-----|\s/g, ""),
    ...more,
  };
  return template.replace(/@([A-Z_]+)@/g, (_, name) => values[name] ?? fail(`no value for @${name}@`));
}

// A sidecar of its own that runs the login, in front of the app without one.
async function startParty(name, { url, port, adminPort, clientId, session: first = "", more = "", change = (text) => text }) {
  const own = createSidecar(name, adminPort);
  const write = (session) => {
    const values = { NAME: name, PUBLIC_URL: url, LISTEN: `127.0.0.1:${port}`, ADMIN: `127.0.0.1:${adminPort}`, APP_URL: local(ports.plain) };
    const text = fill(readPart("relying-party.toml"), { ...values, CLIENT_ID: clientId, SESSION: session, MORE: more });
    writeFileSync(own.config, change(text));
  };
  write(first);
  const verdict = await own.check();
  if (verdict.status !== 0) fail(`the configuration of ${name} is refused: ${verdict.stdout}${verdict.stderr}`);
  await own.start().catch(async (error) => { await own.stop(); throw error; });
  const restart = async (session) => {
    await own.stop();
    write(session);
    await own.start();
  };
  return { name, url, sidecar: own, restart };
}

async function runParty() {
  const url = local(ports.party);
  const more = fill(readPart("relying-party-saml.toml"));
  const party = await startParty("party", { url, port: ports.party, adminPort: ports.partyAdmin, clientId: "interop-party", more });
  try {
    await section("relying party, SAML", () => runSamlParty({ party, keycloak, people, secrets }));
    await section("relying party, OIDC", () => runOidcParty({ party, keycloak, people, secrets }));
  } finally {
    await party.sidecar.stop();
  }
}

// Real browsers, with the app on another site than Keycloak and behind TLS.
const walkUrl = `https://app.localhost:${ports.walk}`;

// The party's clients at Keycloak, for that address.
function withWalk(realm) {
  const own = realm.clients.filter(({ clientId }) => clientId === "interop-party" || clientId.startsWith(local(ports.party)));
  const copies = own.map((client) => {
    const copy = JSON.parse(JSON.stringify(client).replaceAll(local(ports.party), walkUrl));
    delete copy.attributes["backchannel.logout.url"];
    if (copy.protocol === "openid-connect") {
      copy.frontchannelLogout = true;
      Object.assign(copy.attributes, {
        "frontchannel.logout.url": `${walkUrl}/.loginsync/frontchannel-logout`,
        "frontchannel.logout.session.required": "true",
      });
    }
    return { ...copy, clientId: copy.clientId.replace("interop-party", "interop-walk"), name: `${client.name}, in real browsers` };
  });
  const es512 = JSON.parse(JSON.stringify(own.find(({ clientId }) => clientId === "interop-party")).replaceAll(local(ports.party), local(ports.es512)));
  Object.assign(es512, { clientId: "interop-es512", name: "the app without a login, whose ID tokens are signed by ES512" });
  es512.attributes["id.token.signed.response.alg"] = "ES512";
  const operators = JSON.parse(JSON.stringify(own.find(({ clientId }) => clientId === "interop-party")).replaceAll(local(ports.party), local(ports.console)));
  Object.assign(operators, { clientId: "interop-console", name: "the app without a login, and the console of its sidecar" });
  operators.redirectUris.push(`${local(ports.consoleAdmin)}/console/provider/callback`);
  return { ...realm, clients: [...realm.clients, ...copies, es512, operators] };
}

async function runSignature() {
  const url = local(ports.es512);
  await keycloak.addP521Key();
  const change = (algorithms) => (text) => text.replace("[provider.claims.groups]", `algorithms = ${algorithms}\n[provider.claims.groups]`);
  const start = (algorithms) => startParty("es512", { url, port: ports.es512, adminPort: ports.es512Admin, clientId: "interop-es512", change: change(algorithms) });
  let party = await start('["ES512"]');
  const without = async () => {
    await party.sidecar.stop();
    party = await start('["RS256", "ES256", "ES384"]');
  };
  try {
    await section("ES512", () => runEs512({ party: { url, without }, keycloak, people }));
  } finally {
    await party.sidecar.stop();
  }
}

async function runConsole() {
  const [url, admin] = [local(ports.console), local(ports.consoleAdmin)];
  const change = (text) => text.replace("[admin]", `[admin]\npublic_url = "${admin}"`);
  const party = await startParty("console", { url, port: ports.console, adminPort: ports.consoleAdmin, clientId: "interop-console", more: OPERATORS, change });
  try {
    await section("console", () => runOperators({ party, admin, people, keycloak }));
  } finally {
    await party.sidecar.stop();
  }
}

async function runWalks() {
  const detour = new Detour(ports, `${keycloak.issuer}/protocol/openid-connect/logout`);
  await detour.start();
  const tls = `tls_certificate = "walk-certificate.pem"\ntls_key = "walk-key.pem"`;
  const change = (text) => text
    .replace("[listen]", `[listen]\n${tls}`)
    .replace('title              = "Keycloak by OIDC"', `title              = "Keycloak by OIDC"\nfrontchannel_logout = true\nend_session_endpoint = "${detour.address}"`);
  const more = fill(readPart("relying-party-saml.toml"));
  const party = await startParty("walk", { url: walkUrl, port: ports.walk, adminPort: ports.walkAdmin, clientId: "interop-walk", more, change });
  try {
    await keycloak.setGroups("alice", ["marketing"]);
    for (const name of Object.keys(BROWSERS)) {
      await section(`walk, ${name}`, () => runWalk({ name, party, people, keycloak, screens, detour }));
    }
  } finally {
    await party.sidecar.stop();
    detour.stop();
  }
}

// Another provider than Keycloak, which takes a refresh token that is used twice for stolen.
async function runRotating() {
  const url = local(ports.rotating);
  const provider = new RotatingProvider(ports.provider, [{ id: "rotating", url, secret: oidcSecret }]);
  await provider.start();
  const change = (text) => text
    .replace(`issuer             = "${keycloak.issuer}"`, `issuer             = "${provider.issuer}"`)
    .replace("[provider.claims.groups]", '[provider.claims.groups]\nfrom = ["userinfo"]');
  const party = await startParty("rotating", { url, port: ports.rotating, adminPort: ports.rotatingAdmin, clientId: "rotating", session: 'renew = "10s"', change });
  try {
    await section("rotation of refresh tokens", () => runRefreshRotation({ party, provider, secrets }));
  } finally {
    await party.sidecar.stop();
    provider.stop();
  }
}

async function runGateways() {
  for (const name of gatewayNames) {
    const [port, sidecarPort, adminPort] = [ports[name], ports[`${name}Sidecar`], ports[`${name}Admin`]];
    const more = `[forward_auth]\ngateway = "${name}"\n[headers]\nno_groups = "${NO_GROUPS}"\n`;
    const party = await startParty(name, { url: local(port), port: sidecarPort, adminPort, clientId: "interop-gateways", more });
    let gateway;
    try {
      gateway = Gateway.documented(name, { port, sidecarPort, appPort: ports.plain, directory });
      await gateway.start();
      await section(`forward-auth by ${name}`, () => runGateway({ gateway, party, keycloak, people }));
    } finally {
      await gateway?.stop();
      await party.sidecar.stop();
    }
  }
}

async function freePorts(names) {
  const servers = names.map(() => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => new Promise((done) => server.once("listening", done))));
  const found = Object.fromEntries(names.map((name, index) => [name, servers[index].address().port]));
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return found;
}

const readPart = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

async function main() {
  const started = Date.now();
  await keycloak.importRealm(withWalk(JSON.parse(fill(readPart("realm.json")))));
  const servers = [app.listen(Number(ports.app), "127.0.0.1"), createPlainApp().listen(ports.plain, "127.0.0.1")];
  for (const server of servers) {
    if (!server.listening) await new Promise((resolve, reject) => server.once("listening", resolve).once("error", reject));
  }
  writeFileSync(join(directory, "client.secret"), `${oidcSecret}\n`, { mode: 0o600 });
  writeFileSync(join(directory, "cookie.keys"), `${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });

  const library = (name) => `${name} ${JSON.parse(readPart("package.json")).dependencies[name]}`;
  console.log(`identity provider: Keycloak ${await keycloak.version()} at ${keycloak.issuer}`);
  console.log(`app:               ${["express", "openid-client", "@node-saml/node-saml"].map(library).join(", ")} on Node ${process.versions.node}`);
  console.log(`sidecar:           ${sidecar ? `${await sidecar.version()} at ${publicUrl}` : "none (INTEROP_DIRECT=1)"}`);

  try {
    if (sidecar) {
      writeFileSync(sidecar.config, fill(readPart("loginsync.toml")));
      const verdict = await sidecar.check();
      check("the configuration is accepted", verdict.status === 0, verdict.stdout + verdict.stderr);
      await sidecar.start();
    }
    for (const flow of flows) await section(flow.title, () => runFlow(flow));
    if (sidecar) await section("OIDC code alone", runCodeOnly);
    if (sidecar) {
      const relayUrl = local(ports.relay);
      await section("token relay", () => runRelay({ sidecar, keycloak, people, publicUrl, relayUrl, secret: oidcSecret, secrets, arrivals }));
      await section("relying party", runParty);
      await section("ES512", runSignature);
      await section("rotation", runRotating);
      await section("console", runConsole);
      await section("walk", runWalks);
      await section("forward-auth", runGateways);
      await section("gateways", () => runHosts({ startParty, ports, directory, keycloak, people, screens, section }));
      await section("restart", runRestart);
    }
    await section("key rotation", runRotation);
    if (sidecar) await section("aftermath", runAftermath);
  } catch (error) {
    check("the parts start", false, error?.stack ?? String(error));
  } finally {
    await sidecar?.stop();
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
    writeFileSync(join(directory, "arrivals.json"), JSON.stringify(arrivals, null, 1));
  }
  console.log(`\n${arrivals.length} requests reached the app's callbacks; the checks took ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

process.once("SIGTERM", async () => {
  await sidecar?.stop();
  process.exit(143);
});

await main();
writeFileSync(join(directory, "verdict"), `${counts.passed} passed, ${counts.failed} failed\n`);
process.exitCode = counts.failed === 0 && counts.passed > 0 ? 0 : 1;
