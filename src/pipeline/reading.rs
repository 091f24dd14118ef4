//! How apps read a request: the one place that knows what real stacks fold, decode, repair or pass over.
//!
//! Routing, access rules, header hygiene, capture and the guard all ask here, so that what one of them takes for a login is
//! what the others take for one. Each answers for the laxest reader: what *any* stack below would read counts.
//!
//! | stack | path | header names | bodies |
//! |---|---|---|---|
//! | CGI (RFC 3875), PHP-FPM | what follows a script (`/index.php/acs`) is `PATH_INFO`, and the front controller's path | upper case, `-` is `_`, and PHP takes `.` and space for `_` too: `Content_Type` is `Content-Type`, `Proxy` is `HTTP_PROXY` | form and multipart |
//! | gunicorn | `SCRIPT_NAME` and `PATH_INFO` are believed as headers (`forwarder_headers`) | as CGI; drops `_` since 22 | as the framework reads them |
//! | uWSGI | `SCRIPT_NAME` by its `mount` | as CGI, and the later of two names that fold alike wins | as the framework reads them |
//! | unicorn, thin, puma (Rack) | `PATH_INFO` is the raw path | as CGI; names that fold alike are joined, or the later wins | a body without a type is a form; multipart of any kind |
//! | Rails | `/acs.json` is `/acs`; `_method` and `X-HTTP-Method-Override` make a POST another method | as Rack | JSON becomes parameters like a form |
//! | Tomcat, Jetty | `;name=value` ends a segment; `%2f` and `\` by setting | no case | form by name; multipart with MIME-encoded names |
//! | Express (qs, busboy, body-parser) | no case, a trailing slash is none | no case | form, multipart, JSON; compressed ones too |
//! | ASP.NET, Katana | `/acs.aspx/x` runs `/acs.aspx`; no case; `\` is `/`; IIS: `X-Original-URL` | no case | follows byte order marks; JSON with comments and single quotes (Json.NET) |
//! | Symfony HttpFoundation | `/index.php` may be left out; `X-Original-Url`, `X-Rewrite-Url`; `X-Forwarded-Prefix` | as CGI | `_method`; JSON whatever the type says |
//! | Flask, Werkzeug | `X-Script-Name`, `X-Forwarded-Prefix` by common middleware | as WSGI | `get_json(force=True)` reads JSON whatever the type says |
//!
//! Of tokens ([`token`]):
//!
//! | reader | what it does |
//! |---|---|
//! | PyJWT, jose4j, php-jwt | drop letters that are not base64url from a part of a token |
//! | Rails `Token token="…"`, `authorization.slice(7)`, `replace("Bearer ", "")` | take a token from behind any word, or none |
//! | RFC 9110 lists of credentials, some gateways | take the part of a list that they know: `Basic eDp5, Bearer …` |
//! | Git, registries and CI clients | send a token as the user or the password of `Basic` |
//! | Go, Json.NET, Jackson with an option | read member names without case |
//! | PHP, MIME decoders of Java and Python | drop what is not base64 from a SAML response |
//! | SAML libraries on every binding | try base64, then DEFLATE within it |

pub mod header;
pub mod media;
pub mod path;
pub mod token;
