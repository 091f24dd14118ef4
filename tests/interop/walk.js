// Real browsers over every page of ours: Chromium, and Firefox by WebDriver BiDi. The app's address is another site than Keycloak's,
// behind TLS, so that cookies, policies and referrers are those of a deployment.

import { mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import puppeteer from "puppeteer-core";
import { check, checkEqual, fail } from "./checks.js";

const PATIENCE_MS = 20_000;

export const BROWSERS = {
  Chromium: { browser: "chrome", executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] },
  Firefox: { browser: "firefox", executablePath: "/usr/bin/firefox-esr" },
};

// A provider that ends its session and leads the browser over a third origin, as federations do.
export class Detour {
  constructor(ports, endSession) {
    this.address = `http://127.0.0.1:${ports.detour}/end`;
    this.third = `http://third.localhost:${ports.third}`;
    this.passed = 0;
    const onward = (to) => (req, res) => {
      this.passed++;
      res.writeHead(302, { location: `${to}${new URL(req.url, to).search}` }).end();
    };
    this.servers = [
      [ports.detour, createServer(onward(`${this.third}/bounce`))],
      [ports.third, createServer(onward(endSession))],
    ];
  }

  async start() {
    await Promise.all(this.servers.map(([port, server]) => new Promise((done) => server.listen(port, "127.0.0.1", done))));
  }

  stop() {
    for (const [, server] of this.servers) {
      server.close();
      server.closeAllConnections();
    }
  }
}

// One browser window with cookies of its own.
class Person {
  constructor(context, walk) {
    Object.assign(this, { context, walk });
  }

  async tab() {
    const page = await this.context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    return page;
  }

  async close() {
    await this.context.close();
  }
}

export class Walk {
  #pictures = 0;

  constructor(name, browser, { url, people, screens }) {
    Object.assign(this, { name, browser, url, people, screens });
    mkdirSync(screens, { recursive: true });
  }

  async person() {
    return new Person(await this.browser.createBrowserContext(), this);
  }

  // In the browser's own window, which is not private.
  personInOpen() {
    return new Person(this.browser.defaultBrowserContext(), this);
  }

  async picture(page, what) {
    const file = join(this.screens, `${this.name}-${String(++this.#pictures).padStart(2, "0")}-${what}.png`);
    await page.screenshot({ path: file });
  }

  // Where a tab comes to rest: no navigation is under way any more.
  async settle(page, wanted) {
    const deadline = Date.now() + PATIENCE_MS;
    let seen = "";
    while (Date.now() < deadline) {
      seen = await this.state(page).catch(() => null);
      if (seen && wanted(seen)) return seen;
      await sleep(100);
    }
    const text = await page.evaluate(() => document.body?.innerText ?? "").catch(() => "");
    return fail(`${this.name}: the tab came to rest at ${page.url()}: ${text.slice(0, 300)}`);
  }

  async state(page) {
    const text = await page.evaluate(() => document.readyState === "complete" ? document.body.innerText : null);
    if (text === null) return null;
    const json = /^\{.*\}$/s.exec(text.trim())?.[0];
    return { url: page.url(), text, app: json ? parsed(json) : null };
  }

  async open(page, path) {
    await page.goto(path.startsWith("http") ? path : this.url + path).catch(() => {});
    return this.settle(page, () => true);
  }

  async click(page, text) {
    await page.waitForFunction((wanted) => [...document.querySelectorAll("a, button")].some((each) => each.innerText.trim() === wanted), {}, text);
    await page.evaluate((wanted) => [...document.querySelectorAll("a, button")].find((each) => each.innerText.trim() === wanted).click(), text);
  }

  // From the sign-in page to the app, or to wherever the login leads.
  async enter(page, way, person, wanted = (seen) => seen.app) {
    await this.click(page, way);
    const at = await this.settle(page, (seen) => seen.text.includes("Sign in to your account") || wanted(seen));
    if (!wanted(at)) {
      await page.type("#username", person.username);
      await page.type("#password", person.password);
      await page.evaluate(() => document.querySelector("#kc-form-login").submit());
    }
    return this.settle(page, wanted);
  }
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return null; }
}

export const user = (seen) => seen.app?.identity["x-loginsync-user"]?.join() ?? null;

