//! The names of headers that mean something to apps. They are what vendors' own pages and sources say that they send or read, as of
//! November 2026.

use self::Meaning::{Hop, Identity, Message, Method, OtherHop, Ours, Path, Proxy};

/// What an app may do with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Hands over an identity, under a name that one of our presets or our assertion has.
    Ours,
    /// Hands over an identity, or a part of one, under a name that some other proxy has.
    Identity,
    /// Says what the client asked a hop before us for, in one of the few ways that a trusted hop may.
    Hop,
    /// The same in any other way.
    OtherHop,
    /// Names another path than that of the request line, or another file or route.
    Path,
    /// CGI makes `HTTP_PROXY` of it, through which libraries then send what they ask (httpoxy, CVE-2016-5385).
    Proxy,
    /// Names another method than that of the request line.
    Method,
    /// Says how the message is to be read, or who sends it.
    Message,
}

pub(super) const A: &[(&str, Meaning)] = &[
    ("authorization", Message),
    // LemonLDAP::NG handlers, YunoHost SSOwat.
    ("auth-user", Identity),
    ("auth-type", Identity),
    ("auth-mail", Identity),
    ("auth-groups", Identity),
    ("auth-cn", Identity),
    // Shibboleth with ShibUseHeaders.
    ("affiliation", Identity),
];

pub(super) const C: &[(&str, Meaning)] = &[
    ("content-*", Message),
    ("cookie", Message),
    ("cookie2", Message),
    ("connection", Message),
    // Cloudflare Access. Its signed assertion is read in mode `bearer`.
    ("cf-access-authenticated-user-email", Identity),
    ("cf-access-jwt-assertion", Identity),
    // Apereo CAS, mod_auth_cas.
    ("cas-user", Identity),
    ("cas-username", Identity),
    ("client-ip", OtherHop),
    // Cloudflare tells the address so.
    ("cf-connecting-ip*", OtherHop),
    // RSA ClearTrust.
    ("ct-remote-user", Identity),
    // Shibboleth with ShibUseHeaders.
    ("cn", Identity),
    // Client certificates (RFC 9440).
    ("client-cert", Identity),
    ("client-cert-chain", Identity),
];

pub(super) const FEW: &[(&str, Meaning)] = &[
    ("host", Message),
    ("expect", Message),
    ("http2-settings", Message),
    ("keep-alive", Message),
    // Kubeflow's gateway.
    ("kubeflow-userid", Identity),
    // IBM Security Verify Access (WebSEAL) junctions.
    ("iv-user", Identity),
    ("iv-user-*", Identity),
    ("iv-groups", Identity),
    ("iv-creds", Identity),
    ("iv-remote-address*", OtherHop),
    // Oracle Access Manager.
    ("oam-remote-user*", Identity),
    ("oam-identity-domain", Identity),
    ("osso-*", Identity),
    // Oracle WebLogic's plug-ins.
    ("wl-proxy-client-cert", Identity),
    ("wl-proxy-*", OtherHop),
    // Domino Data Lab, ngrok, YunoHost.
    ("domino-username", Identity),
    ("ngrok-auth-*", Identity),
    ("ynh-user*", Identity),
    // mod_auth_openidc.
    ("oidc-claim-*", Identity),
    ("oidc-access-token*", Identity),
    ("oidc-id-token*", Identity),
    ("oidc-userinfo*", Identity),
    // mod_auth_mellon, where it is told to set headers.
    ("mellon-*", Identity),
    // Shibboleth with ShibUseHeaders: the usual attributes.
    ("eppn", Identity),
    ("entitlement", Identity),
    ("eduperson*", Identity),
    ("eppersonprincipalname", Identity),
    ("displayname", Identity),
    ("givenname", Identity),
    ("mail", Identity),
    // oauth2-proxy signs what it sends on.
    ("gap-signature", Identity),
    ("gap-auth", Identity),
    // CGI on IIS, and what Zend and Laminas read there.
    ("logon-user", Identity),
    ("iis-wasurlrewritten", Path),
    ("orig-path-info", Path),
];

pub(super) const FORWARDED: &[(&str, Meaning)] = &[
    ("forwarded", Hop),
    ("fastly-client-ip", OtherHop),
    ("front-end-https", OtherHop),
    ("proxy", Proxy),
    ("proxy-host", Path),
    ("proxy-url", Path),
    // PHP's own names for credentials, which Symfony reads as headers too.
    ("php-auth-user", Identity),
    ("php-auth-pw", Identity),
    ("php-auth-digest", Identity),
    ("path-info", Path),
    ("path-translated", Path),
    ("query-string", Path),
    // Shibboleth.
    ("persistent-id", Identity),
    ("pairwise-id", Identity),
    // Posit Connect.
    ("posit-connect-user-session-token", Identity),
];

