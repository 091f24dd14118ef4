// Keycloak's admin REST API, as far as the suite needs it.

export class Keycloak {
  #token = { value: "", until: 0 };

  constructor(baseUrl, admin) {
    this.baseUrl = baseUrl;
    this.admin = admin;
    this.realm = "loginsync";
    this.issuer = `${baseUrl}/realms/${this.realm}`;
  }

  async importRealm(realm) {
    await this.#call("POST", "/admin/realms", realm);
  }

  async version() {
    return (await this.#call("GET", "/admin/serverinfo")).systemInfo.version;
  }

  async setGroups(username, names) {
    const user = await this.#userId(username);
    const current = await this.#call("GET", this.#path(`/users/${user}/groups`));
    const all = await this.#call("GET", this.#path("/groups"));
    for (const group of current) {
      if (!names.includes(group.name)) await this.#call("DELETE", this.#path(`/users/${user}/groups/${group.id}`));
    }
    for (const name of names) {
      const group = all.find((each) => each.name === name);
      if (!group) throw new Error(`the realm has no group ${name}`);
      await this.#call("PUT", this.#path(`/users/${user}/groups/${group.id}`));
    }
  }

  // As an administrator does it in the console: every client is told by its back channel.
  async logOut(username) {
    await this.#call("POST", this.#path(`/users/${await this.#userId(username)}/logout`));
  }

  // How many browsers of a person Keycloak knows.
  async sessionsOf(username) {
    return (await this.#call("GET", this.#path(`/users/${await this.#userId(username)}/sessions`))).map(({ id }) => id);
  }

  // Whether a client hears of logouts by the browser, or from Keycloak itself.
  async setFrontChannelLogout(clientId, frontchannelLogout) {
    const [client] = await this.#call("GET", this.#path(`/clients?clientId=${encodeURIComponent(clientId)}`));
    await this.#call("PUT", this.#path(`/clients/${client.id}`), { ...client, frontchannelLogout });
  }

  async endSession(id) {
    await this.#call("DELETE", this.#path(`/sessions/${id}`));
  }

  // A new RSA key that outranks those the realm has: it signs from now on, the others still verify.
  async rotateSigningKey() {
    await this.#addKey("rotated", "rsa-generated", { priority: ["1000"], keySize: ["2048"], algorithm: ["RS256"] });
  }

  // What clients need that ask for ES512.
  async addP521Key() {
    await this.#addKey("p521", "ecdsa-generated", { priority: ["100"], ecdsaEllipticCurveKey: ["P-521"] });
  }

  async #addKey(name, providerId, config) {
    const { id } = await this.#call("GET", this.#path(""));
    await this.#call("POST", this.#path("/components"), {
      ...{ name, providerId, providerType: "org.keycloak.keys.KeyProvider", parentId: id },
      config: { enabled: ["true"], active: ["true"], ...config },
    });
  }

  async signingKeyId() {
    const { active } = await this.#call("GET", this.#path("/keys"));
    return active.RS256;
  }

  async #userId(username) {
    const found = await this.#call("GET", this.#path(`/users?exact=true&username=${encodeURIComponent(username)}`));
    if (found.length !== 1) throw new Error(`the realm has ${found.length} users ${username}`);
    return found[0].id;
  }

  #path(rest) {
    return `/admin/realms/${this.realm}${rest}`;
  }

  async #call(method, path, body) {
    const answer = await fetch(this.baseUrl + path, {
      method,
      headers: { authorization: `Bearer ${await this.#accessToken()}`, "content-type": "application/json" },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(60_000),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`Keycloak answers ${answer.status} to ${method} ${path}: ${text.slice(0, 300)}`);
    return text ? JSON.parse(text) : undefined;
  }

  async #accessToken() {
    if (Date.now() < this.#token.until) return this.#token.value;
    const answer = await fetch(`${this.baseUrl}/realms/master/protocol/openid-connect/token`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "password", client_id: "admin-cli", ...this.admin }),
      signal: AbortSignal.timeout(60_000),
    });
    if (!answer.ok) throw new Error(`Keycloak refuses its administrator: ${answer.status}`);
    const { access_token, expires_in } = await answer.json();
    // Half of its life: a token must not run out between this line and its use.
    this.#token = { value: access_token, until: Date.now() + expires_in * 500 };
    return access_token;
  }
}
