// A browser reduced to what a login needs: cookies, redirects and forms. No scripts: pages that post themselves are posted by hand.

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

  async open(url) {
    return this.#follow(url, { method: "GET" });
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
    for (let hops = 0; page.location; hops++) {
      if (hops === MAX_REDIRECTS) throw new Error(`too many redirects from ${url}`);
      page = await this.#request(page.location, { method: "GET" });
    }
    return page;
  }

  async #request(url, { method, body, headers = {} }) {
    const cookie = await this.jar.getCookieString(url);
    const response = await fetch(url, {
      method,
      body,
      redirect: "manual",
      headers: { accept: "text/html", ...headers, ...(cookie && { cookie }) },
      signal: AbortSignal.timeout(30_000),
    });
    for (const line of response.headers.getSetCookie()) await this.jar.setCookie(line, url);
    const location = response.status >= 300 && response.status < 400 ? response.headers.get("location") : null;
    return {
      url,
      status: response.status,
      location: location && new URL(location, url).href,
      setCookies: response.headers.getSetCookie(),
      text: await response.text(),
    };
  }
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

export function encodeForm(fields) {
  return new URLSearchParams(fields).toString();
}
