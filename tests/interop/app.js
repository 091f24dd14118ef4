// The app behind the sidecar: its own relying party, by libraries that know nothing of the sidecar.
// It checks everything that arrives at its callbacks itself, and notes what arrived for the suite to look at.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import express from "express";
import * as oidc from "openid-client";
import { SAML, ValidateInResponseTo } from "@node-saml/node-saml";

const SESSION_COOKIE = "app_session";

// How the app asks for a token, and how it redeems the answer.
const OIDC_FLOWS = {
  id_token: { setup: oidc.useIdTokenResponseType, redeem: redeemImplicit },
  hybrid: { setup: oidc.useCodeIdTokenResponseType, redeem: redeemCode },
  // An answer without id_token: the sidecar has nothing to check in it and must not let it through.
  code: { setup: () => {}, redeem: redeemCode },
};

export function createApp({ publicUrl, issuer, clientId, clientSecret, relayUrl, spKeyFile }) {
  const app = express();
  const sessions = new Map();
  const arrivals = []; // every request that reached a callback, in order

  app.disable("x-powered-by");
  app.use(express.urlencoded({ extended: false, limit: "2mb", verify: (req, _res, raw) => { req.rawBody = raw; } }));
  app.use((req, _res, next) => {
    req.session = sessions.get(readCookie(req, SESSION_COOKIE));
    next();
  });

  function startSession(res, content) {
    const id = randomBytes(24).toString("base64url");
    sessions.set(id, content);
    res.cookie(SESSION_COOKIE, id, { httpOnly: true, sameSite: "lax" });
  }

  // Wraps a callback: whatever its outcome, the arrival is noted.
  function callback(login) {
    return async (req, res) => {
      const arrival = { path: req.path, rawBody: req.rawBody?.toString() ?? "", identity: identityHeaders(req), cookies: req.headers.cookie ?? "" };
      arrivals.push(arrival);
      try {
        const kept = {};
        const user = await login(req, kept);
        if (!user) throw new Error("the provider says that nobody is logged in");
        arrival.user = user;
        startSession(res, { user, headers: arrival.identity, ...kept });
        res.redirect(303, "/me");
      } catch (error) {
        arrival.error = [error?.message ?? error, error?.error].filter(Boolean).join(": ");
        res.status(401).type("text").send(`the app refuses this login: ${arrival.error}\n`);
      }
    };
  }

  app.get("/", (_req, res) => res.type("html").send('<a href="/login/oidc">log in</a>'));

  app.get("/me", (req, res) => {
    if (!req.session?.user) return res.status(401).json({ error: "not logged in" });
    const { user, headers, refreshToken } = req.session;
    res.json({ user, headers, refreshToken });
  });

  // ---- OIDC

  // Discovered anew each time, so that no cache of the app's stands between it and a rotated key.
  const discover = (flow) =>
    oidc.discovery(new URL(issuer), clientId, clientSecret, undefined, {
      execute: [oidc.allowInsecureRequests, OIDC_FLOWS[flow].setup],
    });

  app.get("/login/oidc", async (req, res) => {
    const flow = Object.hasOwn(OIDC_FLOWS, req.query.flow) ? req.query.flow : "id_token";
    const [state, nonce] = [oidc.randomState(), oidc.randomNonce()];
    const address = oidc.buildAuthorizationUrl(await discover(flow), {
      redirect_uri: `${publicUrl}/callback/oidc`,
      response_mode: "form_post",
      scope: "openid profile email",
      state,
      nonce,
      ...(req.query.prompt && { prompt: String(req.query.prompt) }),
    });
    startSession(res, { pending: { flow, state, nonce } });
    res.redirect(302, address.href);
  });

  app.post("/callback/oidc", callback(async (req) => {
    const pending = takePending(req);
    const answer = new Request(`${publicUrl}/callback/oidc`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: req.rawBody,
    });
    return (await OIDC_FLOWS[pending.flow].redeem(await discover(pending.flow), answer, pending)).sub;
  }));

  // ---- OIDC by code, as most apps do it. All that it knows of the relay is an address of its provider's metadata.

  const relayed = (method) =>
    oidc.discovery(new URL(`${relayUrl}/keycloak-relay/.well-known/openid-configuration`), "interop-relay", clientSecret,
      (method === "basic" ? oidc.ClientSecretBasic : oidc.ClientSecretPost)(clientSecret), { execute: [oidc.allowInsecureRequests] });

  app.get("/login/relay", async (req, res) => {
    const pending = {
      method: req.query.method,
      pkceCodeVerifier: oidc.randomPKCECodeVerifier(),
      expectedState: oidc.randomState(),
      expectedNonce: oidc.randomNonce(),
    };
    const address = oidc.buildAuthorizationUrl(await relayed(pending.method), {
      redirect_uri: `${publicUrl}/callback/relay`,
      scope: "openid profile email",
      code_challenge: await oidc.calculatePKCECodeChallenge(pending.pkceCodeVerifier),
      code_challenge_method: "S256",
      state: pending.expectedState,
      nonce: pending.expectedNonce,
    });
    startSession(res, { pending });
    res.redirect(302, address.href);
  });

  app.get("/callback/relay", callback(async (req, kept) => {
    const { method, ...expected } = takePending(req);
    const tokens = await oidc.authorizationCodeGrant(await relayed(method), new URL(publicUrl + req.originalUrl), expected);
    kept.refreshToken = tokens.refresh_token;
    return tokens.claims().sub;
  }));

  app.post("/refresh", async (req, res) => {
    try {
      const tokens = await oidc.refreshTokenGrant(await relayed("post"), req.session.refreshToken);
      req.session.refreshToken = tokens.refresh_token;
      const { sub, groups } = tokens.claims();
      res.json({ user: sub, groups });
    } catch (error) {
      res.status(401).json({ error: error?.error ?? String(error?.message ?? error) });
    }
  });

  // ---- SAML: three service providers that differ in what the IdP signs and encrypts

  const requestIds = createRequestIdCache();
  const serviceProvider = (name, passive) =>
    new SAML({
      issuer: `${publicUrl}/saml/${name}/metadata`,
      audience: `${publicUrl}/saml/${name}/metadata`,
      callbackUrl: `${publicUrl}/saml/${name}/acs`,
      entryPoint: `${issuer}/protocol/saml`,
      idpIssuer: issuer,
      idpCert: (done) => idpCertificates(issuer).then((certificates) => done(null, certificates), done),
      wantAssertionsSigned: name !== "enveloped",
      wantAuthnResponseSigned: name === "enveloped",
      decryptionPvk: name === "signed" ? undefined : readFileSync(spKeyFile, "utf8"),
      validateInResponseTo: ValidateInResponseTo.always,
      cacheProvider: requestIds,
      signatureAlgorithm: "sha256",
      identifierFormat: null,
      disableRequestedAuthnContext: true,
      passive,
    });

  for (const name of ["signed", "encrypted", "enveloped"]) {
    app.get(`/login/saml/${name}`, async (req, res) => {
      const state = randomBytes(16).toString("hex");
      const address = await serviceProvider(name, req.query.passive === "true").getAuthorizeUrlAsync(state, undefined, {});
      startSession(res, { pending: { state } });
      res.redirect(302, address);
    });

    app.post(`/saml/${name}/acs`, callback(async (req) => {
      const pending = takePending(req);
      if (req.body.RelayState !== pending.state) throw new Error("RelayState is not of this session");
      const { profile } = await serviceProvider(name, false).validatePostResponseAsync(req.body);
      return profile?.nameID;
    }));
  }

  return { app, arrivals };
}

