//! The name of a header field, read the way the laxest app would read it, and what it means to apps.
//!
//! Environment variables know letters, digits and `_` alone, so CGI and all that follows it (WSGI, Rack, PHP) make `_` of `-`
//! and often of everything else (RFC 3875 section 4.1.18): `X_Forwarded_User` and `X.Forwarded.User` are `X-Forwarded-User`
//! there. nginx drops such names by default (`underscores_in_headers`, `ignore_invalid_headers`), and so do we.
//!
//! Gateways put words before names, and apps read what is behind them: `Grpc-Metadata-Authorization` is `Authorization` to
//! gRPC-Gateway, and `Grpc-Metadata-X-Loginsync-User` is a forged identity. So a name means what its [`bare`] name means.

mod names;

pub use self::names::Meaning;
use self::names::{A, C, FEW, FORWARDED, R, S, T, X};

/// Whether every reader takes the name for the same one: letters, digits and `-`.
pub fn is_plain(name: &str) -> bool {
    // Every name of every request is looked at, and most are of letters and `-` alone.
    name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-') || byte.is_ascii_alphanumeric())
}

macro_rules! usual {
    ($($usual:literal)*) => {
        /// Whether a name in lower case is one that nearly every request has, which everyone reads alike and which is of this message: a short cut
        /// for what the rest says of these names.
        pub fn is_usual(name: &str) -> bool {
            matches!(name, $($usual)|*)
        }

        #[cfg(test)]
        const USUAL: &[&str] = &[$($usual),*];
    };
}

usual! {
    "accept" "accept-encoding" "accept-language" "cache-control" "content-length" "content-type" "cookie" "host" "if-modified-since"
    "if-none-match" "origin" "pragma" "priority" "range" "referer" "sec-fetch-dest" "sec-fetch-mode" "sec-fetch-site"
    "sec-fetch-user" "upgrade-insecure-requests" "user-agent"
}

/// The name as CGI folds it, in lower case and with `-` for every character that is neither a letter nor a digit.
pub fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// What gateways put before the names of a client's own headers.
const PREFIXES: [&str; 3] = [
    // gRPC-Gateway takes the first one away, and puts the second one before what HTTP itself knows.
    "grpc-metadata-",
    "grpcgateway-",
    // AWS API Gateway.
    "x-amzn-remapped-",
];

/// A name in lower case without what gateways put before it, however often.
pub fn bare(mut name: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name
}

/// Whether apps may read credentials under a name in lower case as they do under `Authorization`: behind a gateway, or folded.
pub fn is_authorization(name: &str) -> bool {
    // Google's Endpoints and nginx recipes move what the client sent there.
    const MOVED: [&str; 2] = ["x-forwarded-", "x-original-"];
    // Every name of every request is looked at.
    if !matches!(name.as_bytes(), [.., b'n']) {
        return false;
    }
    let name = folded(name);
    let name = bare(&name);
    bare(MOVED.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)) == "authorization"
}

/// What a plain name in lower case means; `None` where apps may read whatever they like.
pub fn meaning(name: &str) -> Option<Meaning> {
    let name = bare(name);
    // Most names are told apart by their first two letters.
    let second = name.as_bytes().get(1);
    let names: &[(&str, Meaning)] = match name.as_bytes().first()? {
        b'x' => X,
        b'a' => A,
        b'b' | b'e' | b'g' | b'i' | b'd' | b'h' | b'k' | b'l' | b'm' | b'n' | b'o' | b'w' | b'y' => FEW,
        b'c' => C,
        b'f' | b'p' | b'q' => FORWARDED,
        b'r' => R,
        b's' => S,
        b't' | b'u' => T,
        _ => return None,
    };
    let mut alike = names.iter().filter(|(known, _)| known.as_bytes().get(1) == second);
    alike.find(|(known, _)| is(name, known)).map(|(_, meaning)| *meaning)
}

