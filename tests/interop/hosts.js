// Several hosts of a domain behind one nginx that asks the sidecar, an app below a path, and pages of ours elsewhere: in a real browser,
// under the names that the documentation has, at port 443 as far as the browser knows.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import puppeteer from "puppeteer-core";
import { check, checkEqual } from "./checks.js";
import { Gateway, documented, nginxAround } from "./gateways.js";
import { BROWSERS, Walk, user } from "./walk.js";

const DOMAIN = "example.com";
export const APP = `https://app.${DOMAIN}`;
const [WIKI, CI, UNNAMED] = ["wiki", "ci", "unnamed"].map((host) => `https://${host}.${DOMAIN}`);
const PROVIDER = "Sign in to your account";

const tls = (port, names) => `listen 127.0.0.1:${port} ssl;
        server_name ${names};
        ssl_certificate walk-certificate.pem;
        ssl_certificate_key walk-key.pem;`;

// How nginx stands before the sidecar in each arrangement, and what the sidecar's configuration has for it.
export const ARRANGEMENTS = {
  hosts: {
    url: APP,
    session: `cookie_domain = "${DOMAIN}"`,
    more: `[forward_auth]\ngateway = "nginx"\nhosts = ["wiki.${DOMAIN}", "ci.${DOMAIN}"]
[[path]]\nprefix = "/open"\nhosts = ["wiki.${DOMAIN}"]\naccess = "public"\n`,
    // The page's configuration for one host, and the line that it asks for where there are several.
    servers: ({ port, directory, ...ports }) => {
      const own = documented(directory, "nginx", ports);
      const asked = "proxy_set_header X-Forwarded-Uri $request_uri;";
      if (!own.includes(asked)) throw new Error("docs/gateways.md: nginx does not say for which page it asks");
      return `server {
        ${tls(port, `*.${DOMAIN}`)}
        ${own.replace(asked, `${asked}\n    proxy_set_header X-Forwarded-Host $host;`)}
    }`;
    },
  },
  "a path that the gateway takes away": {
    url: `${APP}/app`,
    top: "",
    servers: ({ port, sidecar }) => `server {
        ${tls(port, `app.${DOMAIN}`)}
        location / { return 200 '{"address":"beside","identity":{},"cookies":""}'; }
        location /app/ {
            proxy_pass http://127.0.0.1:${sidecar}/;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }
    }`,
  },
  "a path whose pages are asked about": {
    url: `${APP}/app`,
    more: `[forward_auth]\ngateway = "nginx"\n`,
    servers: ({ port, directory, ...ports }) => `server {
        ${tls(port, `app.${DOMAIN}`)}
        ${documented(directory, "nginx", ports)
    .replace("location /.loginsync/ {", "location /app/.loginsync/ {")
    .replace("location / {", "location /app/ {")
    .replaceAll(`proxy_pass http://127.0.0.1:${ports.app};`, `proxy_pass http://127.0.0.1:${ports.app}/;`)
    .replace(`proxy_pass http://127.0.0.1:${ports.sidecar};`, `proxy_pass http://127.0.0.1:${ports.sidecar}/.loginsync/;`)}
    }`,
  },
  "pages of ours below a path that is left in place": {
    url: APP,
    top: `own_path = "/app/_auth/"`,
    ours: "/app/_auth",
    provider: `authorization_parameters = { prompt = "login", kc_locale = "en" }\nforward_login_hint = true\nresponse_mode = "form_post"`,
    servers: ({ port, sidecar }) => `server {
        ${tls(port, `app.${DOMAIN}`)}
        location /app/ {
            proxy_pass http://127.0.0.1:${sidecar};
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }
    }`,
  },
};

// Another site, whose pages link to the app and show it in a frame.
class Elsewhere {
  constructor(port) {
    this.url = `http://elsewhere.localhost:${port}`;
    this.port = port;
    this.server = createServer((req, res) => {
      const to = new URL(req.url, this.url).searchParams.get("to") ?? "";
      const shown = to.replaceAll(/["<>&]/g, "");
      res.writeHead(200, { "content-type": "text/html" }).end(`<a href="${shown}">go there</a><iframe src="${shown}"></iframe>`);
    });
  }

  start() {
    return new Promise((done, failed) => this.server.listen(this.port, "127.0.0.1", done).once("error", failed));
  }

  stop() {
    this.server.close();
    this.server.closeAllConnections();
  }
}

