// A provider that rotates refresh tokens and ends everything when one is used twice (npm oidc-provider), with faults at every step of a
// renewal: whatever the browser, the network or userinfo does, the token that the provider gave last is not lost.

import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { request } from "node:http";
import Provider from "oidc-provider";
import { findForm } from "./browser.js";
import { check, checkEqual, fail } from "./checks.js";
import { Visitor, heardGroups, heardUser } from "./parties.js";

const RENEWAL_MS = 10_000; // `session.renew`
const SLOW_MS = 1_500;

export class RotatingProvider {
  refreshes = 0;
  revoked = 0;
  asked = 0; // requests of any kind
  groups = ["marketing"];
  #faults = [];

  constructor(port, clients, { host = "127.0.0.1", tls = null, ...more } = {}) {
    this.issuer = `${tls ? "https" : "http"}://${host}:${port}`;
    const provider = new Provider(this.issuer, {
      clients: clients.map(({ id, url, secret, ...own }) => ({
        ...{ client_id: id, ...(secret && { client_secret: secret }), ...own, redirect_uris: [`${url}/.loginsync/callback`] },
        ...{ grant_types: ["authorization_code", "refresh_token"], post_logout_redirect_uris: [`${url}/.loginsync/signed-out`] },
      })),
      ...{ rotateRefreshToken: true, issueRefreshToken: async () => true, conformIdTokenClaims: false },
      ...{ claims: { openid: ["sub", "groups"], profile: ["name"], email: ["email"] }, cookies: { keys: ["interop"] } },
      ttl: Object.fromEntries(["AccessToken", "Grant", "IdToken", "Interaction", "RefreshToken", "Session"].map((kind) => [kind, 3600])),
      ...more,
      findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id, groups: this.groups }) }),
    });
    provider.on("grant.revoked", () => { this.revoked++; });
    const answer = provider.callback();
    const listener = (req, res) => this.#answer(answer, req, res);
    this.server = tls ? createSecureServer(tls, listener) : createServer(listener);
    Object.assign(this, { host, port });
  }

  async start() {
    await new Promise((done, failed) => this.server.listen(this.port, this.host, done).once("error", failed));
  }

  stop() {
    this.server.close();
    this.server.closeAllConnections();
  }

  // The next request to this path meets this fault.
  next(path, fault) {
    this.#faults.push({ path, fault });
  }

  get unmet() {
    return this.#faults.length;
  }

  #answer(answer, req, res) {
    this.asked++;
    const path = new URL(req.url, this.issuer).pathname;
    const at = this.#faults.findIndex((each) => each.path === path);
    const fault = at < 0 ? null : this.#faults.splice(at, 1)[0].fault;
    if (path === "/token" && fault !== "refuse" && fault !== "cut") this.refreshes++;
    switch (fault) {
      case "refuse": // not answered by the provider
        res.writeHead(503).end();
        return;
      case "cut":
        res.socket.destroy();
        return;
      case "slow": { // the provider has done its part, and its answer takes a while
        const end = res.end.bind(res);
        res.end = (...rest) => { setTimeout(() => end(...rest), SLOW_MS); return res; };
        break;
      }
      case "lost": // the provider has done its part, and nobody hears of it
        res.end = () => { res.socket.destroy(); return res; };
        break;
    }
    answer(req, res);
  }
}

// Logs in at the provider's own pages for development: any name, any password.
export async function logIn(visitor, path, name) {
  let page = await visitor.open(visitor.url + path);
  for (let step = 0; step < 4 && !page.text.startsWith("{"); step++) {
    const form = findForm(page) ?? fail(`no form at ${page.url}: ${page.status} ${page.text.slice(0, 400)}`);
    page = await visitor.submit(form, "login" in form.fields ? { login: name, password: "any" } : {});
  }
  return page.text.startsWith("{") ? JSON.parse(page.text) : fail(`no login: ${page.status} ${page.text.slice(0, 400)}`);
}

// A request whose browser goes away after a moment.
async function abandoned(visitor, after) {
  const cookie = await visitor.jar.getCookieString(visitor.url);
  const sent = request(`${visitor.url}/page`, { agent: false, headers: { accept: "text/html", cookie } });
  sent.on("error", () => {});
  sent.end();
  await sleep(after);
  sent.destroy();
}