pub(super) const R: &[(&str, Meaning)] = &[
    // Authelia, Pangolin and what a web server's own authentication is handed on as.
    ("remote-user", Ours),
    ("remote-groups", Ours),
    ("remote-email", Ours),
    ("remote-name", Ours),
    ("remote-role", Identity),
    ("remote-roles", Identity),
    ("remote-group", Identity),
    ("remote-user-*", Identity),
    // Posit Connect tells its apps so.
    ("rstudio-connect-credentials", Identity),
    ("remote-addr", OtherHop),
    ("remote-host", OtherHop),
    ("request-uri", Path),
    ("request-url", Path),
    ("request-path", Path),
    ("request-method", Method),
    ("redirect-url", Path),
];

pub(super) const S: &[(&str, Meaning)] = &[
    // CGI's own names (RFC 3875 section 4.1), which gunicorn believes as headers.
    ("script-name", Path),
    ("script-filename", Path),
    ("server-name", OtherHop),
    ("server-port", OtherHop),
    // Broadcom SiteMinder.
    ("sm-user*", Identity),
    ("sm-authdirname", Identity),
    ("sm-universalid", Identity),
    ("sm-group*", Identity),
    ("smuser", Identity),
    // Shibboleth with ShibUseHeaders.
    ("shib-*", Identity),
    ("sn", Identity),
    ("surname", Identity),
    ("subject-id", Identity),
    // geOrchestra's security proxy. Browsers have `Sec-Fetch-…`, `Sec-Ch-…`, `Sec-Websocket-…`.
    ("sec-user*", Identity),
    ("sec-role*", Identity),
    ("sec-org*", Identity),
    ("sec-email", Identity),
    ("sec-firstname", Identity),
    ("sec-lastname", Identity),
    ("sec-proxy", Identity),
    ("sec-external-authentication", Identity),
    // Shiny Server.
    ("shiny-server-credentials", Identity),
    // Client certificates: Apache, nginx and HAProxy recipes.
    ("ssl-client-*", Identity),
    // Snowflake Snowpark Container Services.
    ("sf-context-current-user*", Identity),
];

pub(super) const T: &[(&str, Meaning)] = &[
    ("transfer-encoding", Message),
    ("te", Message),
    ("trailer", Message),
    ("upgrade", Message),
    ("true-client-ip", OtherHop),
    // Tailscale Serve.
    ("tailscale-user-*", Identity),
    ("tailscale-app-capabilities", Identity),
    // Shibboleth.
    ("targeted-id", Identity),
    ("unscoped-affiliation", Identity),
    // Teleport application access.
    ("teleport-jwt-assertion", Identity),
    ("unencoded-url", Path),
];

