// Mixed traffic, started by traffic.sh: people who sign in, upload, download, listen and talk, each looking whether what comes back is
// theirs and whole.

import { spawn } from "node:child_process";
import { createHash, randomBytes, randomInt, randomUUID } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import express from "express";
import { WebSocket, WebSocketServer } from "ws";
import { check, counts } from "./checks.js";
import { Visitor } from "./parties.js";
import { RotatingProvider, logIn } from "./rotation.js";
import { Sidecar } from "./sidecar.js";

const directory = process.env.TRAFFIC_DIRECTORY;
const minutes = Number(process.env.TRAFFIC_MINUTES);
const crowd = Number(process.env.TRAFFIC_PEOPLE);
const binary = process.env.LOGINSYNC_BIN;
const LARGEST = 4 << 20;
const APPS = ["express", "gunicorn", "nginx"];

const ports = await freePorts(["provider", "behind", ...APPS.flatMap((name) => [name, `${name}Proxy`, `${name}Admin`])]);
const local = (name) => `http://127.0.0.1:${ports[name]}`;
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

// What was done, and what was wrong with it.
const done = { page: 0, upload: 0, download: 0, events: 0, socket: 0, login: 0, reload: 0, bytes: 0 };
const wrong = { lost: [], changed: [], foreign: [] };
const note = (kind, what) => { if (wrong[kind].length < 20) wrong[kind].push(what); else wrong[kind].length++; };

// ---- The apps

const toldBy = (req) => ({ id: req.headers["x-id"] ?? null, user: req.headers["x-loginsync-user"] ?? null });

function startExpress() {
  const app = express();
  app.get("/page", (req, res) => res.json(toldBy(req)));
  app.all("/upload", async (req, res) => {
    const digest = createHash("sha256");
    let length = 0;
    for await (const piece of req) { digest.update(piece); length += piece.length; }
    res.json({ ...toldBy(req), sha256: digest.digest("hex"), length });
  });
  app.get("/download", (req, res) => {
    res.set("x-told", JSON.stringify(toldBy(req))).type("application/octet-stream");
    res.send(pattern(req.query.seed, Number(req.query.length)));
  });
  app.get("/events", async (req, res) => {
    res.type("text/event-stream").flushHeaders();
    for (let at = 0; at < Number(req.query.count) && !res.destroyed; at++) {
      await sleep(Number(req.query.pause) * 1000);
      res.write(`data: ${JSON.stringify({ ...toldBy(req), at })}\n\n`);
    }
    res.end();
  });
  const server = app.listen(ports.express, "127.0.0.1");
  const sockets = new WebSocketServer({ server, path: "/socket" });
  sockets.on("connection", (socket, req) => {
    socket.on("message", (message, binaryMessage) => socket.send(binaryMessage ? message : JSON.stringify({ ...toldBy(req), text: String(message) })));
    socket.on("error", () => {});
  });
  return () => { server.close(); server.closeAllConnections(); };
}

const pattern = (seed, length) => Buffer.alloc(length, seed);

function launch(command, args, log) {
  const out = openSync(join(directory, log), "a");
  const child = spawn(command, args, { cwd: directory, stdio: ["ignore", out, out], detached: true });
  appendFileSync(process.env.TRAFFIC_GROUPS, `${child.pid}\n`); // ended by the shell, whatever becomes of us
  return () => { try { process.kill(-child.pid, "SIGTERM"); } catch { /* it has ended */ } };
}

function startGunicorn() {
  return launch(process.env.TRAFFIC_GUNICORN, ["--bind", `unix:${directory}/gunicorn.sock`, "--worker-class", "gthread", "--threads", "32", "--workers", "1", "traffic:app"], "app-gunicorn.log");
}

