// Operators at the console, signed in by Keycloak, in Chromium: the story of a refusal, of a mapping, and of a role that ends.

import puppeteer from "puppeteer-core";
import { check, checkEqual, fail } from "./checks.js";
import { Visitor, heardGroups } from "./parties.js";
import { BROWSERS } from "./walk.js";

const PATIENCE_MS = 20_000;

// What the sidecar of this section has beside the others.
export const OPERATORS = `
[console]
enabled    = true
provider   = "keycloak"
read_role  = "auditor"
write_role = "operator"

[brake]
minimum = 0
share   = "0%"

[[role]]
name       = "auditor"
privileged = true

[[role]]
name       = "operator"
privileged = true

[[mapping]]
name = "operators"
when = [{ claim = "groups", is = "operators" }]
then = [{ add_role = "operator" }]
`;

const textOf = (page) => page.evaluate(() => document.body.innerText);

async function press(page, label) {
  const button = await page.evaluateHandle(
    (label) => [...document.querySelectorAll("main button, main a")].find((one) => one.textContent.trim() === label), label);
  const element = button.asElement() ?? fail(`no button \`${label}\` at ${page.url()}: ${(await textOf(page)).slice(0, 300)}`);
  await Promise.all([page.waitForNavigation({ timeout: PATIENCE_MS }), element.evaluate((button) => button.click())]);
}

async function type(page, selector, text) {
  await page.$eval(selector, (field) => { field.value = ""; });
  await page.type(selector, text);
}

// From a page of the console to Keycloak, and back.
async function signIn(page, admin, path, person) {
  await page.goto(admin + path);
  await press(page, "Sign in with Keycloak by OIDC");
  if (await page.$("#kc-form-login")) {
    await page.type("#username", person.username);
    await page.type("#password", person.password);
    await Promise.all([page.waitForNavigation({ timeout: PATIENCE_MS }), page.$eval("#kc-form-login", (form) => form.submit())]);
  }
}

export async function runOperators({ party, admin, people, keycloak }) {
  const { url, sidecar } = party;
  await keycloak.setGroups("alice", ["operators"]);
  await keycloak.setGroups("bob", ["engineering"]);
  const browser = await puppeteer.launch({ ...BROWSERS.Chromium, headless: true, timeout: 60_000 });
  const faults = [];
  const open = async () => {
    const page = await (await browser.createBrowserContext()).newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("console", (message) => { if (message.type() === "error" && !/status of [45]\d\d/.test(message.text())) faults.push(message.text()); });
    return page;
  };
  try {
    const page = await open();
    await signIn(page, admin, "/console/people?q=al", people.alice);
    checkEqual("console: a sign-in by Keycloak ends at the page that was wanted", page.url(), `${admin}/console/people?q=al`);
    check("console: as the person, who may change", /by Keycloak by OIDC/.test(await textOf(page)) && /may change/.test(await textOf(page)), await textOf(page));

    const stranger = await open();
    await signIn(stranger, admin, "/console/", people.bob);
    check("console: who has no role stays outside", /You may not use the console/.test(await textOf(stranger)), await textOf(stranger));
    await stranger.goto(`${admin}/console/people`);
    check("console: and has no session", /You are not signed in/.test(await textOf(stranger)));

    // A refused person's number.
    const lost = new Visitor(url);
    const refused = await lost.ask(`${url}/.loginsync/callback?code=guessed&state=guessed`, { accept: "text/html" });
    const number = /this number to your administrator: <code>([^<]+)</.exec(refused.text)?.[1] ?? fail(`no number: ${refused.text.slice(0, 400)}`);
    await page.goto(`${admin}/console/explain`);
    await type(page, "#id", number);
    await press(page, "Look it up");
    check("console: the number of a refusal tells why", /no login of ours with this state/.test(await textOf(page)), await textOf(page));

    // A mapping, tried on a person, saved, at work, and removed against the brake.
    const bob = new Visitor(url);
    await bob.logIn("/", people.bob);
    await page.goto(`${admin}/console/mappings/new`);
    await page.select("#provider", "keycloak");
    await type(page, "#claim", "groups");
    await type(page, "#value", "engineering");
    await page.select("#target", "group:Marketing");
    await press(page, "Write the definition");
    await type(page, "#people", "bob");
    await press(page, "Try it on these people");
    check("console: tried on a person, it says what they gain", /1 person, of whom 1 gain/.test(await textOf(page)) && /Marketing/.test(await textOf(page)), await textOf(page));
    await press(page, "Save");
    const later = await new Visitor(url).logIn("/", people.bob);
    checkEqual("console: it works at the next login", heardGroups(later.app), "Engineering,Marketing");
    await page.goto(`${admin}/console/mappings?q=Marketing`);
    await press(page, "groups = engineering");
    await press(page, "Try removing it");
    check("console: its removal meets the brake", /The brake stops it unless you confirm/.test(await textOf(page)), await textOf(page));
    await press(page, "Remove");
    await press(page, "Remove and revoke all of it");
    checkEqual("console: confirmed, it revokes", heardGroups(await bob.heard()), "Engineering");
    const rows = await sidecar.audit();
    const removed = rows.find((row) => row.event === "mapping_deleted") ?? fail(`no row of the removal: ${rows.map((row) => row.event)}`);
    check("console: the audit names the person", /by Keycloak by OIDC` in the console/.test(removed.detail.by), removed.detail.by);

    // The role ends at Keycloak. At the next login the brake holds that, until it is released by its name.
    await keycloak.setGroups("alice", ["engineering"]);
    await new Visitor(url).logIn("/", people.alice);
    await page.goto(`${admin}/console/holds`);
    check("console: the brake holds the loss of the role", /role operator through keycloak/.test(await textOf(page)), await textOf(page));
    await type(page, "input[name=typed]", "operator");
    await press(page, "Release: revoke");
    check("console: a session ends with the role", /no role for the console any more/.test(await textOf(page)), await textOf(page));
    checkEqual("console: no page broke its own policy", faults, []);
  } finally {
    await browser.close();
    await keycloak.setGroups("alice", ["marketing"]);
  }
}
