// Logins through a sidecar to SCIM servers of others; what each shows of its own members is compared.
// usage: checks.mjs BIN FOLDER TOOLS, TOOLS being JSON of where the servers are.

import { execFile, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";

const [bin, folder, tools] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];
const here = path.dirname(fileURLToPath(import.meta.url));
const token = randomBytes(24).toString("hex");
const running = [];
let passed = 0;
let failed = 0;

function check(what, holds, more) {
  console.log(`${holds ? "ok      " : "FAILED  "}${what}${holds || more === undefined ? "" : `: ${JSON.stringify(more)}`}`);
  holds ? passed++ : failed++;
}

const free = () =>
  new Promise((done) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

function start(name, command, args, options = {}) {
  const out = fs.openSync(path.join(folder, `${name}.log`), "a");
  const child = spawn(command, args, { cwd: folder, stdio: ["ignore", out, out], detached: true, ...options });
  running.push(child);
  return child;
}

// A process of ours with all that it started.
async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((done) => child.once("exit", done));
  try {
    process.kill(-child.pid, "SIGTERM");
  } catch {
    return;
  }
  await Promise.race([gone, sleep(8000)]);
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {}
}

async function within(seconds, look) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await Promise.resolve().then(look).catch(() => undefined);
    if (found || Date.now() > end) return found;
    await sleep(100);
  }
}

async function call(method, url, body, bearer = token, form = "application/scim+json") {
  const answer = await fetch(url, {
    method,
    headers: { authorization: `Bearer ${bearer}`, "content-type": form, accept: form },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${text.slice(0, 200)}`);
  return text ? JSON.parse(text) : undefined;
}

// ---- the servers

// One whose truth is what it shows of itself.
class Plain {
  constructor(name, launch, { byName = false, active = true } = {}) {
    Object.assign(this, { name, launch, byName, active });
  }

  async open() {
    this.port = await free();
    this.base = `http://127.0.0.1:${this.port}${this.name === "scim2-server" ? "/v2" : "/scim/v2"}`;
    fs.writeFileSync(path.join(folder, "scim.token"), token);
    this.login = 'token_file = "scim.token"';
    await this.up();
  }

  async up() {
    this.child = this.launch(this.port);
    if (!(await within(30, () => call("GET", `${this.base}/Users`)))) throw new Error(`${this.name} does not answer`);
  }

  async all(kind) {
    return (await call("GET", `${this.base}/${kind}`)).Resources ?? [];
  }

  async users() {
    return (await this.all("Users")).map(({ userName }) => userName);
  }

  async groups() {
    return (await this.all("Groups")).map(({ displayName }) => displayName);
  }

  async isActive(name) {
    return (await this.all("Users")).find(({ userName }) => userName === name)?.active;
  }

  async members(group) {
    const found = (await this.all("Groups")).find(({ displayName }) => displayName === group);
    if (!found) return undefined;
    const names = new Map((await this.all("Users")).map(({ id, userName }) => [id, userName]));
    return (found.members ?? []).map(({ value }) => (this.byName ? value : names.get(value))).sort();
  }

  // As an administrator there does it.
  async putIn(group, name) {
    const schemas = ["urn:ietf:params:scim:schemas:core:2.0:User"];
    const person = { schemas, userName: name, active: true, displayName: name, name: { formatted: name, familyName: name } };
    const user = await call("POST", `${this.base}/Users`, person);
    const { id, displayName, members = [] } = (await this.all("Groups")).find((it) => it.displayName === group);
    await call("PUT", `${this.base}/Groups/${id}`, {
      schemas: ["urn:ietf:params:scim:schemas:core:2.0:Group"],
      id,
      displayName,
      members: [...members, { value: this.byName ? name : user.id, $ref: `${this.base}/Users/${user.id}`, display: name }],
    });
  }

  // Everything is in memory.
  async lose() {
    await stop(this.child);
    await this.up();
  }
}

// Its members are what its own admin API says.
class Keycloak {
  name = "Keycloak";
  active = true;

  async open() {
    this.port = await free();
    this.url = `http://127.0.0.1:${this.port}`;
    this.base = `${this.url}/realms/s/scim/v2`;
    this.password = randomBytes(16).toString("hex");
    const secret = randomBytes(16).toString("hex");
    fs.writeFileSync(path.join(folder, "client.secret"), secret);
    this.login = `token_endpoint = "${this.url}/realms/s/protocol/openid-connect/token"
client_id = "loginsync"
client_secret_file = "client.secret"`;
    const options = ["start-dev", "--db=dev-mem", "--http-host=127.0.0.1", `--http-port=${this.port}`, "--features=scim-api"];
    start("keycloak", path.join(tools.keycloak, "bin/kc.sh"), options, {
      env: {
        ...process.env,
        KC_BOOTSTRAP_ADMIN_USERNAME: "interop",
        KC_BOOTSTRAP_ADMIN_PASSWORD: this.password,
        JAVA_OPTS_KC_HEAP: "-Xms64m -Xmx512m",
      },
    });
    if (!(await within(150, () => this.token()))) throw new Error("Keycloak does not answer");
    const realm = fs.readFileSync(path.join(here, "realm.json"), "utf8").replace("SECRET", secret).replace("BASE", this.base);
    await this.admin("POST", "", JSON.parse(realm), `${this.url}/admin/realms`);
  }

  async token() {
    const form = { grant_type: "password", client_id: "admin-cli", username: "interop", password: this.password };
    const answer = await fetch(`${this.url}/realms/master/protocol/openid-connect/token`, {
      method: "POST",
      body: new URLSearchParams(form),
      signal: AbortSignal.timeout(10_000),
    });
    return answer.ok && (await answer.json()).access_token;
  }

  async admin(method, rest, body, at = `${this.url}/admin/realms/s`) {
    return call(method, at + rest, body, await this.token(), "application/json");
  }

  async users() {
    return (await this.admin("GET", "/users?max=100")).map(({ username }) => username);
  }

  async groups() {
    return (await this.admin("GET", "/groups")).map(({ name }) => name);
  }

  async isActive(name) {
    return (await this.admin("GET", `/users?exact=true&username=${name}`))[0]?.enabled;
  }

  async members(group) {
    const found = (await this.admin("GET", "/groups")).find(({ name }) => name === group);
    return found && (await this.admin("GET", `/groups/${found.id}/members`)).map(({ username }) => username).sort();
  }

  async putIn(group, name) {
    await this.admin("POST", "/users", { username: name, enabled: true });
    const [user] = await this.admin("GET", `/users?exact=true&username=${name}`);
    const found = (await this.admin("GET", "/groups")).find((it) => it.name === group);
    await this.admin("PUT", `/users/${user.id}/groups/${found.id}`);
  }

  async lose() {
    for (const { id } of await this.admin("GET", "/users?max=100")) await this.admin("DELETE", `/users/${id}`);
    for (const { id } of await this.admin("GET", "/groups")) await this.admin("DELETE", `/groups/${id}`);
  }
}

// ---- the sidecar between a provider of ours and an app that looks at the server

const { privateKey, publicKey } = generateKeyPairSync("ed25519");
let count = 0;

function idToken(subject, groups) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: "https://acme.okta.com",
    aud: "the-app",
    sub: subject,
    iat: now - 5,
    exp: now + 300,
    jti: `token-${++count}`,
    email: `${subject}@example.com`,
    name: `${subject} Doe`,
    groups,
  };
  const signed = `${part({ alg: "EdDSA", kid: "one" })}.${part(claims)}`;
  return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;
}