function startNginx() {
  for (const folder of ["files", "temporary"]) mkdirSync(join(directory, folder));
  writeFileSync(join(directory, "nginx.conf"), `
    ${process.getuid() === 0 ? "user root;" : ""} daemon off; worker_processes 1; pid ${directory}/nginx.pid; error_log ${directory}/app-nginx.log;
    events {}
    http {
      access_log off; client_max_body_size 8m;
      ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${directory}/temporary/${name};`).join(" ")}
      server {
        listen 127.0.0.1:${ports.nginx};
        add_header X-Told '{"id":"$http_x_id","user":"$http_x_loginsync_user"}' always;
        location = /page { default_type application/json; return 200 '{"id":"$http_x_id","user":"$http_x_loginsync_user"}'; }
        location /files/ { root ${directory}; dav_methods PUT DELETE; }
      }
    }`);
  return launch("nginx", ["-c", join(directory, "nginx.conf"), "-e", join(directory, "app-nginx.log")], "app-nginx.out");
}

// A balancer that passes connections through, and says whose they are by the PROXY protocol.
function startHaproxy() {
  writeFileSync(join(directory, "haproxy.cfg"), `
global
  maxconn 500
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend front
  bind 127.0.0.1:${ports.expressProxy}
  default_backend sidecar
backend sidecar
  server sidecar 127.0.0.1:${ports.behind} send-proxy-v2 check check-send-proxy
`);
  return launch("haproxy", ["-f", join(directory, "haproxy.cfg"), "-db"], "haproxy.log");
}

// ---- A sidecar for each

async function startSidecar(name, provider, secret) {
  const sidecar = new Sidecar({
    ...{ binary, directory, config: join(directory, `${name}.toml`), adminUrl: local(`${name}Admin`), logFile: join(directory, `${name}.log`) },
  });
  const write = (at) => writeFileSync(sidecar.config, `
