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

const told = await readFile(process.argv[2], "utf8");
const found = (pattern) => pattern.exec(told)?.[1] ?? fail(`no ${pattern} in the demo's words`);
const proxy = found(/open this\s+(\S+)/);
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

// Presses the button of this name, and waits for the page that it leads to.
async function press(page, label) {
  const button = await page.evaluateHandle(
    (label) => [...document.querySelectorAll("button, a")].find((button) => button.textContent.trim() === label),
    label,
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
      if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => window.axe.run());
      const words = violations.map((one) => `${one.id}: ${one.nodes[0].html}`);
      checkEqual(`${name}, ${scheme}, ${width}: axe-core finds nothing`, words, []);
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
      check(`${name}, ${scheme}, ${width}: nothing scrolls sideways but tables`, !sideways);
      if (SCREENS && (scheme === "light") === (width === "wide")) {
        await page.screenshot({ path: join(SCREENS, `${name}-${width}.webp`), type: "webp", quality: 82, fullPage: true });
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
  check("a second browser stays outside", (await textOf(second)).includes("This link opens no session"));
});

await section("is all well?", async () => {
  const text = await textOf(page);
  check("three entered, one was refused", /entered\s+3/.test(text) && /refused\s+verify\s+1/.test(text), text);
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
  check("each group has its reason", text.includes("mapped by `groups = engineering` through oidc"), text);
  await inspect(page, "person");
});

await section("an act is shown before it is done", async () => {
  const person = page.url();
  await page.select("#denied", "group:On-call");
  await fill(page, "#reason", "on leave");
  await page.select("#days", "7");
  await Promise.all([page.waitForNavigation(), page.$eval("button[value=deny]", (button) => button.click())]);
  const text = await textOf(page);
  check("it says what would be lost", /loses\s+group `On-call`/.test(text), text);
  await inspect(page, "act");
  await press(page, "Do it");
  checkEqual("and leads back", page.url(), person);
  check("the deny shows", (await textOf(page)).includes("on leave"));
});

await section("logins and changes, the newest first", async () => {
  await page.goto(`${origin}/console/logins`);
  check("under the name of the operator", (await textOf(page)).includes("`demo by link` in the console"));
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
  await press(page, "Try it on everyone");
  const text = await textOf(page);
  check("alice would gain Marketing", /staff\/alice\s+group `Marketing`/.test(text), text);
  await inspect(page, "mapping");
  await press(page, "Save");
  await logIn("Log in as alice");
  await page.goto(`${origin}/console/people?q=alice`);
  await press(page, "alice");
  check("and has it after her next login", (await textOf(page)).includes("mapped by `groups = everyone`"));
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

await section("holds", async () => {
  await page.goto(`${origin}/console/holds`);
  check("the brake holds nothing", (await textOf(page)).includes("The brake holds nothing"));
  await inspect(page, "holds");
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
