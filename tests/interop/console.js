// An operator's walk through the console, in Chromium. usage: node console.js DEMO_LOG

import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import puppeteer from "puppeteer-core";
import { check, checkEqual, counts, fail, section } from "./checks.js";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE_MS = 20_000;
const WIDE = { width: 1280, height: 860 };
const NARROW = { width: 390, height: 860 };
const SCREENS = process.env.CONSOLE_SCREENS;
const PICTURES = process.env.CONSOLE_PICTURES ?? "webp";

const told = await readFile(process.argv[2], "utf8");
const found = (pattern) => pattern.exec(told)?.[1] ?? fail(`no ${pattern} in the demo's words`);
const proxy = found(/open this\s+(\S+)/);
const provider = found(/and this\s+(http\S+)/);
const link = found(/and this, once (\S+)/);
const config = found(/configuration\s+(\S+)/);
const origin = new URL(link).origin;

const browser = await puppeteer.launch({
  executablePath: "/usr/bin/chromium",
  headless: true,
  timeout: 60_000,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

// A person's login in a browser of its own; answers the text of the page that it ends at.
async function logIn(label) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(`${proxy}/login/oidc`);
  await press(page, label);
  // The provider's answer posts itself.
  const deadline = Date.now() + PATIENCE_MS;
  while (!page.url().startsWith(proxy)) {
    if (Date.now() > deadline) fail(`the login stays at ${page.url()}`);
    await new Promise((done) => setTimeout(done, 50));
  }
  await page.waitForSelector("h1");
  const text = await page.evaluate(() => document.body.innerText);
  await context.close();
  return text;
}

const textOf = (page) => page.evaluate(() => document.querySelector("main").innerText);

// Presses the button of this name (and, of several, of this title), and waits for the page that it leads to.
async function press(page, label, title) {
  const button = await page.evaluateHandle(
    (label, title) => [...document.querySelectorAll("button, a")].find(
      (button) => button.textContent.trim() === label && (!title || button.getAttribute("aria-label") === title)),
    label, title,
  );
  const element = button.asElement() ?? fail(`no button \`${label}\` at ${page.url()}`);
  await Promise.all([page.waitForNavigation({ timeout: PATIENCE_MS }), element.evaluate((button) => button.click())]);
}

async function fill(page, selector, text) {
  await page.$eval(selector, (field) => { field.value = ""; });
  await page.type(selector, text);
}

const faults = [];
async function operator(options = {}) {
  const context = options.context ?? await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("console", (message) => { if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) faults.push(message.text()); });
  page.on("pageerror", (error) => faults.push(String(error)));
  await page.setViewport(WIDE);
  return page;
}

// axe-core on a page as it stands, light and dark, wide and narrow, and its pictures.
async function inspect(page, name) {
  for (const scheme of ["light", "dark"]) {
    for (const [width, viewport] of [["wide", WIDE], ["narrow", NARROW]]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.setViewport(viewport);
      await page.evaluate(() => window.scrollTo(0, 0));
      if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => window.axe.run());
      const words = violations.map((one) => `${one.id}: ${one.nodes[0].html}`);
      checkEqual(`${name}, ${scheme}, ${width}: axe-core finds nothing`, words, []);
      const sideways = await page.evaluate((narrow) => {
        const wider = (one) => one.scrollWidth > one.clientWidth + 1;
        const tables = narrow ? [...document.querySelectorAll(".scroll")].filter(wider).length : 0;
        return document.documentElement.scrollWidth > window.innerWidth || tables > 0;
      }, width === "narrow");
      check(`${name}, ${scheme}, ${width}: nothing scrolls sideways, and on a narrow screen no table does`, !sideways);
      if (SCREENS && (scheme === "light") === (width === "wide")) {
        const quality = PICTURES === "png" ? {} : { quality: 82 };
        await page.screenshot({ path: join(SCREENS, `${name}-${width}.${PICTURES}`), type: PICTURES, ...quality, fullPage: true });
      }
    }
  }
  await page.emulateMediaFeatures([]);
  await page.setViewport(WIDE);
}