export async function runWalk({ name, party, people, keycloak, screens, detour }) {
  const { url, sidecar } = party;
  const browser = await puppeteer.launch({ ...BROWSERS[name], headless: true, acceptInsecureCerts: true, timeout: 60_000 });
  const walk = new Walk(name, browser, { url, people, screens });
  const ways = { OIDC: "Keycloak by OIDC", SAML: "Keycloak by SAML" };
  try {
    console.log(`${name}: ${await browser.version()}`);
    for (const [protocol, way] of Object.entries(ways)) {
      const of = (what) => `${name}, ${protocol}: ${what}`;
      await keycloak.logOut("alice");
      const alice = await walk.person();
      const page = await alice.tab();
      const visited = [];
      page.on("framenavigated", (frame) => { if (frame === page.mainFrame()) visited.push(frame.url()); });
      page.on("request", (request) => { if (request.isNavigationRequest()) visited.push(request.url()); });

      // Sign-in.
      const choice = await walk.open(page, "/page?year=1#top");
      check(of("a page of the app leads to the sign-in page"), choice.url.startsWith(`${url}/.loginsync/sign-in?`) && choice.text.includes(way), choice);
      await walk.picture(page, `${protocol}-sign-in`);
      const first = await walk.enter(page, way, people.alice);
      checkEqual(of("a login ends at the page that was wanted"), [first.app.address, Boolean(user(first))], ["/page?year=1", true]);
      const answered = visited.find((each) => each.startsWith(`${url}/.loginsync/${protocol === "OIDC" ? "callback" : "acs"}`));
      check(of("the provider's answer came here"), Boolean(answered), visited);

      // Reload, back, and the answer once more.
      await page.reload().catch(() => {});
      checkEqual(of("a reload of the page"), user(await walk.settle(page, (seen) => seen.app)), user(first));
      const again = await walk.open(page, answered);
      check(of("a reload of the answer goes on to the app"), user(again) === user(first), again);
      for (let step = 0; step < 3; step++) {
        await page.goBack().catch(() => {});
        await sleep(300);
      }
      await walk.picture(page, `${protocol}-after-back`);
      const back = await walk.state(page);
      check(of("three steps back show no refusal"), back && !/refused|cannot|not accepted/i.test(back.text), back);
      checkEqual(of("and the session lives on"), user(await walk.open(page, "/page")), user(first));

      // A form whose session has expired meanwhile; a second tab signs out.
      const form = await alice.tab();
      await walk.open(form, "/form");
      const out = await alice.tab();
      await walk.open(out, "/.loginsync/sign-out");
      await walk.picture(out, `${protocol}-sign-out`);
      const passed = detour.passed;
      await walk.click(out, "Sign out");
      const signedOut = await walk.settle(out, (seen) => seen.url.startsWith(`${url}/.loginsync/`) && /Signed out/.test(seen.text) && !/Go on/.test(seen.text));
      await walk.picture(out, `${protocol}-signed-out`);
      check(of("a sign-out ends at our page"), /You are signed out here/.test(signedOut.text), signedOut);
      if (protocol === "OIDC") checkEqual(of("over a third origin"), detour.passed - passed, 2);
      checkEqual(of("and at the provider"), await keycloak.sessionsOf("alice"), []);
      await form.evaluate(() => document.querySelector("form").submit());
      const refused = await walk.settle(form, (seen) => seen.url.endsWith("/posted") || /sign in|session/i.test(seen.text));
      await walk.picture(form, `${protocol}-form-without-session`);
      check(of("a form that is posted without a session is told so, and reaches no app"), !refused.app && /sign|session/i.test(refused.text), refused);
      await form.goBack().catch(() => {});
      const gone = await walk.open(page, "/page");
      check(of("another tab is asked to sign in again"), gone.url.startsWith(`${url}/.loginsync/sign-in?`), gone);

      // Several tabs that leave before either comes back.
      const tabs = [await alice.tab(), await alice.tab(), await alice.tab()];
      for (const [at, tab] of tabs.entries()) await walk.open(tab, `/tab-${at}`);
      for (const tab of tabs) {
        await walk.click(tab, way);
        await walk.settle(tab, (seen) => seen.text.includes("Sign in to your account"));
      }
      await tabs[0].type("#username", people.alice.username);
      await tabs[0].type("#password", people.alice.password);
      await tabs[0].evaluate(() => document.querySelector("#kc-form-login").submit());
      checkEqual(of("the first of three tabs"), (await walk.settle(tabs[0], (seen) => seen.app)).app.address, "/tab-0");
      for (const at of [1, 2]) {
        await tabs[at].reload().catch(() => {});
        const seen = await walk.settle(tabs[at], (each) => each.app || /already|logged in|session/i.test(each.text));
        if (!seen.app) await walk.open(tabs[at], `/tab-${at}`);
        checkEqual(of(`tab ${at + 1} of three`), user(await walk.settle(tabs[at], (each) => each.app)), user(first));
      }

      // A deep link, and one that is too long to be kept.
      const far = await walk.person();
      const deep = await far.tab();
      const long = `/page?filter=${"x".repeat(6000)}`;
      await walk.open(deep, long);
      checkEqual(of("a deep link of 6,000 letters"), (await walk.enter(deep, way, people.alice)).app.address, long);
      await far.close();
      const lost = await walk.person();
      const longer = await lost.tab();
      await walk.open(longer, `/page?filter=${"x".repeat(9000)}`);
      const told = await walk.enter(longer, way, people.alice, (seen) => /You are signed in/.test(seen.text));
      await walk.picture(longer, `${protocol}-address-lost`);
      await walk.click(longer, "Go on to the app");
      check(of("a longer one ends on a page that says so, and leads on"), Boolean(user(await walk.settle(longer, (seen) => seen.app))), told);
      await lost.close();

      // The provider ends the session in the browser: by redirects, or by a frame, which brings no cookie of ours. Keycloak's policy
      // names the frame's host without a scheme, and Chromium reads that as http, as Keycloak itself is asked here. Firefox does not.
      if (protocol === "SAML" || name === "Firefox") {
        const leaving = await walk.person();
        const left = await leaving.tab();
        await walk.open(left, "/page");
        await walk.enter(left, way, people.alice);
        const logout = await leaving.tab();
        await walk.open(logout, `${keycloak.issuer}/protocol/openid-connect/logout`);
        await logout.evaluate(() => document.querySelector("#kc-logout").click());
        await walk.settle(logout, (seen) => /logged out|following apps/i.test(seen.text));
        await walk.picture(logout, `${protocol}-logout-at-the-provider`);
        for (let tries = 0; tries < 20 && (await walk.open(left, "/page")).app; tries++) await sleep(250);
        check(of("a logout at the provider ends the session here"), !(await walk.state(left)).app, await walk.state(left));
        await leaving.close();
      }

      // A person whom the operator has disabled.
      const [namespace, subject] = [protocol === "OIDC" ? "keycloak" : "keycloak-saml", user(first)];
      await sidecar.user("disable", namespace, subject);
      const kept = await walk.person();
      const denied = await kept.tab();
      await walk.open(denied, "/page");
      const no = await walk.enter(denied, way, people.alice, (seen) => seen.url.startsWith(`${url}/.loginsync/`) && seen.text.length > 0 && !seen.text.includes(way));
      await walk.picture(denied, `${protocol}-disabled`);
      check(of("a disabled person is told so"), !no.app && /administrator|access/i.test(no.text), no);
      await sidecar.user("enable", namespace, subject);
      await kept.close();
      await alice.close();
    }

    // Pages that anybody may meet.
    const stranger = await walk.person();
    const page = await stranger.tab();
    for (const [path, what, words] of [
      ["/.loginsync/signed-out", "signed-out", /Signed out/],
      ["/.loginsync/sign-out", "sign-out-without-session", /Signed out/],
      ["/.loginsync/callback?code=x&state=y", "answer-of-another-browser", /Start again|begun/],
      ["/.loginsync/acs", "acs-by-address", /Start again|begun/],
      ["/.loginsync/nothing", "no-such-page", /no such page/i],
      ["/.loginsync/slo", "logout-without-message", /./],
      ["/api/list", "api-without-session", /sign in|session/i],
      ["/x/../%2e%2e/y", "normal", /./],
      ["/public/a?id_token=eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.x", "login-elsewhere", /No login is accepted here|\{/],
    ]) {
      const seen = await walk.open(page, path);
      await walk.picture(page, what);
      check(`${name}: ${path}: a page that says what to do`, words.test(seen.text), seen);
    }
    await stranger.close();
  } finally {
    await browser.close();
  }
}