export async function runRotation({ party, provider, secrets }) {
  const { url } = party;
  const alice = new Visitor(url);
  const due = () => sleep(RENEWAL_MS + 300);
  checkEqual("rotation: a login", heardGroups(await logIn(alice, "/page", "alice")), "Marketing");
  secrets.set("session of the rotating provider", (await alice.cookies(url)).find(({ key }) => key.endsWith("loginsync-s")).value);
  provider.refreshes = 0;

  // Two tabs, many requests, one session.
  await due();
  provider.next("/token", "slow");
  const tabs = [alice, alice.clone()].map((tab) => Object.assign(tab, { url }));
  const answers = await Promise.all(Array.from({ length: 12 }, (_, n) => tabs[n % 2].ask(`${url}/page`)));
  checkEqual("rotation: every request of two tabs is answered while a renewal is under way", [...new Set(answers.map(({ status }) => status))], [200]);
  checkEqual("rotation: which takes place once", [provider.refreshes, provider.revoked], [1, 0]);

  // Browsers that go away in the middle.
  await due();
  provider.groups = ["engineering"];
  provider.next("/token", "slow");
  await Promise.all(tabs.map((tab) => abandoned(tab, 200)));
  await sleep(SLOW_MS + 500);
  checkEqual("rotation: a renewal ends though both tabs were closed", heardGroups(await alice.heard()), "Engineering");
  await due();
  provider.groups = ["marketing"];
  checkEqual("rotation: and its token is the one that is used next", [heardGroups(await alice.heard()), provider.refreshes, provider.revoked], ["Marketing", 3, 0]);

  // Faults before the provider has done anything, and after it has.
  for (const [path, fault, what] of [
    ["/token", "refuse", "the token endpoint answers 503"],
    ["/token", "cut", "the token endpoint hangs up"],
    ["/me", "refuse", "userinfo answers 503 after the exchange"],
    ["/me", "cut", "userinfo hangs up after the exchange"],
  ]) {
    await due();
    provider.next(path, fault);
    checkEqual(`rotation: ${what}: the session goes on`,
      [heardGroups(await alice.heard()), provider.revoked, provider.unmet], ["Marketing", 0, 0]);
    await due();
    checkEqual(`rotation: ${what}: the next renewal succeeds`, [heardGroups(await alice.heard()), provider.revoked], ["Marketing", 0]);
  }

  // A browser that goes away while userinfo is slow.
  await due();
  provider.groups = ["engineering"];
  provider.next("/me", "slow");
  await abandoned(alice, 300);
  await sleep(SLOW_MS + 500);
  checkEqual("rotation: a browser goes away while userinfo is slow", [heardGroups(await alice.heard()), provider.revoked], ["Engineering", 0]);

  // A reload, then a restart, while the provider's answer is on its way.
  await due();
  provider.next("/token", "slow");
  const underWay = abandoned(alice, 300);
  await underWay;
  await party.sidecar.reload();
  const beside = await alice.ask(`${url}/page`);
  await sleep(SLOW_MS + 500);
  checkEqual("rotation: a reload in the middle of a renewal", [beside.status, heardGroups(await alice.heard()), provider.revoked], [200, "Engineering", 0]);
  await due();
  provider.next("/token", "slow");
  await abandoned(alice, 300);
  await party.restart(`renew = "${RENEWAL_MS / 1000}s"`);
  checkEqual("rotation: a restart in the middle of a renewal", heardGroups(await alice.heard()), "Engineering");
  await due();
  checkEqual("rotation: keeps its token", [heardGroups(await alice.heard()), provider.revoked], ["Engineering", 0]);

  // What nobody can mend: the provider has put another token in the place of ours, and its answer is lost. It then takes ours for
  // stolen, and the person signs in again.
  await due();
  provider.next("/token", "lost");
  checkEqual("rotation: an answer that is lost ends nothing at first", heardUser(await alice.heard()), "alice");
  await due();
  const ended = await alice.ask(`${url}/page`);
  checkEqual("rotation: the provider takes the old token for stolen", [ended.status, provider.revoked > 0], [303, true]);
  checkEqual("rotation: and a new login is a new beginning", heardUser(await logIn(alice, "/page", "alice")), "alice");
}