async function tell(server) {
  const [proxy, admin] = [await free(), await free()];
  // What the app finds in the server's own list when a login reaches it.
  const seen = [];
  const app = http.createServer(async (request, response) => {
    seen.push({ Staff: await server.members("Staff"), Admins: await server.members("Admins") });
    response.end("hello");
  });
  await new Promise((done) => app.listen(0, "127.0.0.1", done));
  const name = server.name.toLowerCase();
  fs.writeFileSync(
    path.join(folder, "jwks.json"),
    JSON.stringify({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "one", use: "sig" }] }),
  );
  const groups = [["Staff", "staff"], ["Admins", "admins"]];
  const file = path.join(folder, `${name}.toml`);
  const text = `
public_url = "https://app.example.com"
[listen]
address = "127.0.0.1:${proxy}"
[admin]
address = "127.0.0.1:${admin}"
[app]
url = "http://127.0.0.1:${app.address().port}"
[store]
path = "${name}.db"
[limits]
login_timeout = "20s"
[[provider]]
name = "okta"
mode = "oidc-form-post"
issuer = "https://acme.okta.com"
client_id = "the-app"
callback = "/callback"
jwks_file = "jwks.json"
authorization_endpoint = "https://acme.okta.com/authorize"
algorithms = ["EdDSA"]
binding = "observe"
email_claim = "email"
[provider.claims.groups]
${groups.map(([group]) => `[[group]]\nname = "${group}"`).join("\n")}
${groups.map(([group, value]) => `[[mapping]]\nprovider = "okta"\nclaim = "groups"\nvalue = "${value}"\ngroup = "${group}"`).join("\n")}
[[scim]]
name = "app"
url = "${server.base}"
${server.login}
groups = "all"
create_groups = true
users = "${server.active ? "create-and-deactivate" : "create"}"
deliver = "before-entry"
entry_timeout = "10s"
when_unconfirmed = "refuse"
`;
  fs.writeFileSync(file, text);
  const command = (...words) =>
    new Promise((done) => {
      execFile(bin, [...words, "--config", file], { cwd: folder }, (error, out, err) => done({ code: error?.code ?? 0, out: out + err }));
    });
  const logIn = async (who, ...values) => {
    const answer = await fetch(`http://127.0.0.1:${proxy}/callback`, {
      method: "POST",
      body: new URLSearchParams({ id_token: idToken(who, values), state: "s" }),
      signal: AbortSignal.timeout(25_000),
    });
    return answer.status;
  };
  const sidecar = start(`loginsync-${name}`, bin, ["serve", "--config", file]);
  const title = (what) => `${server.name}: ${what}`;
  const same = (found, expected) => JSON.stringify(found) === JSON.stringify(expected);
  // A login enters, and by then the server's own list is so.
  const enters = async (what, who, values, expected) => {
    const status = await logIn(who, ...values);
    const found = status === 200 ? seen.at(-1) : (await command("delivery", "show", "app")).out;
    const holds = status === 200 && Object.entries(expected).every(([group, names]) => same(found[group] ?? [], names));
    check(title(what), holds, { status, found });
  };
  const settles = async (what, group, names) => {
    let found;
    const holds = await within(20, async () => same((found = await server.members(group)) ?? [], names));
    check(title(what), holds, { found, pending: holds ? undefined : (await command("delivery", "show", "app")).out });
  };
  try {
    check(title("the sidecar starts"), await within(20, async () => (await command("health")).code === 0));
    const before = [await server.users(), await server.groups()];
    const learned = await command("delivery", "test", "app");
    console.log(learned.out.trimEnd().replaceAll(/^/gm, "          "));
    check(title("a test learns what it can"), learned.code === 0 && /canary removed +yes/.test(learned.out));
    check(title("the test leaves nothing there"), same([await server.users(), await server.groups()], before));
    await enters("a first login makes the user and both groups", "alice", ["staff", "admins"], { Staff: ["alice"], Admins: ["alice"] });
    await enters("another joins", "bob", ["staff"], { Staff: ["alice", "bob"] });
    await server.putIn("Admins", "carol");
    await enters("a group is lost before the app sees the login, and others stay", "alice", ["staff"], { Staff: ["alice", "bob"], Admins: ["carol"] });
    await enters("one of two leaves", "bob", [], { Staff: ["alice"] });
    await enters("the last member leaves", "alice", [], { Staff: [], Admins: ["carol"] });
    await enters("who comes back is in again", "alice", ["staff"], { Staff: ["alice"] });
    await command("user", "disable", "okta/alice", "--by", "ops");
    await settles("a disabled user is out", "Staff", []);
    if (server.active) {
      check(title("and has no access"), await within(10, async () => (await server.isActive("alice")) === false));
    }
    await command("user", "enable", "okta/alice", "--by", "ops");
    await settles("an enabled user is in again", "Staff", ["alice"]);
    if (server.active) {
      check(title("and has access"), await within(10, async () => (await server.isActive("alice")) === true));
    }
    await server.lose();
    await enters("a server that has lost everything gets it back", "alice", ["staff", "admins"], { Staff: ["alice"], Admins: ["alice"] });
    await enters("and others as they come", "bob", ["admins"], { Staff: ["alice"], Admins: ["alice", "bob"] });
    await command("user", "erase", "okta/alice", "--by", "ops");
    await settles("an erased user is out", "Admins", ["bob"]);
    const shown = JSON.parse((await command("delivery", "show", "app", "--json")).out);
    check(title("nothing is left to tell"), await within(10, async () => (await command("delivery", "list")).out.includes("0 pending")), shown);
  } finally {
    await stop(sidecar);
    app.close();
    const log = fs.readFileSync(path.join(folder, `loginsync-${name}.log`), "utf8");
    check(title("the log says how long logins waited, and holds no token"), /"waited_ms":\d/.test(log) && !log.includes(token));
  }
}

const servers = [
  new Plain("scim2-server", (port) => start("scim2-server", tools.scim2, ["--port", String(port), "--bearer-token", token])),
  new Plain("scimmy", (port) => start("scimmy", "node", [tools.scimmy, String(port), token])),
  new Plain("Canaille", (port) => start("canaille", tools.canaille, [path.join(here, "canaille_server.py"), String(port), token]), { byName: true }),
  ...(tools.keycloak ? [new Keycloak()] : []),
];
const only = process.env.INTEROP_ONLY;
try {
  for (const server of servers.filter(({ name }) => !only || name.toLowerCase().includes(only.toLowerCase()))) {
    try {
      await server.open();
      await tell(server);
    } catch (error) {
      check(`${server.name}: ${error.message}`, false);
    }
  }
} finally {
  for (const child of running) await stop(child);
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