async function inBrowser(port, directory, body) {
  const chromium = BROWSERS.Chromium;
  // A profile whose owner lets frames of other sites have cookies, as Chromium by itself does not here.
  const profile = join(directory, "chromium");
  mkdirSync(join(profile, "Default"), { recursive: true });
  writeFileSync(join(profile, "Default", "Preferences"), JSON.stringify({ profile: { cookie_controls_mode: 0 } }));
  const rules = `MAP *.${DOMAIN}:443 127.0.0.1:${port}`;
  const browser = await puppeteer.launch({
    ...{ ...chromium, args: [...chromium.args, `--host-resolver-rules=${rules}`] },
    ...{ userDataDir: profile, headless: true, acceptInsecureCerts: true, timeout: 60_000 },
  });
  try {
    await body(browser);
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

export async function runHosts({ startParty, ports, directory, keycloak, people, screens, section }) {
  await keycloak.setGroups("alice", ["marketing"]);
  const elsewhere = new Elsewhere(ports.elsewhere);
  await elsewhere.start();
  try {
    for (const [title, arrangement] of Object.entries(ARRANGEMENTS)) {
      await section(`gateway, ${title}`, () => runArrangement({ title, arrangement, elsewhere, startParty, ports, directory, keycloak, people, screens }));
    }
  } finally {
    elsewhere.stop();
  }
}

async function runArrangement({ title, arrangement, elsewhere, startParty, ports, directory, keycloak, people, screens }) {
  const { url, session = "", more = "", top = "", ours = "/.loginsync", provider = "" } = arrangement;
  const change = (text) => `${top}\n${text}`.replace("[provider.claims.groups]", `${provider}\n[provider.claims.groups]`);
  const party = await startParty("hosts", { url, port: ports.hostsSidecar, adminPort: ports.hostsAdmin, clientId: "interop-hosts", session, more, change });
  const text = nginxAround(directory, arrangement.servers({ port: ports.hosts, sidecar: ports.hostsSidecar, app: ports.plain, directory }));
  const gateway = new Gateway("nginx", { port: ports.hosts, directory, text });
  try {
    await gateway.start();
    await inBrowser(ports.hosts, directory, async (browser) => {
      const walk = new Walk(title.replaceAll(/\W+/g, "-"), browser, { url, people, screens });
      await keycloak.logOut("alice");
      if (title === "hosts") await runSeveral({ walk, party, elsewhere, session, keycloak, people });
      else await runOne({ title, walk, ours, asks: provider !== "", keycloak, people });
    });
  } finally {
    await gateway.stop();
    await party.sidecar.stop();
  }
}

// From where the browser is sent to sign in to where the login leads: there is one provider, which is asked at once.
async function enter(walk, page, person, wanted = (seen) => seen.app) {
  const at = await walk.settle(page, (seen) => seen.text.includes(PROVIDER) || wanted(seen));
  if (!wanted(at)) {
    await page.type("#username", person.username);
    await page.type("#password", person.password);
    await page.evaluate(() => document.querySelector("#kc-form-login").submit());
  }
  return walk.settle(page, wanted);
}

const fetched = (page, address) => page.evaluate((to) => fetch(to, { redirect: "manual" }).then(({ status, type }) => `${status} ${type}`, String), address);

async function runSeveral({ walk, party, elsewhere, session, keycloak, people }) {
  const person = await walk.person();
  const page = await person.tab();
  await page.goto(`${WIKI}/page?year=1`);
  check("hosts: a host beside that of public_url leads to the provider", (await walk.settle(page, (seen) => seen.text.includes(PROVIDER))).url.startsWith(keycloak.issuer));
  await walk.picture(page, "provider");
  const first = await enter(walk, page, people.alice);
  await walk.picture(page, "wiki");
  checkEqual("hosts: a login returns to the place that was asked for, at that host", [first.url, first.app.address, Boolean(user(first))],
    [`${WIKI}/page?year=1`, "/page?year=1", true]);
  for (const host of [APP, CI]) {
    const seen = await walk.open(page, `${host}/page`);
    checkEqual(`hosts: and is valid at ${host}`, [seen.url, user(seen)], [`${host}/page`, user(first)]);
  }
  const cookies = (await person.context.cookies()).filter(({ name }) => name.endsWith("loginsync-s"));
  checkEqual("hosts: by one cookie of the domain", cookies.map(({ name, domain, path, secure, httpOnly, sameSite }) => ({ name, domain, path, secure, httpOnly, sameSite })),
    [{ name: "__Secure-loginsync-s", domain: `.${DOMAIN}`, path: "/", secure: true, httpOnly: true, sameSite: "Lax" }]);
  const unnamed = await walk.open(page, `${UNNAMED}/page`);
  check("hosts: a host that is not named is let through to no app", !unnamed.app, unnamed);

  // What one host opens stays closed at the others.
  const stranger = await walk.person();
  const tab = await stranger.tab();
  checkEqual("hosts: a path that one host opens is open there", (await walk.open(tab, `${WIKI}/open/a`)).app?.identity, {});
  for (const host of [APP, CI]) {
    await tab.goto(`${host}/open/a`);
    check(`hosts: and closed at ${host}`, (await walk.settle(tab, (seen) => seen.text.includes(PROVIDER) || seen.app)).url.startsWith(keycloak.issuer));
  }
  await walk.open(tab, `${WIKI}/open/a`);
  checkEqual("hosts: a script without a session hears 401, with no page to sign in at", await fetched(tab, `${WIKI}/list`), "401 basic");
  await stranger.close();

  // Links and frames of another site.
  const other = await person.tab();
  const linked = async (to) => {
    await other.goto(`${elsewhere.url}/?to=${encodeURIComponent(to)}`);
    await walk.settle(other, () => true);
    const frame = await (await other.$("iframe")).contentFrame();
    const framed = await frame.evaluate(() => document.body?.innerText ?? "").catch(() => "");
    await walk.click(other, "go there");
    const arrived = await walk.settle(other, (seen) => seen.app || seen.text.includes(PROVIDER));
    return [framed.includes(user(first)), arrived.url, user(arrived)];
  };
  checkEqual("hosts: SameSite=Lax: a link of another site arrives with the session, and a frame without", await linked(`${CI}/linked`), [false, `${CI}/linked`, user(first)]);
  await party.restart(`${session}\nsame_site = "none"`);
  await person.close();

  // In a window that is not private: in those Chromium never sends cookies to frames of other sites.
  const open = walk.personInOpen();
  const framing = await open.tab();
  await framing.goto(`${CI}/page`);
  await enter(walk, framing, people.alice);
  await framing.goto(`${elsewhere.url}/?to=${encodeURIComponent(`${WIKI}/framed`)}`);
  const frame = await (await framing.$("iframe")).contentFrame();
  const framed = await frame.evaluate(() => document.body.innerText);
  check("hosts: SameSite=None: a frame of another site has the session too", framed.includes(user(first)), framed);
  await walk.picture(framing, "framed");
  await framing.close();
  await keycloak.logOut("alice");

  await party.restart(`${session}\nsame_site = "strict"`);
  const strict = await walk.person();
  const apart = await strict.tab();
  await apart.goto(`${WIKI}/page`);
  checkEqual("hosts: SameSite=Strict: a login returns to the place asked for", (await enter(walk, apart, people.alice)).url, `${WIKI}/page`);
  checkEqual("hosts: SameSite=Strict: one host links to another with the session", user(await walk.open(apart, `${CI}/page`)), user(first));
  await apart.goto(`${elsewhere.url}/?to=${encodeURIComponent(`${CI}/linked`)}`);
  await walk.click(apart, "go there");
  const through = await walk.settle(apart, (seen) => seen.app);
  checkEqual("hosts: SameSite=Strict: a link of another site comes in by the provider, without a question", [through.url, user(through)], [`${CI}/linked`, user(first)]);

  // Signing out ends it at every host.
  await walk.open(apart, `${APP}/.loginsync/sign-out`);
  await walk.picture(apart, "sign-out");
  await walk.click(apart, "Sign out");
  // The page before it says so too, until the browser has left for the provider.
  const out = await walk.settle(apart, (seen) => seen.url.startsWith(`${APP}/.loginsync/signed-out`));
  await walk.picture(apart, "signed-out");
  check("hosts: a sign-out goes over the provider and back", out.url.startsWith(`${APP}/.loginsync/signed-out`), out);
  checkEqual("hosts: which knows of it", await keycloak.sessionsOf("alice"), []);
  for (const host of [WIKI, APP, CI]) {
    await apart.goto(`${host}/page`);
    const asked = await walk.settle(apart, (seen) => seen.app || seen.text.includes(PROVIDER));
    check(`hosts: and ${host} asks to sign in again`, !asked.app, asked);
  }
  await strict.close();
}

async function runOne({ title, walk, ours, asks, keycloak, people }) {
  const base = ours === "/.loginsync" ? walk.url : APP;
  const within = `${APP}/app`;
  const person = await walk.person();
  const page = await person.tab();
  const visited = [];
  const sent = []; // methods of what came back from the provider
  page.on("request", (request) => {
    if (!request.isNavigationRequest()) return;
    visited.push(request.url());
    if (request.url().startsWith(`${base}${ours}/callback`)) sent.push(request.method());
  });
  await page.goto(`${within}/page?year=1#top`);
  const first = await enter(walk, page, people.alice);
  await walk.picture(page, "app");
  const heard = ours === "/.loginsync" ? "/page?year=1" : "/app/page?year=1";
  checkEqual(`${title}: a login returns to the place that was asked for`, [first.url.split("#")[0], first.app.address, Boolean(user(first))], [`${within}/page?year=1`, heard, true]);
  checkEqual(`${title}: by the callback below it`, sent, [asks ? "POST" : "GET"]);
  if (asks) {
    const question = new URL(visited.find((each) => each.includes("/protocol/openid-connect/auth?"))).searchParams;
    checkEqual(`${title}: the provider is asked with the parameters`, ["prompt", "kc_locale", "response_mode"].map((name) => question.get(name)), ["login", "en", "form_post"]);
  }
  checkEqual(`${title}: a reload`, user(await walk.open(page, `${within}/page`)), user(first));
  const beside = await walk.open(page, `${APP}/beside`);
  check(`${title}: what is beside the path hears of no person`, !user(beside), beside);
  await walk.open(page, `${base}${ours}/sign-out`);
  await walk.picture(page, "sign-out");
  await walk.click(page, "Sign out");
  const out = await walk.settle(page, (seen) => /You are signed out here/.test(seen.text) && !/Go on/.test(seen.text));
  await walk.picture(page, "signed-out");
  check(`${title}: a sign-out ends below it too`, out.url.startsWith(`${base}${ours}/signed-out`), out);
  checkEqual(`${title}: and at the provider`, await keycloak.sessionsOf("alice"), []);
  await page.goto(`${within}/page`);
  const asked = await walk.settle(page, (seen) => seen.app || seen.text.includes(PROVIDER));
  check(`${title}: after which one signs in again`, !asked.app, asked);
  await person.close();
  if (asks) await runAsked({ title, walk, within, ours, keycloak, people });
}

// What the provider makes of the parameters that it is asked with.
async function runAsked({ title, walk, within, ours, keycloak, people }) {
  const person = await walk.person();
  const page = await person.tab();
  await page.goto(`${APP}${ours}/sign-in?rd=/app/page&login_hint=bob%40example.com`);
  await walk.settle(page, (seen) => seen.text.includes(PROVIDER));
  checkEqual(`${title}: the provider's form has the hint`, await page.evaluate(() => document.querySelector("#username").value), "bob@example.com");
  await page.evaluate(() => { document.querySelector("#username").value = ""; });
  await enter(walk, page, people.alice);
  await page.deleteCookie(...(await page.cookies(within)).filter(({ name }) => name.includes("loginsync")));
  await page.goto(`${within}/page`);
  const again = await walk.settle(page, (seen) => seen.app || (seen.url.startsWith(keycloak.issuer) && seen.text.length > 0));
  await walk.picture(page, "asked-again");
  check(`${title}: prompt=login asks a person again whom Keycloak knows`, !again.app && (await keycloak.sessionsOf("alice")).length > 0, again);
  await person.close();
  await keycloak.logOut("alice");
}