if (SCREENS) await mkdir(SCREENS, { recursive: true });
const page = await operator();

await section("people log in, one of them with a forged token", async () => {
  for (const who of ["alice", "bob", "carol"]) {
    check(`${who} enters`, (await logIn(`Log in as ${who}`)).includes("is in"));
  }
});
const refused = await logIn("Forge a login as alice");
const number = /give this number to your administrator:\s*(\S+)/i.exec(refused)?.[1] ?? fail(`no number in ${refused}`);

await section("an operator signs in by the link, which works once", async () => {
  await page.goto(link);
  await inspect(page, "sign-in");
  await press(page, "Sign in");
  checkEqual("the address has no link in it", page.url(), `${origin}/console/`);
  const second = await operator();
  await second.goto(link);
  await press(second, "Sign in");
  check("a second browser stays outside", (await textOf(second)).includes("This link is no longer valid"));
});

await section("is all well?", async () => {
  const text = await textOf(page);
  check("three entered, one was refused", /3\s+entered/.test(text) && /refused\s+verify\s+1/.test(text), text);
  check("and why", /1 × .*signature does not verify/.test(text), text);
  await inspect(page, "overview");
});

await section("a refused person is found by the number that they were shown", async () => {
  await page.goto(`${origin}/console/explain`);
  await fill(page, "#id", number);
  await press(page, "Look it up");
  check("the reason is told", (await textOf(page)).includes("signature does not verify"));
  await inspect(page, "explain");
});

await section("a person, with every reason", async () => {
  await page.goto(`${origin}/console/people`);
  await inspect(page, "people");
  await fill(page, "#q", "alice");
  await press(page, "Search");
  await press(page, "alice");
  const text = await textOf(page);
  check("each group has its reason", text.includes("mapped by groups = engineering through oidc"), text);
  await inspect(page, "person");
});

await section("an act is shown before it is done", async () => {
  const person = page.url();
  await page.select("#denied", "group:On-call");
  await fill(page, "#reason", "on leave");
  await page.select("#days", "7");
  await Promise.all([page.waitForNavigation(), page.$eval("button[value=deny]", (button) => button.click())]);
  const text = await textOf(page);
  check("it says what would be lost", /loses\s+group On-call/.test(text), text);
  await inspect(page, "act");
  await press(page, "Do it");
  checkEqual("and leads back", page.url(), person);
  check("the deny shows", (await textOf(page)).includes("on leave"));
});

await section("logins and changes, the newest first", async () => {
  await page.goto(`${origin}/console/logins`);
  check("under the name of the operator", (await textOf(page)).includes("demo by link in the console"));
  await inspect(page, "logins");
});

await section("a mapping is tried, saved, and works at the next login", async () => {
  await page.goto(`${origin}/console/mappings`);
  await inspect(page, "mappings");
  await press(page, "New mapping");
  await page.select("#provider", "oidc");
  await fill(page, "#claim", "groups");
  await fill(page, "#value", "everyone");
  await page.select("#target", "group:Marketing");
  await press(page, "Write the definition");
  await fill(page, "#people", "alice");
  await press(page, "Try it on these people");
  check("alice would gain Marketing", /1 person, of whom 1 gain/.test(await textOf(page)) && /staff\/alice\s+group Marketing/.test(await textOf(page)), await textOf(page));
  await press(page, "Try it on everyone");
  const text = await textOf(page);
  check("and is among all who would", /staff\/alice\s+group Marketing/.test(text), text);
  await inspect(page, "mapping");
  await press(page, "Save");
  await logIn("Log in as alice");
  await page.goto(`${origin}/console/people?q=alice`);
  await press(page, "alice");
  check("and has it after her next login", (await textOf(page)).includes("mapped by groups = everyone"));
});

