// A provider inside a network, at a private address and over http: `allow_http`. Another behind an egress proxy, tinyproxy. inside.sh starts
// this in a network of its own, which has their addresses and nothing else. Prints a line a check and leaves the totals in `verdict`.

import { createPublicKey, randomBytes } from "node:crypto";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { check, checkEqual, counts, fail, section } from "./checks.js";
import { Visitor, heardGroups, heardUser } from "./parties.js";
import { createPlainApp } from "./plain.js";
import { RotatingProvider, logIn } from "./rotation.js";
import { Sidecar } from "./sidecar.js";

const directory = process.env.INTEROP_DIRECTORY;
const [PRIVATE, PUBLIC] = process.env.INSIDE_ADDRESSES.split(" ");
const ports = { provider: 9000, app: 9001, proxy: 9002, admin: 9003, abroad: 9004, secure: 9005, egress: 9006 };
const url = `http://127.0.0.1:${ports.proxy}`;
const secret = randomBytes(24).toString("hex");
const clients = [{ id: "inside", url, secret }];

writeFileSync(join(directory, "client.secret"), `${secret}\n`, { mode: 0o600 });

const configured = (issuer, provider, authenticated = 'client_secret_file = "client.secret"') => `
public_url = "${url}"
[listen]
address = "127.0.0.1:${ports.proxy}"
[app]
url = "http://127.0.0.1:${ports.app}"
[admin]
address = "127.0.0.1:${ports.admin}"
[store]
path = "inside.db"
[session]
cache = "0s"
[[provider]]
name = "inside"
mode = "relying-party"
issuer = "${issuer}"
client_id = "inside"
${authenticated}
${provider}
[provider.claims.groups]
from = ["userinfo"]
[[group]]
name = "Marketing"
[[mapping]]
claim = "groups"
value = "marketing"
group = "Marketing"
provider = "inside"
`;

async function main() {
  const provider = new RotatingProvider(ports.provider, clients, { host: PRIVATE });
  const abroad = new RotatingProvider(ports.abroad, clients, { host: PUBLIC });
  const app = createPlainApp().listen(ports.app, "127.0.0.1");
  await Promise.all([provider.start(), abroad.start()]);
  const sidecar = new Sidecar({
    ...{ binary: process.env.LOGINSYNC_BIN, config: join(directory, "inside.toml"), directory },
    ...{ adminUrl: `http://127.0.0.1:${ports.admin}`, logFile: join(directory, "inside.log") },
  });
  const configure = async (issuer, more = "") => {
    writeFileSync(sidecar.config, configured(issuer, more));
    return sidecar.check();
  };
  try {
    const unsaid = await configure(provider.issuer);
    check("inside: an issuer of http is refused unless it is said", unsaid.status === 1 && /allow_http/.test(unsaid.stdout + unsaid.stderr), unsaid);
    const far = await configure(abroad.issuer, "allow_http = true");
    check("inside: a public address stays refused", far.status === 1 && /private/.test(far.stdout + far.stderr), far);
    const said = await configure(provider.issuer, "allow_http = true");
    checkEqual("inside: a private one is taken", said.status, 0);
    await sidecar.start();
    const alice = new Visitor(url);
    const app = await logIn(alice, "/page?year=1", "alice");
    checkEqual("inside: a login by it", [heardUser(app), heardGroups(app), app.address], ["alice", "Marketing", "/page?year=1"]);
    await sidecar.stop();
    // A name that leads to a public address, though the configuration cannot tell: looked at for each connection.
    const named = await configure(`http://provider.abroad:${ports.abroad}`, `allow_http = true`);
    checkEqual("inside: a name is looked up only when it is asked", named.status, 0);
    await sidecar.start().catch((error) => fail(error.message));
    const refused = await new Visitor(url).open(`${url}/page`);
    check("inside: and one that leads abroad is not asked", refused.status === 503, `${refused.status} ${refused.text.slice(0, 200)}`);
    checkEqual("inside: not once", abroad.asked, 0);
  } finally {
    await sidecar.stop();
    provider.stop();
    abroad.stop();
    app.close();
    app.closeAllConnections();
  }
}

class Tinyproxy {
  #process = null;

