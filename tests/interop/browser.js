// A browser reduced to what a login needs: cookies, redirects and forms. No scripts: pages that post themselves are posted by hand.

import { once } from "node:events";
import { request as inTheClear } from "node:http";
import { request as byTls } from "node:https";
import { CookieJar } from "tough-cookie";
import { parse } from "node-html-parser";

const MAX_REDIRECTS = 12;

export class Browser {
  constructor(jar = new CookieJar()) {
    this.jar = jar;
  }

  // The same browser at this moment; what happens to one later does not reach the other.
  clone() {
    return new Browser(this.jar.cloneSync());
  }

  async cookies(url) {
    return this.jar.getCookies(url);
  }

  async open(url, headers = {}) {
    return this.#follow(url, { method: "GET", headers });
  }

  // Without following a redirect.
  async ask(url, headers = {}) {
    return this.#request(url, { method: "GET", headers });
  }

  // Posts exactly this body, and answers what came back before any redirect is followed.
  async post(url, body, headers = {}) {
    return this.#request(url, {
      method: "POST",
      body,
      headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
    });
  }

  async submit(form, values = {}) {
    return this.#follow(form.action, {
      method: "POST",
      body: encodeForm({ ...form.fields, ...values }),
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
  }

  async #follow(url, request) {
    let page = await this.#request(url, request);
    const visited = [url]; // every address on the way
    while (page.location) {
      if (visited.length > MAX_REDIRECTS) throw new Error(`too many redirects from ${url}`);
      visited.push(page.location);
      page = await this.#request(page.location, { method: "GET" });
    }
    return { ...page, visited };
  }

  async #request(url, { method, body, headers = {} }) {
    const cookie = await this.jar.getCookieString(url);
    const answer = await exchange(url, method, { ...NAVIGATES, ...headers, ...(cookie && { cookie }) }, body);
    for (const line of answer.setCookies) await this.jar.setCookie(line, url);
    const location = answer.status >= 300 && answer.status < 400 ? answer.location : refresh(answer);
    return { ...answer, url, location: location ? new URL(location, url).href : null };
  }
}

// Where a page goes on to by itself.
function refresh({ status, text }) {
  const meta = status === 200 && /<meta http-equiv="refresh"/i.test(text) && parse(text).querySelector("meta[http-equiv=refresh]");
  return meta ? /url=(.*)$/i.exec(meta.getAttribute("content"))?.[1] : undefined;
}

// Not `fetch`, which says of itself that it is a script.
const NAVIGATES = { accept: "text/html", "sec-fetch-mode": "navigate" };

async function exchange(url, method, headers, body = "") {
  const length = method === "POST" && { "content-length": Buffer.byteLength(body) };
  // Certificates of a run are known to no authority, and the browser is not what is looked at.
  const [request, trust] = url.startsWith("https:") ? [byTls, { rejectUnauthorized: false }] : [inTheClear, {}];
  const sent = request(url, { method, agent: false, ...trust, headers: { ...headers, ...length }, signal: AbortSignal.timeout(30_000) });
  sent.end(body);
  const [response] = await once(sent, "response");
  const chunks = await response.toArray();
  return {
    status: response.statusCode,
    location: response.headers.location,
    setCookies: response.headers["set-cookie"] ?? [],
    text: Buffer.concat(chunks).toString(),
  };
}

// The first form of a page whose action is wanted, or null.
export function findForm(page, wanted = () => true) {
  for (const element of parse(page.text).querySelectorAll("form")) {
    const action = new URL(element.getAttribute("action") ?? "", page.url).href;
    if (!wanted(action, element)) continue;
    const fields = {};
    for (const input of element.querySelectorAll("input")) {
      const name = input.getAttribute("name");
      if (name) fields[name] = input.getAttribute("value") ?? "";
    }
    return { action, fields };
  }
  return null;
}

// Where the link with this text leads, or null.
export function findLink(page, text) {
  const link = parse(page.text).querySelectorAll("a").find((element) => element.text.trim() === text);
  return link ? new URL(link.getAttribute("href"), page.url).href : null;
}

export function encodeForm(fields) {
  return new URLSearchParams(fields).toString();
}
