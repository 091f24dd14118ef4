// A lax Express app: takes a token wherever Express and its usual parsers find one, and writes down whom it then knows.

import { appendFileSync, readFileSync } from "node:fs";
import cookieParser from "cookie-parser";
import express from "express";
import jwt from "jsonwebtoken";
import multer from "multer";

const { KEY, JOURNAL, PORT, RELAY } = process.env;
const key = readFileSync(KEY, "utf8");
const IDENTITY = ["x-loginsync-user", "remote-user", "x-remote-user", "x-forwarded-user", "x-webauth-user", "x-auth-request-user"];

const lax = (path) => path.replaceAll(/;[^/]*/g, "").replaceAll(/[\\/]+/g, "/").toLowerCase().replace(/[/ .\t\r\n]+$/, "")
  .replace(/\.[a-z0-9.]*$/, "") === "/login/callback";

function* texts(value) {
  if (typeof value === "string") yield value;
  else if (value && typeof value === "object") for (const each of Object.values(value)) yield* texts(each);
}

function known(via, value, found) {
  for (const text of texts(value)) {
    for (const token of text.match(/(?<![A-Za-z0-9_-])[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g) ?? []) {
      try {
        const claims = jwt.verify(token, key, { algorithms: ["RS256"] });
        found.push({ who: String(claims.sub ?? claims.preferred_username), jti: claims.jti, via });
      } catch { /* not a token */ }
    }
  }
}

const app = express();
app.set("query parser", "extended");
// A parser that cannot read a body leaves it to the next, as an app does that takes what it can get.
const lenient = (parser) => (request, response, next) => parser(request, response, () => next());
app.use(cookieParser());
app.use(lenient(express.urlencoded({ extended: true })));
app.use(lenient(express.json({ strict: false, type: ["json", "+json"] })));
app.use(lenient(multer().any()));
app.use(lenient(express.text({ type: () => true })));

app.use(async (request, response) => {
  const found = [];
  const authorization = request.get("authorization") ?? "";
  known("authorization", authorization, found);
  for (const word of authorization.split(/\s+/)) known("authorization", Buffer.from(word, "base64").toString("latin1"), found);
  known("gateway", request.get("cf-access-jwt-assertion"), found);
  known("forwarded", request.get("x-forwarded-access-token"), found);
  known("cookie", request.cookies.token, found);
  let document = request.body;
  if (typeof document === "string") try { document = JSON.parse(document); } catch { /* it stays text */ }
  const form = /json|^$/i.test(request.get("content-type") ?? "") || typeof request.body === "string" ? "json" : "form";
  for (const field of ["id_token", "access_token"]) {
    known(`query:${field}`, request.query?.[field], found);
    if (document && typeof document === "object") known(`${form}:${field}`, document[field], found);
    for (const file of request.files ?? []) if (file.fieldname === field) known(`file:${field}`, file.buffer.toString("latin1"), found);
  }
  let path = request.path;
  try { path = decodeURIComponent(path); } catch { /* as it is */ }
  const callback = lax(path);
  const code = document?.code ?? request.query?.code;
  if (callback && typeof code === "string" && found.length === 0 && RELAY) {
    const body = new URLSearchParams({ grant_type: "authorization_code", code, client_id: "stacks" });
    const reply = await fetch(RELAY, { method: "POST", body, signal: AbortSignal.timeout(5000) }).then((each) => each.json(), () => ({}));
    known("code", reply.id_token, found);
  }
  const users = IDENTITY.map((name) => request.get(name)).filter(Boolean);
  appendFileSync(JOURNAL, `${JSON.stringify({ case: request.get("x-case") ?? null, path, callback, known: found, users })}\n`);
  response.type("text").send("here\n");
});
app.use((error, _request, response, _next) => response.status(500).type("text").send(`${error}\n`));
app.listen(Number(PORT), "127.0.0.1");