  async start() {
    const file = join(directory, "tinyproxy.conf");
    this.log = join(directory, "tinyproxy.log");
    writeFileSync(file, `Port ${ports.egress}\nListen 127.0.0.1\nLogFile "${this.log}"\nLogLevel Connect\nMaxClients 50\nConnectPort ${ports.secure}\n`);
    const out = openSync(join(directory, "tinyproxy.out"), "a");
    this.#process = spawn("tinyproxy", ["-d", "-c", file], { stdio: ["ignore", out, out] });
    closeSync(out);
    for (let tries = 0; tries < 200; tries++) {
      const socket = connect(ports.egress, "127.0.0.1");
      const answers = await once(socket, "connect").then(() => true, () => false);
      socket.destroy();
      if (answers) return;
      await sleep(50);
    }
    fail("tinyproxy does not answer");
  }

  asked() {
    return readFileSync(this.log, "utf8").match(/CONNECT \S+/g) ?? [];
  }

  async stop() {
    if (this.#process?.exitCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
  }
}

// Every question to a provider goes through the proxy, and none goes past it.
async function throughProxy() {
  const tls = { key: readFileSync(join(directory, "key.pem")), cert: readFileSync(join(directory, "certificate.pem")) };
  // The client has no secret: its certificate says who it is (RFC 8705 section 2.2).
  const key = { ...createPublicKey(tls.cert).export({ format: "jwk" }), use: "sig", x5c: [tls.cert.toString().replaceAll(/-----[^-]+-----|\s/g, "")] };
  const bearing = [{ id: "inside", url, token_endpoint_auth_method: "self_signed_tls_client_auth", jwks: { keys: [key] } }];
  const provider = new RotatingProvider(ports.secure, bearing, {
    host: PRIVATE,
    tls: { ...tls, requestCert: true, rejectUnauthorized: false },
    clientAuthMethods: ["self_signed_tls_client_auth"],
    features: { mTLS: { enabled: true, selfSignedTlsClientAuth: true, getCertificate: (ctx) => ctx.socket.getPeerX509Certificate() } },
  });
  const app = createPlainApp().listen(ports.app, "127.0.0.1");
  const proxy = new Tinyproxy();
  const sidecar = new Sidecar({
    ...{ binary: process.env.LOGINSYNC_BIN, config: join(directory, "egress.toml"), directory },
    ...{ adminUrl: `http://127.0.0.1:${ports.admin}`, logFile: join(directory, "inside.log") },
  });
  const certified = 'client_auth = "tls"\nclient_certificate = "certificate.pem"\nclient_key = "key.pem"';
  const write = (egress) => writeFileSync(sidecar.config, `${configured(provider.issuer, 'ca_file = "certificate.pem"', certified)}\n${egress}`);
  try {
    await Promise.all([provider.start(), proxy.start()]);
    write(`[egress]\nproxy = "http://127.0.0.1:${ports.egress}"\n`);
    checkEqual("egress: the configuration", (await sidecar.check()).status, 0);
    await sidecar.start();
    const entered = await logIn(new Visitor(url), "/page", "bob");
    checkEqual("egress: a login through the proxy, with a certificate for a secret", [heardUser(entered), heardGroups(entered)], ["bob", "Marketing"]);
    const through = proxy.asked();
    check("egress: the proxy saw tunnels to the provider alone", through.length > 0 && through.every((each) => each === `CONNECT ${PRIVATE}:${ports.secure}`), through);
    await proxy.stop();
    const late = await logIn(new Visitor(url), "/page", "carol").then(() => "entered", (error) => error.message);
    check("egress: without the proxy a login fails", /^no (login|form)/.test(late), late);
    await sidecar.stop();
    const asked = proxy.asked().length;

    // What `no_proxy` names is asked directly.
    write(`[egress]\nproxy = "http://127.0.0.1:${ports.egress}"\nno_proxy = ["10.0.0.0/8"]\n`);
    await sidecar.start();
    checkEqual("egress: a network that no_proxy names is asked directly", heardUser(await logIn(new Visitor(url), "/page", "dave")), "dave");
    checkEqual("egress: and not through the proxy", proxy.asked().length, asked);
  } finally {
    await sidecar.stop();
    await proxy.stop();
    provider.stop();
    app.close();
    app.closeAllConnections();
  }
}

await section("a provider inside a network", main);
await section("a provider behind an egress proxy", throughProxy);
writeFileSync(join(directory, "verdict"), `${counts.passed} passed, ${counts.failed} failed\n`);
process.exit(counts.failed === 0 && counts.passed > 0 ? 0 : 1);