await section("groups, roles and their members", async () => {
  await page.goto(`${origin}/console/groups`);
  await inspect(page, "groups");
  await press(page, "Marketing");
  check("alice is among the members", (await textOf(page)).includes("staff/alice"));
  await inspect(page, "group");
});

await section("the brake takes a step of its own", async () => {
  await appendFile(config, '\n[brake]\nminimum = 0\nshare   = "0%"\n');
  const deadline = Date.now() + PATIENCE_MS;
  for (let braked = false; !braked; ) {
    if (Date.now() > deadline) fail("the brake is never met");
    await page.goto(`${origin}/console/mappings?q=everyone`);
    await press(page, "groups = everyone");
    await press(page, "Try removing it");
    braked = (await textOf(page)).includes("The brake stops it unless you confirm");
  }
  await press(page, "Remove");
  check("it is stopped", (await textOf(page)).includes("This would revoke too much at once"));
  await inspect(page, "braked");
  await press(page, "Remove and revoke all of it");
  await page.goto(`${origin}/console/groups/group?name=Marketing`);
  check("confirmed, it revokes", !(await textOf(page)).includes("staff/alice"));
});

await section("what the brake holds is released by its name", async () => {
  await page.goto(`${origin}/console/holds`);
  check("the brake holds nothing", (await textOf(page)).includes("The brake holds nothing"));
  // Bob leaves a group at the provider. The brake allows no loss by now, and holds his.
  const people = await (await browser.createBrowserContext()).newPage();
  await people.goto(provider);
  await press(people, "×", "Remove bob from marketing");
  await people.browserContext().close();
  await logIn("Log in as bob");
  await page.reload();
  const text = await textOf(page);
  check("it holds what bob's login would have revoked", /group Marketing through oidc/.test(text) && /1/.test(text), text);
  await page.$eval("details", (names) => { names.open = true; });
  check("and names him", (await textOf(page)).includes("staff/bob"));
  await inspect(page, "holds");
  await fill(page, "input[name=typed]", "Sales");
  await press(page, "Release: revoke");
  check("another name releases nothing", (await textOf(page)).includes("Nothing was changed"));
  await page.goto(`${origin}/console/holds`);
  await fill(page, "input[name=typed]", "Marketing");
  await press(page, "Release: revoke");
  check("its own does", (await textOf(page)).includes("The brake holds nothing"));
  await page.goto(`${origin}/console/groups/group?name=Marketing`);
  check("and bob has it no longer", !(await textOf(page)).includes("staff/bob"));
});

await section("a page keeps itself up to date", async () => {
  await page.goto(`${origin}/console/`);
  const entered = () => page.$eval(".figures strong", (figure) => Number(figure.textContent));
  const before = await entered();
  await logIn("Log in as bob");
  const deadline = Date.now() + PATIENCE_MS;
  while ((await entered()) === before && Date.now() < deadline) await new Promise((done) => setTimeout(done, 200));
  checkEqual("one more entered, and the page was not loaded again", await entered(), before + 1);
});

await section("the order of mappings", async () => {
  for (const value of ["night-shift", "typists"]) {
    await page.goto(`${origin}/console/mappings/new?provider=oidc&claim=groups&value=${value}&target=group%3AMarketing`);
    await press(page, "Save");
  }
  await press(page, "Order");
  await press(page, "Down: groups = night-shift");
  await press(page, "Try this order on everyone");
  check("nothing would change", (await textOf(page)).includes("No one gains or loses anything"));
  await inspect(page, "order");
  await press(page, "Save");
  checkEqual("it is saved", page.url(), `${origin}/console/mappings`);
});

await section("two editors of one mapping", async () => {
  await page.goto(`${origin}/console/mappings?q=typists`);
  await press(page, "groups = typists");
  const other = await operator({ context: page.browserContext() });
  await other.goto(page.url());
  const rewrite = (of, from, to) => of.$eval("#definition", (field, from, to) => { field.value = field.value.replace(from, to); }, from, to);
  await rewrite(other, '"typists"', '"authors"');
  await press(other, "Save");
  await other.close();
  await rewrite(page, '"typists"', '"writers"');
  await press(page, "Save");
  const text = await textOf(page);
  check("the second sees what differs", /− .*"authors"/.test(text) && /\+ .*"writers"/.test(text), text);
  await inspect(page, "difference");
});

