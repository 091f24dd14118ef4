// The identity provider of the attacks: one key, tokens of whatever shape a case asks for, and a token endpoint and sign-in page
// that give everybody the token that they name.

import { createSign, generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";

export const CLIENT = "stacks";
const KID = "stacks-1";

export class Provider {
  #keys = generateKeyPairSync("rsa", { modulusLength: 2048 });
  #nonces = new Map();

  async start() {
    this.server = createServer((request, response) => this.#answer(request, response));
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.issuer = `http://127.0.0.1:${this.server.address().port}`;
    this.gateway = `${this.issuer}/gateway`;
    return this;
  }

  stop() { this.server.close(); this.server.closeAllConnections(); }

  publicKey() { return this.#keys.publicKey.export({ type: "spki", format: "pem" }); }

  jwks() { return { keys: [{ ...this.#keys.publicKey.export({ format: "jwk" }), kid: KID, use: "sig", alg: "RS256" }] }; }

  // A genuine token of a person; `shape` is the member `token` of a case.
  token(who, { shape = {}, jti = randomUUID(), groups = ["staff"], issuer = this.issuer, nonce } = {}) {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: issuer, aud: CLIENT, sub: who, jti, iat: now, exp: now + 300, groups, ...(nonce && { nonce }) };
    const fill = (value) => JSON.parse(JSON.stringify(value).replaceAll("{{ISSUER}}", issuer).replaceAll("{{WHO}}", who)
      .replaceAll(/\{\{PAD:(\d+)\}\}/g, (_, size) => "x".repeat(Number(size))));
    const part = (members, changes = {}) => Buffer.from(JSON.stringify(without({ ...members, ...fill(changes) }))).toString("base64url");
    const header = part({ alg: "RS256", typ: "JWT", kid: KID }, shape.header);
    const payload = part(claims, shape.claims);
    const signature = createSign("RSA-SHA256").update(`${header}.${payload}`).sign(this.#keys.privateKey).toString("base64url");
    return (shape.text ?? "{{HEADER}}.{{CLAIMS}}.{{SIGNATURE}}")
      .replace("{{HEADER}}", header).replace("{{CLAIMS}}", payload).replace("{{SIGNATURE}}", signature);
  }

  async #answer(request, response) {
    const json = (status, value) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    const url = new URL(request.url, this.issuer);
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return json(200, {
          issuer: this.issuer, jwks_uri: `${this.issuer}/jwks`, authorization_endpoint: `${this.issuer}/authorize`,
          token_endpoint: `${this.issuer}/token`, response_types_supported: ["code"], subject_types_supported: ["public"],
          id_token_signing_alg_values_supported: ["RS256"],
        });
      case "/jwks": return json(200, this.jwks());
      case "/authorize": {
        // The person who signs in is named by a header of the browser.
        const code = `${request.headers["x-who"]}~${randomUUID()}`;
        this.#nonces.set(code, url.searchParams.get("nonce"));
        const back = new URL(url.searchParams.get("redirect_uri"));
        back.search = new URLSearchParams({ code, state: url.searchParams.get("state") ?? "" });
        return response.writeHead(302, { location: back.href }).end();
      }
      case "/token": {
        let body = "";
        for await (const chunk of request) body += chunk;
        const code = new URLSearchParams(body).get("code") ?? "";
        const [who, jti] = code.split("~");
        if (!jti) return json(400, { error: "invalid_grant" });
        const groups = who.startsWith("denied") ? ["contractors"] : ["staff"];
        const nonce = this.#nonces.get(code);
        return json(200, { access_token: "opaque", token_type: "Bearer", expires_in: 300, id_token: this.token(who, { jti, groups, nonce }) });
      }
      default: return json(404, {});
    }
  }
}

const without = (members) => Object.fromEntries(Object.entries(members).filter(([, value]) => value !== null));