public_url = "${local(`${name}Proxy`)}"
[listen]
address = "127.0.0.1:${name === "express" ? ports.behind : ports[`${name}Proxy`]}"
${name === "express" ? 'proxy_protocol = true\ntrusted_proxies = ["127.0.0.1"]' : ""}
[app]
url = "${name === "gunicorn" ? `unix:${directory}/gunicorn.sock` : local(name)}"
[admin]
address = "127.0.0.1:${ports[`${name}Admin`]}"
[store]
path = "${name}.db"
[cookies]
keys_file = "cookie.keys"
[session]
renew = "30s"
cache = "${at % 2}s"
[[provider]]
name = "op"
mode = "relying-party"
issuer = "${provider.issuer}"
client_id = "${name}"
client_secret_file = "client.secret"
[provider.claims.groups]
[[group]]
name = "Marketing"
[[mapping]]
provider = "op"
claim = "groups"
value = "marketing"
group = "Marketing"
`);
  write(0);
  await sidecar.start();
  return { sidecar, write };
}

// ---- The people

class Somebody {
  constructor(app, number) {
    this.app = app;
    this.name = `${app}-${number}`;
    this.url = local(`${app}Proxy`);
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  }

  async signIn() {
    this.visitor = new Visitor(this.url);
    const seen = await logIn(this.visitor, "/page", this.name);
    this.cookie = await this.visitor.jar.getCookieString(this.url);
    if (seen.user !== this.name) note("foreign", `${this.name}: a login is told as ${seen.user}`);
    done.login++;
  }

  async ask(method, path, body, headers = {}) {
    const id = randomUUID();
    const answer = await new Promise((resolve, reject) => {
      const sent = http.request(this.url + path, {
        method, agent: this.agent, signal: AbortSignal.timeout(60_000),
        headers: { cookie: this.cookie, "x-id": id, accept: "application/json", ...(body && { "content-length": body.length }), ...headers },
      }, async (response) => {
        const pieces = [];
        try { for await (const piece of response) pieces.push(piece); } catch (error) { reject(error); return; }
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces) });
      });
      sent.on("error", reject);
      sent.end(body);
    });
    done.bytes += answer.body.length + (body?.length ?? 0);
    return { id, ...answer };
  }

  theirs(what, id, told) {
    if (told?.id !== id || told?.user !== this.name) note("foreign", `${this.name}: ${what}: ${JSON.stringify(told)?.slice(0, 200)}, asked as ${id}`);
  }

  expect(what, answer, ...statuses) {
    if (statuses.includes(answer.status)) return true;
    note("changed", `${this.name}: ${what}: ${answer.status} ${answer.body.subarray(0, 200)}`);
    return false;
  }

  async page() {
    const answer = await this.ask("GET", `/page?n=${randomInt(1e6)}`);
    if (this.expect("page", answer, 200)) this.theirs("page", answer.id, JSON.parse(answer.body));
  }

  async upload() {
    const body = randomBytes(randomInt(2) ? randomInt(1, 2000) : randomInt(1, LARGEST));
    const type = { "content-type": "application/octet-stream" };
    if (this.app === "nginx") {
      const path = `/files/${this.name}-${randomUUID()}`;
      if (!this.expect("upload", await this.ask("PUT", path, body, type), 201, 204)) return;
      const back = await this.ask("GET", path);
      if (this.expect("what was uploaded", back, 200)) {
        this.theirs("upload", back.id, JSON.parse(back.headers["x-told"]));
        if (sha256(back.body) !== sha256(body)) note("changed", `${this.name}: a file of ${body.length} came back with ${back.body.length}`);
      }
      this.expect("its removal", await this.ask("DELETE", path), 204);
      return;
    }
    const answer = await this.ask(randomInt(2) ? "POST" : "PUT", "/upload", body, type);
    if (!this.expect("upload", answer, 200)) return;
    const told = JSON.parse(answer.body);
    this.theirs("upload", answer.id, told);
    if (told.sha256 !== sha256(body)) note("changed", `${this.name}: an upload of ${body.length} arrived as ${told.length}`);
  }

  async download() {
    if (this.app === "nginx") return this.upload();
    const [seed, length] = [randomUUID(), randomInt(1, LARGEST)];
    const answer = await this.ask("GET", `/download?seed=${seed}&length=${length}`);
    if (!this.expect("download", answer, 200)) return;
    this.theirs("download", answer.id, JSON.parse(answer.headers["x-told"]));
    if (sha256(answer.body) !== sha256(pattern(seed, length))) note("changed", `${this.name}: a download of ${length} came as ${answer.body.length}`);
  }

  async events() {
    if (this.app === "nginx") return this.page();
    const [count, pause] = [randomInt(1, 6), randomInt(4) ? 0.2 : 4];
    const answer = await this.ask("GET", `/events?count=${count}&pause=${pause}`);
    if (!this.expect("events", answer, 200)) return;
    const events = String(answer.body).split("\n\n").filter(Boolean).map((line) => JSON.parse(line.slice(6)));
    if (events.length !== count || events.some(({ at }, index) => at !== index)) note("changed", `${this.name}: ${events.length} of ${count} events`);
    for (const event of events) this.theirs("event", answer.id, event);
  }

  async socket() {
    if (this.app !== "express") return this.page();
    const id = randomUUID();
    const socket = new WebSocket(`${this.url.replace("http", "ws")}/socket`, { headers: { cookie: this.cookie, "x-id": id } });
    const came = [];
    let heard = () => {};
    for (const kind of ["open", "message", "error", "close"]) {
      socket.on(kind, (data, isBinary) => { came.push({ kind, data, isBinary }); heard(); });
    }
    const next = async (wanted) => {
      const deadline = Date.now() + 30_000;
      while (came.length === 0 && Date.now() < deadline) await Promise.race([new Promise((done) => { heard = done; }), sleep(1000)]);
      const { kind, data, isBinary } = came.shift() ?? { kind: "nothing" };
      if (kind !== wanted) throw new Error(`the socket: ${kind} in place of ${wanted} ${kind === "error" ? data.message : ""}`);
      return isBinary ? data : kind === "message" ? JSON.parse(data) : null;
    };
    await next("open");
    for (let round = randomInt(1, 6); round > 0; round--) {
      const text = randomUUID();
      socket.send(text);
      const told = await next("message");
      this.theirs("message", id, told);
      if (told.text !== text) note("changed", `${this.name}: another message came back`);
      const bytes = randomBytes(randomInt(1, 100_000));
      socket.send(bytes);
      if (sha256(await next("message")) !== sha256(bytes)) note("changed", `${this.name}: other bytes came back`);
      done.bytes += 2 * bytes.length;
      await sleep(randomInt(4) ? 20 : 3000); // quiet for a while
    }
    socket.close();
  }

  async live(until) {
    const acts = ["page", "page", "page", "upload", "upload", "download", "download", "events", "socket"];
    while (Date.now() < until) {
      const act = randomInt(40) ? acts[randomInt(acts.length)] : "signIn";
      try {
        await this[act]();
        if (act !== "signIn") done[act]++;
      } catch (error) {
        note("lost", `${this.name}: ${act}: ${error?.code ?? ""} ${error?.message ?? error}`);
        if (act === "signIn") await sleep(1000);
      }
      await sleep(randomInt(50, 400));
    }
    this.agent.destroy();
  }
}

// ---- All of it

async function freePorts(names) {
  const servers = names.map(() => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => new Promise((ready) => server.once("listening", ready))));
  const found = Object.fromEntries(names.map((name, index) => [name, servers[index].address().port]));
  await Promise.all(servers.map((server) => new Promise((ready) => server.close(ready))));
  return found;
}

const memory = async (name) => {
  const text = await fetch(`${local(`${name}Admin`)}/metrics`).then((answer) => answer.text(), () => "");
  return Object.fromEntries(["loginsync_requests_total", "loginsync_app_errors_total", "loginsync_held_bytes"].map((metric) => [
    metric.replace("loginsync_", ""),
    text.split("\n").filter((line) => line.startsWith(metric)).map((line) => line.replace(metric, "")).join(" "),
  ]));
};

const secret = randomBytes(24).toString("hex");
writeFileSync(join(directory, "client.secret"), `${secret}\n`, { mode: 0o600 });
writeFileSync(join(directory, "cookie.keys"), `${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
const provider = new RotatingProvider(ports.provider, APPS.map((name) => ({ id: name, url: local(`${name}Proxy`), secret })));
const stops = [];
let parties = [];
const stop = async () => {
  await Promise.all(parties.map(({ sidecar }) => sidecar.stop()));
  for (const each of stops) each();
};
process.once("SIGTERM", async () => { await stop(); process.exit(143); });

try {
  await provider.start();
  stops.push(() => provider.stop(), startExpress(), startGunicorn(), startNginx());
  const answers = (name) => name === "gunicorn" ? existsSync(join(directory, "gunicorn.sock")) : fetch(`${local(name)}/page`).then(() => true, () => false);
  for (const name of APPS) {
    for (let tries = 0; tries < 100 && !await answers(name); tries++) await sleep(100);
  }
  parties = await Promise.all(APPS.map((name) => startSidecar(name, provider, secret)));
  stops.push(startHaproxy()); // it looks for the sidecar at once
  for (let tries = 0; tries < 100 && !await fetch(`${local("expressProxy")}/`).then(() => true, () => false); tries++) await sleep(100);
  const people = Array.from({ length: crowd }, (_, at) => new Somebody(APPS[at % APPS.length], at));
  for (const each of people) await each.signIn();
  const until = Date.now() + minutes * 60_000;
  const reloads = (async () => {
    for (let at = 1; Date.now() + 5_000 < until; at++) {
      await sleep(Math.min(60_000, Math.max(0, until - Date.now())));
      if (Date.now() >= until) break;
      for (const { sidecar, write } of parties) {
        write(at);
        await sidecar.reload();
      }
      done.reload++;
      console.log(`minute ${at}: ${JSON.stringify(done)} lost ${wrong.lost.length}, changed ${wrong.changed.length}, foreign ${wrong.foreign.length}`);
    }
  })();
  await Promise.all(people.map((each) => each.live(until)));
  await reloads;
  for (const name of APPS) console.log(`${name}: ${JSON.stringify(await memory(name))}`);
  console.log(`refreshes ${provider.refreshes}, grants that the provider ended ${provider.revoked}`);
  console.log(`done: ${JSON.stringify(done)}`);
  check(`${minutes} minutes: no answer was lost`, wrong.lost.length === 0, wrong.lost);
  check("no answer was changed", wrong.changed.length === 0, wrong.changed);
  check("no answer was given to another", wrong.foreign.length === 0, wrong.foreign);
  check("no refresh token was used twice", provider.revoked === 0, provider.revoked);
  check("every kind of traffic took place", Object.entries(done).every(([kind, count]) => count > 0 || (kind === "reload" && minutes < 2)), done);
} catch (error) {
  check("the parts start", false, error?.stack ?? String(error));
} finally {
  await stop();
}
writeFileSync(join(directory, "verdict"), `${counts.passed} passed, ${counts.failed} failed\n`);
process.exit(counts.failed ? 1 : 0);
