// Shows the attack corpus to real stacks, directly and through the sidecar. stacks.sh says what it needs, and calls it.

import { mkdirSync, readFileSync, writeFileSync, existsSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { check, counts } from "./checks.js";
import { casesOf, request } from "./corpus.js";
import { MODES } from "./modes.js";
import { mutated, numbers } from "./mutate.js";
import { Provider } from "./provider.js";
import { Sidecar } from "./sidecar.js";
import { STACKS, start } from "./stacks.js";
import { eachOf, send } from "./wire.js";

const AT_ONCE = 8;
const SHOWN = 12; // of the cases that got past
const PATIENCE = 5000; // milliseconds
const environment = (name) => process.env[name] ?? (() => { throw new Error(`${name} is not set`); })();

const directory = environment("STACKS_DIRECTORY");
const corpus = environment("STACKS_CORPUS");
// What is known to get past, and why; anything else is a failure.
const open = JSON.parse(readFileSync(join(directory, "open.json"), "utf8")).map((each) => ({ ...each, cases: new RegExp(each.cases), seen: 0 }));
const totals = { stacks: 0, sent: 0, direct: 0, through: 0, past: 0, open: 0, table: {} };

// The journal of one app: what it wrote down since last asked.
class Journal {
  #read = 0;
  constructor(file) { this.file = file; }
  async take() {
    await sleep(200); // an app may still be writing when its answer has come
    const text = existsSync(this.file) ? readFileSync(this.file, "utf8") : "";
    const lines = text.slice(this.#read).split("\n").filter(Boolean);
    this.#read = text.length;
    return lines.map((line) => JSON.parse(line));
  }
}

const share = Number(process.env.STACKS_SHARE || 1);
const mutants = Number(process.env.STACKS_MUTANTS || 0);
const seed = Number(process.env.STACKS_SEED || Date.now() % 1_000_000);
const skipped = (process.env.STACKS_SKIP ?? "").split("|").filter(Boolean);
const wanted = STACKS.filter((each) => !skipped.includes(each) && each.includes(process.env.INTEROP_ONLY ?? ""));

const provider = await new Provider().start();
try {
  for (const stack of wanted) await tryStack(stack);
} finally {
  provider.stop();
}
report();

async function tryStack(stack) {
  const began = Date.now();
  console.log(`\n# ${stack}`);
  const home = join(directory, stack.replaceAll(/[^a-z]+/gi, "-").toLowerCase());
  mkdirSync(home, { recursive: true });
  const [app, proxy, admin, relay] = await freePorts(4);
  const ports = { app, proxy, admin, relay };
  writeFileSync(join(home, "key.pem"), provider.publicKey());
  const journal = new Journal(join(home, "journal"));
  const places = {
    directory: home, port: app, apps: join(directory, "apps"), venv: environment("STACKS_VENV"), jars: environment("STACKS_JARS"),
    classes: environment("STACKS_CLASSES"), fpm: process.env.STACKS_FPM,
  };
  let running;
  try {
    running = await start(stack, places, {
      KEY: join(home, "key.pem"), JOURNAL: journal.file, PORT: String(app), RELAY: `http://127.0.0.1:${relay}/relay/token`,
    });
  } catch (error) {
    check(`${stack}: starts`, false, error.message);
    return;
  }
  totals.stacks++;
  try {
    await control(stack, ports, journal);
    for (const [name, mode] of process.env.STACKS_DIRECT ? [] : Object.entries(MODES)) {
      if (name.includes(process.env.INTEROP_MODE ?? "")) await behind(stack, name, mode, home, ports, journal);
    }
  } catch (error) {
    check(`${stack}: runs to its end`, false, error?.stack ?? String(error));
  } finally {
    await running.stop();
  }
  console.log(`       ${stack}: ${((Date.now() - began) / 1000).toFixed(0)} s`);
}

// What is sent through the sidecar: with a share, another part of the cases at each stack, so that together they see all.
function partOf(stack, mode) {
  return casesOf(corpus, mode).filter((_, at) => (at + STACKS.indexOf(stack)) % share === 0);
}

// Without the sidecar the app has to believe many of the cases, or nothing that follows shows anything.
async function control(stack, { app }, journal) {
  const believed = (mode, names) => {
    totals.direct += names.size;
    for (const name of names) (totals.table[name] ??= new Set()).add(stack);
    check(`${stack}: believes ${names.size} cases of ${mode} when they reach it directly`, names.size > 40);
  };
  for (const mode of ["bearer", "oidc-form-post"]) {
    const known = await show({ port: app, count: "sent" }, MODES[mode], "mallory", journal);
    believed(mode, new Set(known.map((each) => each.name)));
  }
  const all = casesOf(corpus, "relying-party");
  const seen = await showAsStranger(app, all, "", journal);
  totals.sent += all.length;
  const counts = (each) => (each.name.startsWith("headers: ") ? each.users.includes("mallory") : each.callback);
  believed("relying-party", new Set(seen.filter(counts).map((each) => each.name)));
}

async function behind(stack, name, mode, home, ports, journal) {
  const place = join(home, name.replaceAll(/[^a-z]+/g, "-"));
  mkdirSync(place);
  writeFileSync(join(place, "jwks.json"), JSON.stringify(provider.jwks()));
  writeFileSync(join(place, "loginsync.toml"), mode.config(ports, provider));
  const sidecar = new Sidecar({
    binary: environment("LOGINSYNC_BIN"), config: join(place, "loginsync.toml"), directory: place,
    adminUrl: `http://127.0.0.1:${ports.admin}`, logFile: join(place, "loginsync.log"),
  });
  await sidecar.start();
  try {
    if (mode.mode === "relying-party") await withoutSession(stack, name, mode, sidecar, ports, journal);
    else await withTokens(stack, name, mode, sidecar, ports, journal);
  } finally {
    await sidecar.stop();
  }
}

async function withTokens(stack, name, mode, sidecar, ports, journal) {
  // A busy machine may take its time for who is to enter.
  const enters = async (who, patience = 0) => {
    const jti = randomUUID();
    const gateway = provider.token(who, { issuer: provider.gateway });
    for (const message of mode.enter({ token: provider.token(who, { jti }), gateway, who, jti })) await send(ports.proxy, message);
    const until = Date.now() + patience;
    for (;;) {
      if ((await journal.take()).some((entry) => entry.known.some((each) => each.who === who && each.jti === jti))) return true;
      if (Date.now() >= until) return false;
    }
  };
  check(`${stack}: mallory enters by ${name} while enabled`, await enters("mallory", PATIENCE));
  for (const namespace of mode.namespaces) await sidecar.user("disable", namespace, "mallory");
  check(`${stack}: honest enters by ${name}`, await enters("honest", PATIENCE));
  check(`${stack}: mallory does not enter by ${name} once disabled`, !await enters("mallory"));
  for (const who of ["mallory", "denied"]) {
    // Paths are the same for whom a gate denies.
    const all = partOf(stack, mode.mode).filter((each) => who === "mallory" || !each.isProduct);
    const known = await show({ port: ports.proxy, count: "through" }, mode, who, journal, all);
    // A case that names another subject is of another person, who may enter once we know them.
    const people = await sidecar.people();
    const past = known.filter((each) => each.who === who || !people.has(each.who));
    verdict(`${stack}: ${who} gets past ${name}`, mode.mode, past);
  }
  if (mutants > 0) await withMutants(stack, name, mode, ports, journal);
  check(`${stack}: honest still enters by ${name}`, await enters("honest", PATIENCE));
}

// Cases with random changes: those that the app believes when they reach it directly are sent through the sidecar as well.
async function withMutants(stack, name, mode, ports, journal) {
  const cases = casesOf(corpus, mode.mode);
  const all = Array.from({ length: mutants }, (_, at) => {
    const number = seed + at * 7919 + STACKS.indexOf(stack) * 1_000_003;
    const each = cases[numbers(number)(cases.length)];
    return { ...each, name: `${each.name} (mutant ${number})`, number };
  });
  const direct = await show({ port: ports.app, count: "sent" }, mode, "mallory", journal, all);
  const believed = new Set(direct.filter((each) => each.who === "mallory").map((each) => each.name));
  const chosen = all.filter((each) => believed.has(each.name));
  const known = await show({ port: ports.proxy, count: "through" }, mode, "mallory", journal, chosen);
  console.log(`       ${stack}: ${chosen.length} of ${mutants} mutants of ${name} are believed directly (seed ${seed})`);
  verdict(`${stack}: mallory gets past ${name} by mutants`, mode.mode, known.filter((each) => each.who === "mallory"));
}

// Shows every case of a mode with a token of `who`; what the app then knew, as { name, via, path }.
async function show(where, mode, who, journal, all = casesOf(corpus, mode.mode)) {
  const names = new Map();
  const groups = who === "denied" ? ["contractors"] : ["staff"];
  await eachOf(all, AT_ONCE, async (each) => {
    const jti = randomUUID();
    names.set(jti, each.name);
    const token = provider.token(who, { shape: each.token, jti, groups, issuer: issuerOf(each, "{{TOKEN}}") });
    const honest = provider.token("honest", { issuer: issuerOf(each, "{{HONEST}}") });
    const message = request(each, { token, honest, who, field: mode.field, issuer: provider.issuer });
    await send(where.port, each.number === undefined ? message : mutated(message, numbers(each.number)));
  });
  totals[where.count] += all.length;
  const entries = await journal.take();
  return entries.flatMap((entry) => entry.known.filter((each) => names.has(each.jti) && mode.counts(each.via))
    .map((each) => ({ name: names.get(each.jti), who: each.who, via: each.via, path: entry.path, callback: entry.callback })));
}

// A gateway's tokens have an issuer of their own.
function issuerOf(each, placeholder) {
  const gateway = (each.headers ?? []).some(([name, value]) => value === placeholder && /cf.access.jwt.assertion/i.test(name));
  return gateway ? provider.gateway : provider.issuer;
}

async function withoutSession(stack, name, mode, sidecar, ports, journal) {
  const cookie = await signIn(ports.proxy, "honest");
  const page = { path: "/login/callback" };
  await send(ports.proxy, request(page, {}, [["Cookie", cookie], ["X-Case", "honest"]]));
  const seen = (await journal.take()).filter((entry) => entry.case === "honest" && entry.callback);
  check(`${stack}: honest reaches the page by ${name}, by name`, seen.length === 1 && seen[0].users.includes("honest"), seen);
  const all = partOf(stack, "relying-party");
  totals.through += 2 * all.length;
  const past = (await showAsStranger(ports.proxy, all, "", journal)).filter((each) => each.callback || each.users.includes("mallory"));
  // With a session of another, for a page that everybody may see too: who is said to be there?
  past.push(...(await showAsStranger(ports.proxy, all, cookie, journal)).filter((each) => each.users.includes("mallory")));
  verdict(`${stack}: a stranger gets past ${name}`, mode.mode, past);
}

// Shows every case to the page that needs a session; what the app saw, as { name, via, path, callback, users }.
async function showAsStranger(port, all, cookie, journal) {
  const tokens = { token: provider.token("mallory"), honest: provider.token("honest"), field: "id_token", who: "mallory", issuer: provider.issuer };
  await eachOf(all.entries(), AT_ONCE, async ([number, each]) => {
    await send(port, request(each, tokens, [["X-Case", String(number)], ...(cookie ? [["Cookie", cookie]] : [])]));
  });
  return (await journal.take()).map((entry) => ({
    ...entry, name: all[Number(entry.case ?? NaN)]?.name ?? "a request within a request", via: entry.users.join(),
  }));
}

// The browser's way through a login of ours; gives the session's cookies.
async function signIn(port, who) {
  const jar = new Map();
  const get = async (target) => {
    const cookies = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const { text } = await send(port, request({ path: target }, {}, [["Cookie", cookies], ["Accept", "text/html"], ["Sec-Fetch-Mode", "navigate"]]));
    for (const [, name, value] of text.matchAll(/^set-cookie: ([^=]+)=([^;\r\n]*)/gim)) jar.set(name, value);
    return /^location: (.*?)\r?$/im.exec(text)?.[1];
  };
  let location = await get("/login/callback");
  for (let step = 0; location && step < 6; step++) {
    const url = new URL(location, "https://app.example");
    if (url.origin === provider.issuer) {
      location = (await fetch(url, { redirect: "manual", headers: { "x-who": who } })).headers.get("location");
    } else if (url.pathname === "/login/callback") {
      break;
    } else {
      location = await get(url.pathname + url.search);
    }
  }
  return [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
}

function verdict(what, mode, past) {
  const cases = [...new Map(past.map((each) => [`${each.name} ${each.callback}`, each])).values()];
  const known = cases.filter((each) => {
    const entry = open.find((one) => one.modes.includes(mode) && one.cases.test(each.name) && !(one.elsewhere && each.callback));
    if (entry) entry.seen++;
    return entry;
  });
  const unknown = cases.filter((each) => !known.includes(each));
  totals.past += unknown.length;
  totals.open += known.length;
  check(`${what}: 0 cases${known.length > 0 ? ` beside ${known.length} that open.json names` : ""}`, unknown.length === 0);
  for (const each of unknown.slice(0, process.env.STACKS_ALL ? undefined : SHOWN)) console.log(`       ${each.name}  (${each.via}, ${each.path})`);
  if (unknown.length > SHOWN) console.log(`       … ${unknown.length} in all`);
}

function report() {
  const least = process.env.INTEROP_ONLY ? 1 : Number(process.env.STACKS_LEAST ?? 1);
  check(`at least ${least} stacks ran${skipped.length > 0 ? `; without ${skipped.join(", ")}` : ""}`, totals.stacks >= least);
  const lines = Object.entries(totals.table).map(([name, stacks]) => `${name}\t${[...stacks].join(", ")}`).sort();
  writeFileSync(join(directory, "believed.tsv"), `${lines.join("\n")}\n`);
  console.log(`\nstacks: ${totals.stacks} of ${STACKS.length}, requests through the sidecar: ${totals.through}; `
    + `believed directly: ${totals.direct} of ${totals.sent}; got past the sidecar: ${totals.past}, and ${totals.open} that are known to`);
  for (const each of open) console.log(`  known: ${each.why} (${each.seen} in ${each.modes.join(", ")})`);
  writeFileSync(join(directory, "verdict"), `${counts.passed} passed, ${counts.failed} failed\n`);
  process.exitCode = counts.failed === 0 ? 0 : 1;
}

async function freePorts(many) {
  const servers = await Promise.all(Array.from({ length: many }, () => new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => resolve(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