pub(super) const X: &[(&str, Meaning)] = &[
    ("x-loginsync-*", Ours),
    // What hops say of the client. Everything else under `x-forwarded` is below.
    ("x-forwarded-for", Hop),
    ("x-forwarded-proto", Hop),
    ("x-forwarded-host", Hop),
    ("x-forwarded-port", Hop),
    // oauth2-proxy, vouch, traefik-forward-auth, SonarQube, Jenkins, Databricks apps.
    ("x-forwarded-user", Ours),
    ("x-forwarded-email", Ours),
    ("x-forwarded-groups", Ours),
    ("x-forwarded-preferred-username", Ours),
    ("x-forwarded-user-*", Identity),
    ("x-forwarded-username", Identity),
    ("x-forwarded-login", Identity),
    ("x-forwarded-name", Identity),
    ("x-forwarded-role*", Identity),
    ("x-forwarded-group", Identity),
    ("x-forwarded-access-token", Identity),
    ("x-forwarded-id-token", Identity),
    // Envoy's and Traefik's client certificates.
    ("x-forwarded-client-cert", Identity),
    ("x-forwarded-tls-client-cert*", Identity),
    ("x-forwarded*", OtherHop),
    ("x-real-*", OtherHop),
    ("x-client-ip", OtherHop),
    ("x-cluster-client-ip", OtherHop),
    ("x-original-host", OtherHop),
    ("x-original-for", OtherHop),
    ("x-original-proto", OtherHop),
    ("x-original-method", OtherHop),
    ("x-original-remote-addr", OtherHop),
    ("x-originating-ip", OtherHop),
    ("x-remote-ip", OtherHop),
    ("x-remote-addr", OtherHop),
    ("x-host", OtherHop),
    ("x-http-host-override", OtherHop),
    ("x-url-scheme", OtherHop),
    ("x-scheme", OtherHop),
    ("x-https", OtherHop),
    ("x-envoy-external-address", OtherHop),
    ("x-envoy-original-host", OtherHop),
    // IIS URL Rewrite (Symfony, Laminas, Zend and ASP.NET read both), ingress-nginx, Envoy, Exchange, Traefik.
    ("x-original-url", Path),
    ("x-original-uri", Path),
    ("x-original-path", Path),
    ("x-rewrite-*", Path),
    ("x-override-url", Path),
    ("x-envoy-original-path", Path),
    ("x-http-destinationurl", Path),
    ("x-http-path-override", Path),
    ("x-replaced-path", Path),
    ("x-request-uri", Path),
    ("x-request-url", Path),
    ("x-request-path", Path),
    ("x-proxy-url", Path),
    ("x-path-info", Path),
    ("x-waws-unencoded-url", Path),
    // Prefixes: Flask and Werkzeug middleware, Home Assistant's ingress, Spring, Jupyter.
    ("x-script-name", Path),
    ("x-ingress-path", Path),
    ("x-external-path", Path),
    ("x-base-path", Path),
    // Next.js routes by these, and skips its middleware (CVE-2025-29927).
    ("x-invoke-*", Path),
    ("x-matched-path", Path),
    ("x-middleware-*", Path),
    ("x-now-route-matches", Path),
    ("x-nextjs-rewritten-*", Path),
    // Rack::Sendfile serves files by these (CVE-2025-61780).
    ("x-sendfile-type", Path),
    ("x-accel-mapping", Path),
    ("x-accel-redirect", Path),
    // Rails, Symfony, Laravel, Express method-override, ASP.NET.
    ("x-http-method-override", Method),
    ("x-http-method", Method),
    ("x-method-override", Method),
    // Web servers' own authentication handed on; Kubernetes' aggregation layer (`X-Remote-Extra-…`).
    ("x-remote-user*", Identity),
    ("x-remote-group*", Identity),
    ("x-remote-name", Identity),
    ("x-remote-email", Identity),
    ("x-remote-role*", Identity),
    ("x-remote-extra-*", Identity),
    // Grafana, Gitea and Forgejo read these by default.
    ("x-webauth-*", Identity),
    // oauth2-proxy with nginx's auth_request; backstage.
    ("x-auth-request-*", Identity),
    ("x-oauth2-proxy-*", Identity),
    // Keycloak Gatekeeper (louketo) and HAProxy's spoe-auth. Not `X-Auth-Token`, which clients send for themselves.
    ("x-auth-user*", Identity),
    ("x-auth-email", Identity),
    ("x-auth-groups", Identity),
    ("x-auth-roles", Identity),
    ("x-auth-subject", Identity),
    ("x-auth-name", Identity),
    ("x-auth-audience", Identity),
    // WSO2 and other API gateways; Apache NiFi; single sign-on by hand.
    ("x-jwt-assertion", Identity),
    ("x-jwt-payload", Identity),
    ("x-proxied-entities-chain", Identity),
    ("x-sso-user*", Identity),
    ("x-shib-*", Identity),
    ("x-oidc-username", Identity),
    ("x-tls-client-*", Identity),
    // caddy-security (AuthCrunch).
    ("x-token-*", Identity),
    // Google's Identity-Aware Proxy, App Engine, and Cloud Endpoints.
    ("x-goog-authenticated-user-*", Identity),
    ("x-goog-iap-jwt-assertion", Identity),
    ("x-appengine-user-*", Identity),
    ("x-endpoint-api-userinfo", Identity),
    ("x-apigateway-api-userinfo", Identity),
    // Azure App Service ("Easy Auth") and Static Web Apps.
    ("x-ms-client-principal*", Identity),
    ("x-ms-token-*", Identity),
    ("x-ms-auth-token", Identity),
    ("x-arr-clientcert", Identity),
    // AWS Application Load Balancer.
    ("x-amzn-oidc-*", Identity),
    ("x-amzn-mtls-*", Identity),
    // AWS Verified Access.
    ("x-amzn-ava-*", Identity),
    // Pomerium, authentik, Vouch, Cosmos, Sandstorm, Replit.
    ("x-pomerium-*", Identity),
    ("x-authentik-*", Identity),
    ("x-vouch-*", Identity),
    ("x-cosmos-user", Identity),
    ("x-cosmos-role", Identity),
    ("x-sandstorm-*", Identity),
    ("x-replit-user-*", Identity),
    // Kong, Apache APISIX.
    ("x-authenticated-*", Identity),
    ("x-consumer-*", Identity),
    ("x-credential-*", Identity),
    ("x-anonymous-consumer", Identity),
    ("x-userinfo", Identity),
    ("x-id-token", Identity),
    // OpenSearch and Elasticsearch behind a proxy.
    ("x-proxy-user", Identity),
    ("x-proxy-roles", Identity),
    ("x-proxy-ext-*", Identity),
    // CloudBeaver, Ory Oathkeeper and lua-resty-openidc by default.
    ("x-user", Identity),
    ("x-username", Identity),
    // The recipe of oauth2-proxy for nginx.
    ("x-email", Identity),
    // Alfresco, Posit Workbench, Warpgate, Home Assistant's supervisor and WebObjects by default.
    ("x-alfresco-remote-user", Identity),
    ("x-rstudio-username", Identity),
    ("x-warpgate-*", Identity),
    ("x-hass-*", Identity),
    ("x-webobjects-remote-*", Identity),
    ("x-role", Identity),
    ("x-role-te", Identity),
    ("x-roles", Identity),
    ("x-team", Identity),
    ("x-groups", Identity),
    ("x-first-name", Identity),
    ("x-last-name", Identity),
    ("x-full-name", Identity),
    // Client certificates: common recipes for nginx, HAProxy and Traefik.
    ("x-ssl-*", Identity),
    ("x-client-cert*", Identity),
    ("x-client-dn", Identity),
    ("x-client-verify", Identity),
];