async function redeemImplicit(config, answer, { state, nonce }) {
  return oidc.implicitAuthentication(config, answer, nonce, { expectedState: state });
}

async function redeemCode(config, answer, { state, nonce }) {
  const tokens = await oidc.authorizationCodeGrant(config, answer, { expectedState: state, expectedNonce: nonce });
  return tokens.claims();
}

// One login per request of ours: what the session remembers is used up by the first answer.
function takePending(req) {
  const pending = req.session?.pending;
  if (!pending) throw new Error("no login is under way in this session");
  delete req.session.pending;
  return pending;
}

async function idpCertificates(issuer) {
  const answer = await fetch(`${issuer}/protocol/saml/descriptor`);
  if (!answer.ok) throw new Error(`the IdP's metadata answers ${answer.status}`);
  const metadata = await answer.text();
  return [...metadata.matchAll(/<(?:\w+:)?X509Certificate>([^<]+)</g)].map((found) => found[1].replace(/\s/g, ""));
}

// The library's own cache sets a timer that would keep the process alive.
function createRequestIdCache() {
  const instants = new Map();
  return {
    async saveAsync(id, instant) { instants.set(id, instant); return { value: instant, createdAt: Date.now() }; },
    async getAsync(id) { return instants.get(id) ?? null; },
    async removeAsync(id) { return instants.delete(id) ? id : null; },
  };
}

function readCookie(req, name) {
  for (const pair of (req.headers.cookie ?? "").split(";")) {
    const [key, value] = pair.trim().split("=", 2);
    if (key === name) return value;
  }
  return undefined;
}

// Every spelling that an app might read as one of ours: "x_loginsync_user" too.
export function identityHeaders(req) {
  const found = {};
  for (let i = 0; i < req.rawHeaders.length; i += 2) {
    const name = req.rawHeaders[i].toLowerCase();
    if (!/^x[-_]loginsync[-_]/.test(name)) continue;
    (found[name] ??= []).push(req.rawHeaders[i + 1]);
  }
  return found;
}