await section("deliveries", async () => {
  await appendFile(config, '\n[[webhook]]\nname = "app"\nurl = "http://127.0.0.1:9/hook"\n');
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await textOf(page)).includes("Last failure")) {
    if (Date.now() > deadline) fail("the receiver never comes");
    await page.goto(`${origin}/console/deliveries`);
  }
  await logIn("Log in as alice");
  while (!/app\s+\S+\s+[1-9]/.test(await textOf(page)) || !/refused|connect|reach/i.test(await textOf(page))) {
    if (Date.now() > deadline) fail(`nothing is pending: ${await textOf(page)}`);
    await page.goto(`${origin}/console/deliveries`);
  }
  await inspect(page, "deliveries");
  await press(page, "app");
  check("who is meant, and why not", (await textOf(page)).includes("staff/alice"));
  await inspect(page, "delivery");
  await press(page, "Pause…");
  await press(page, "Pause it");
  check("it is paused", /Paused by .*demo by link/.test(await textOf(page)), await textOf(page));
});

await section("API clients", async () => {
  await page.goto(`${origin}/console/clients`);
  await fill(page, "#name", "robot");
  await page.click('input[value="read"]');
  await press(page, "Make the client");
  check("its secret is shown", /^[\w-]{43}$/.test(await page.$eval("#secret", (code) => code.textContent)));
  await inspect(page, "clients");
  await page.goto(`${origin}/console/clients`);
  checkEqual("once", await page.$("#secret"), null);
  await press(page, "End… client robot");
  await press(page, "End it");
  check("it has ended", /robot[\s\S]*ended/.test(await textOf(page)));
});

await section("operators, and the configuration", async () => {
  await page.goto(`${origin}/console/operators`);
  await inspect(page, "operators");
  await page.goto(`${origin}/console/configuration`);
  await inspect(page, "configuration");
});

await section("the audit is verified", async () => {
  await page.goto(`${origin}/console/logins`);
  await press(page, "Verify it now");
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await textOf(page)).includes("nothing was altered")) {
    if (Date.now() > deadline) fail(`it is never verified: ${await textOf(page)}`);
    await page.goto(`${origin}/console/logins`);
  }
  await inspect(page, "verified");
});

await section("what cannot be done says so", async () => {
  await page.goto(`${origin}/console/people/999`);
  await inspect(page, "not-found");
});

await section("by keyboard, and without script", async () => {
  await page.goto(`${origin}/console/people`);
  await page.keyboard.press("Tab");
  checkEqual("the first stop skips the navigation", await page.evaluate(() => document.activeElement.className), "skip");
  const outlined = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  check("the focus is seen", outlined !== "none", outlined);
  const positive = await page.evaluate(() => [...document.querySelectorAll("[tabindex]")].filter((one) => one.tabIndex > 0).length);
  checkEqual("nothing jumps the order", positive, 0);
  const plain = await operator({ context: page.browserContext() });
  await plain.setJavaScriptEnabled(false);
  await plain.goto(`${origin}/console/people?q=alice`);
  check("people are found", (await plain.content()).includes("staff/alice"));
});

await section("signing out ends the session", async () => {
  await page.goto(`${origin}/console/`);
  await press(page, "Sign out");
  await page.goto(`${origin}/console/people`);
  check("no page is shown any more", (await textOf(page)).includes("You are not signed in"));
});

checkEqual("no page broke its own policy, and no script failed", faults, []);
await browser.close();
await writeFile(join(process.env.INTEROP_DIRECTORY, "verdict"), `${counts.passed} passed, ${counts.failed} failed\n`);
process.exitCode = counts.failed ? 1 : 0;