/// A pattern ends with `*` where everything that begins like it is meant.
fn is(name: &str, pattern: &str) -> bool {
    match pattern.as_bytes() {
        [head @ .., b'*'] => name.as_bytes().starts_with(head),
        whole => name.as_bytes() == whole,
    }
}

#[cfg(test)]
mod tests {
    use super::Meaning::{Hop, Identity, Message, Method, OtherHop, Ours, Path, Proxy};
    use super::*;

    #[test]
    fn names_mean_what_some_app_reads() {
        for (name, expected) in [
            ("X-Loginsync-Anything", Some(Ours)),
            ("remote-user", Some(Ours)),
            ("Remote_Role", Some(Identity)),
            ("X_WebAuth_User", Some(Identity)),
            ("x-forwarded-roles", Some(Identity)),
            ("X.Forwarded.For", Some(Hop)),
            ("x-forwarded-prefix", Some(OtherHop)),
            ("x-forwarded", Some(OtherHop)),
            ("SCRIPT_NAME", Some(Path)),
            ("x-http-destinationurl", Some(Path)),
            ("Proxy", Some(Proxy)),
            ("Grpc-Metadata-X-Loginsync-User", Some(Ours)),
            ("GRPC-METADATA-grpc-metadata-remote-user", Some(Ours)),
            ("grpcgateway_x_webauth_user", Some(Identity)),
            ("Grpc-Metadata-Grpcgateway-Cookie", Some(Message)),
            ("Grpc-Metadata-X-Original-Url", Some(Path)),
            ("Grpc-Metadata-X-Http-Method-Override", Some(Method)),
            ("grpc-metadata-tenant", None),
            ("grpc-metadata-", None),
            ("grpc-timeout", None),
            ("X-HTTP-Method-Override", Some(Method)),
            ("Content_Type", Some(Message)),
            ("transfer~encoding", Some(Message)),
            ("accept", None),
            ("user-agent", None),
            ("x-requested-with", None),
            ("x-auth-token", None),
            ("x-csrf-token", None),
            ("proxy-authorization", None),
            ("referer", None),
            ("", None),
        ] {
            assert_eq!(meaning(&folded(name)), expected, "{name}");
        }
    }

    #[test]
    fn usual_names_pass_as_they_are() {
        const OF_A_HOP: [&str; 5] = ["connection", "keep-alive", "te", "transfer-encoding", "upgrade"];
        for name in USUAL {
            assert!(is_usual(name) && is_plain(name) && bare(name) == *name && !OF_A_HOP.contains(name), "{name}");
            assert!(matches!(meaning(name), None | Some(Message)), "{name}");
        }
        assert!(!is_usual("x-forwarded-for") && !is_usual("content_type") && !is_usual("proxy"));
    }

    #[test]
    fn credentials_are_found_behind_what_gateways_add() {
        for (name, expected) in [
            ("authorization", true),
            ("grpc-metadata-authorization", true),
            ("grpc_metadata-grpc.metadata_authorization", true),
            ("grpcgateway-authorization", true),
            ("x-amzn-remapped-authorization", true),
            ("x-original-authorization", true),
            ("x_forwarded_authorization", true),
            ("grpc-metadata-x-original-authorization", true),
            ("proxy-authorization", false),
            ("authorization-mode", false),
            ("x-authorization", false),
            ("connection", false),
        ] {
            assert_eq!(is_authorization(name), expected, "{name}");
        }
    }

    #[test]
    fn every_name_stands_where_it_is_looked_for() {
        for (pattern, expected) in [A, C, FEW, FORWARDED, R, S, T, X].into_iter().flatten() {
            let name = pattern.replace('*', "a");
            let found = meaning(&name);
            assert!(is_plain(&name) && found.is_some(), "{pattern}");
            // A wider pattern stands behind the narrower ones.
            assert_eq!(found, Some(*expected), "{pattern}");
        }
    }
}
