// Gateways that ask the sidecar whether a request may pass, configured as docs/gateways.md says.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, closeSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { check, checkEqual, fail } from "./checks.js";
import { FORGED, Visitor, heardGroups, heardUser } from "./parties.js";

const GATEWAYS = {
  nginx: {
    // Its refusals cannot be told apart by who asks: everybody is sent to sign in.
    program: 302,
    page: 302,
    hides: true,
    command: (file) => ["nginx", ["-c", file]],
    around: (part, { port, directory }) => nginxAround(directory, `server {\nlisten 127.0.0.1:${port};\n${part}\n}`),
  },
  caddy: {
    program: 401,
    page: 303,
    command: (file) => ["caddy", ["run", "--config", file, "--adapter", "caddyfile"]],
    around: (part, { port }) => `{
    admin off
    auto_https off
}
${replaced(part, "app.example.com", `http://127.0.0.1:${port}`)}
`,
  },
};

export const nginxAround = (directory, servers) => `
daemon off;
master_process off;
pid ${directory}/nginx.pid;
error_log ${directory}/nginx.log;
events {}
http {
    access_log off;
${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `    ${name}_temp_path ${directory}/nginx-${name};`).join("\n")}
${servers}
}
`;

// What an app is told where a person has no group: nginx and Caddy drop a header without a value.
export const NO_GROUPS = "-";

export const gatewayNames = Object.keys(GATEWAYS);

function replaced(text, from, to) {
  if (!text.includes(from)) fail(`docs/gateways.md: no ${from} in ${text}`);
  return text.replaceAll(from, to);
}

// The configuration that the page gives for a gateway, for other ports.
export function documented(directory, name, { sidecar, app }) {
  const page = readFileSync(join(directory, "gateways.md"), "utf8");
  const language = name === "caddy" ? "caddyfile" : name;
  const part = page.match(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "ms"))?.[1] ?? fail(`docs/gateways.md: nothing for ${name}`);
  return replaced(replaced(part, "127.0.0.1:8080", `127.0.0.1:${sidecar}`), "127.0.0.1:3000", `127.0.0.1:${app}`);
}

async function answers(port) {
  const socket = connect(port, "127.0.0.1");
  try {
    return await once(socket, "connect").then(() => true, () => false);
  } finally {
    socket.destroy();
  }
}

export class Gateway {
  #process = null;

  constructor(name, { port, directory, text }) {
    Object.assign(this, { name, port, directory, kind: GATEWAYS[name] });
    this.file = join(directory, `${name}.conf`);
    writeFileSync(this.file, text);
  }

  // As the page has it, on one host.
  static documented(name, { port, sidecarPort, appPort, directory }) {
    const part = documented(directory, name, { sidecar: sidecarPort, app: appPort });
    return new Gateway(name, { port, directory, text: GATEWAYS[name].around(part, { port, directory }) });
  }

  async start() {
    const [command, args] = this.kind.command(this.file);
    const log = openSync(join(this.directory, `${this.name}.out`), "a");
    const environment = { ...process.env, HOME: this.directory, XDG_DATA_HOME: this.directory, XDG_CONFIG_HOME: this.directory };
    this.#process = spawn(command, args, { cwd: this.directory, env: environment, stdio: ["ignore", log, log] });
    closeSync(log);
    let failure = null;
    this.#process.once("error", (error) => { failure = error; });
    for (let tries = 0; tries < 200; tries++) {
      if (failure) throw failure;
      if (this.#process.exitCode !== null) break;
      if (await answers(this.port)) return;
      await sleep(50);
    }
    throw new Error(`${this.name} does not answer: ${readFileSync(join(this.directory, `${this.name}.out`), "utf8").slice(-600)}`);
  }

  async stop() {
    if (this.#process?.exitCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await Promise.race([ended, sleep(5_000, undefined, { ref: false })]);
  }
}

export async function runGateway({ gateway, party, keycloak, people }) {
  const { name, kind } = gateway;
  const { url, sidecar } = party;
  await keycloak.setGroups("alice", ["marketing", "engineering"]);
  const alice = new Visitor(url);

  const stranger = await alice.ask(`${url}/page?year=1`, { accept: "text/html", ...FORGED });
  checkEqual(`${name}: a page sends a stranger to sign in`, [stranger.status, stranger.location],
    [kind.page, `${url}/.loginsync/sign-in?rd=%2Fpage%3Fyear%3D1`]);
  checkEqual(`${name}: a program is refused`, (await alice.ask(`${url}/page`, { accept: "application/json" })).status, kind.program);
  const posted = await alice.post(`${url}/page`, "a=b", FORGED);
  check(`${name}: a form too`, [302, 303, 401].includes(posted.status), posted.status);

  const login = await alice.logIn("/page?year=1", people.alice);
  checkEqual(`${name}: a login ends at the page that was wanted`, login.app?.address, "/page?year=1");
  checkEqual(`${name}: the app hears the groups`, heardGroups(login.app), "Engineering,Marketing");
  checkEqual(`${name}: which are granted`, await sidecar.memberships("keycloak", heardUser(login.app)),
    { groups: ["Engineering", "Marketing"], roles: ["editor"] });
  checkEqual(`${name}: and the roles`, login.app.identity["x-loginsync-roles"], ["editor"]);
  checkEqual(`${name}: and the address`, login.app.identity["x-loginsync-email"], ["alice@example.com"]);
  checkEqual(`${name}: a form passes with its person`, heardUser(JSON.parse((await alice.post(`${url}/form`, "a=b")).text)), heardUser(login.app));

  const forged = await alice.heard("/page", FORGED);
  checkEqual(`${name}: forged identity headers are replaced or gone`, forged?.identity, login.app.identity);
  await keycloak.setGroups("bob", []);
  const bob = new Visitor(url);
  const entered = await bob.logIn("/", people.bob);
  check(`${name}: who holds nothing enters`, entered.app !== null, entered.page.text.slice(0, 400));
  checkEqual(`${name}: and the app hears that there is no group`, heardGroups(entered.app), NO_GROUPS);
  checkEqual(`${name}: nor a role`, entered.app?.identity["x-loginsync-roles"], [NO_GROUPS]);
  const boasting = await bob.heard("/page", { ...FORGED, "X-Loginsync-Groups": "Administrators" });
  check(`${name}: and forged groups are not kept where there are none`, boasting !== null && !/mallory|admin/i.test(JSON.stringify(boasting)), boasting);
  // What a person loses, they lose behind the gateway too, the last group included.
  await keycloak.setGroups("bob", ["marketing"]);
  const joined = await new Visitor(url).logIn("/", people.bob);
  checkEqual(`${name}: a group is gained`, heardGroups(joined.app), "Marketing");
  await keycloak.setGroups("bob", []);
  const left = await new Visitor(url).logIn("/", people.bob);
  checkEqual(`${name}: and the last one is lost`, heardGroups(left.app), NO_GROUPS);

  if (kind.hides) {
    checkEqual(`${name}: browsers cannot ask what it asks`, (await bob.ask(`${url}/.loginsync/auth`)).status, 404);
  }
  checkEqual(`${name}: a stranger with forged headers stays one`, (await new Visitor(url).heard("/page", FORGED)), null);
  const out = await alice.signOut();
  check(`${name}: signing out passes through it`, out.visited.some((each) => each.startsWith(`${keycloak.issuer}/`)), out.visited);
  checkEqual(`${name}: and ends the session`, await alice.heard(), null);
}
