// A provider inside a network, at a private address and over http: `allow_http`. inside.sh starts this in a network of its own, which has
// that address and nothing else. Prints a line a check and leaves the totals in `verdict`.

import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { check, checkEqual, counts, fail, section } from "./checks.js";
import { Visitor, heardGroups, heardUser } from "./parties.js";
import { createPlainApp } from "./plain.js";
import { RotatingProvider, logIn } from "./rotation.js";
import { Sidecar } from "./sidecar.js";

const directory = process.env.INTEROP_DIRECTORY;
const [PRIVATE, PUBLIC] = process.env.INSIDE_ADDRESSES.split(" ");
const ports = { provider: 9000, app: 9001, proxy: 9002, admin: 9003, abroad: 9004 };
const url = `http://127.0.0.1:${ports.proxy}`;
const secret = randomBytes(24).toString("hex");
const clients = [{ id: "inside", url, secret }];

writeFileSync(join(directory, "client.secret"), `${secret}\n`, { mode: 0o600 });

const configured = (issuer, provider) => `
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
client_secret_file = "client.secret"
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

await section("a provider inside a network", main);
writeFileSync(join(directory, "verdict"), `${counts.passed} passed, ${counts.failed} failed\n`);
process.exit(counts.failed === 0 && counts.passed > 0 ? 0 : 1);
