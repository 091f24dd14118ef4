//! How apps read a request: the one place that knows what real stacks fold, decode, repair or pass over.
//!
//! Routing, access rules, header hygiene, capture and the guard all ask here, so that what one of them takes for a login is
//! what the others take for one. Each answers for the laxest reader: what *any* stack below would read counts.
//!
//! | stack | path | header names | bodies |
//! |---|---|---|---|
//! | CGI (RFC 3875) | what follows a script (`/index.php/acs`) is `PATH_INFO`, and the front controller's path | upper case, `-` is `_`: `Content_Type` is `Content-Type`, `Proxy` is `HTTP_PROXY` | |
//! | `php -S` 8.2, HttpFoundation 5.4 | `/index.php/x` is `/x`, with escaped `.` and `/` too; `X-Original-Url`, `X-Rewrite-Url`, `X-Forwarded-Prefix` | as CGI, and `.` and blanks are `_`; continues lines at a lone line feed | form and multipart, without its end too; in names `.`, blank and `[` are `_`, and what follows a NUL is dropped; `_method`; JSON whatever the type says |
//! | nginx 1.22, php-fpm 8.2 | the same, and `/index.php;x/…` | drops names with `_` | the same |
//! | gunicorn 27, Flask 3.1 | believes `SCRIPT_NAME` and `PATH_INFO` as headers, in any case; takes absolute targets; common middleware reads `X-Script-Name`, `X-Forwarded-Prefix` | as CGI; drops other names with `_`; joins repeated ones | JSON in UTF-16 and UTF-32; `get_json(force=True)` whatever the type says; `name*=` and continued names in multipart |
//! | uWSGI 2.0.30, Flask 3.1 | resolves `.` and `..`; drops a broken escape at the end; takes a path without a slash; `SCRIPT_NAME` by its `mount` | as CGI, and the later of two names that fold alike wins | the same; does not read chunked bodies |
//! | unicorn 6, Rack 2.2 | `PATH_INFO` is the raw path | as CGI; trailers become headers; continued lines | a body without a type is a form; multipart of any kind; `;` separates in queries; brackets make lists |
//! | puma 5.6, Rack 2.2 | the same | as CGI; joins repeated names | the same |
//! | thin 1.8, Rack 2.2 | the same | as CGI, and the last of two names that fold alike wins, so `Content_Type` replaces `Content-Type` | the same |
//! | Rails | `/acs.json` is `/acs`; `_method` and `X-HTTP-Method-Override` make a POST another method | as Rack | JSON becomes parameters like a form |
//! | Tomcat 10.1 | `;name=value` ends a segment; `%2f` and `\` by setting; resolves `..`, `..;`, `%2e%2e` and `..%2f` | no case; joins nothing: the app sees each | form by name; names and values by the charset (IBM037); RFC 2047 words in names; any `multipart/` type |
//! | Jetty 12, lenient | resolves `..` and `..;`; `%u006c` is `l`, and `%6<` ([`escape`]); an escape goes on behind a `?` | the same | such escapes in forms too; charsets as Tomcat; two documents of JSON; `attachment` is a field |
//! | Express 5.1 (qs, busboy, body-parser) | no case, a trailing slash is none | no case | form, multipart, JSON; inflates gzip, deflate and Brotli; JSON in UTF-7, UTF-16 and UTF-32; lists by brackets |
//! | ASP.NET, Katana | `/acs.aspx/x` runs `/acs.aspx`; no case; `\` is `/`; IIS: `X-Original-URL` | no case | follows byte order marks; JSON with comments and single quotes (Json.NET) |
//!
//! The rows with versions were seen in `make interop`, the others are from documentation and sources.
//!
//! Of tokens ([`token`]):
//!
//! | reader | what it does |
//! |---|---|
//! | PyJWT, jose4j, php-jwt | drop letters that are not base64url from a part of a token |
//! | Rails `Token token="…"`, `authorization.slice(7)`, `replace("Bearer ", "")` | take a token from behind any word, or none |
//! | RFC 9110 lists of credentials, some gateways | take the part of a list that they know: `Basic eDp5, Bearer …` |
//! | Git, registries and CI clients | send a token as the user or the password of `Basic`, for which some apps look wherever it stands |
//! | Go, Json.NET, Jackson with an option | read member names without case |
//! | PHP, MIME decoders of Java and Python | drop what is not base64 from a SAML response |
//! | apps behind Entra ID | accept a tenant's tokens of version 1 and 2, whose issuers differ ([`issuer`]) |
//! | SAML libraries on every binding | try base64, then DEFLATE within it |

pub mod escape;
pub mod header;
pub mod issuer;
pub mod media;
pub mod name;
pub mod path;
pub mod query;
