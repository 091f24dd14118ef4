//! Whether two names are one issuer to some app.

use crate::provider::Provider;

impl Provider {
    /// Whether some reader takes an issuer for this provider.
    pub fn is_called(&self, found: &str) -> bool {
        self.issuers().any(|ours| is_like(found, ours))
    }
}

/// Whether some reader takes two names for one issuer: case, a slash at the end and the scheme aside (Google writes its own in
/// two ways), and whichever of its names an AD FS or a tenant of Entra ID goes by. Its endpoints of version 1 and 2 issue tokens for the same app
/// with the same keys, and the person who logs in chooses between them.
pub fn is_like(found: &str, ours: &str) -> bool {
    if found == ours {
        return true;
    }
    let (found, ours) = (bare(found), bare(ours));
    found == ours
        || entra_tenant(&found).is_some_and(|tenant| entra_tenant(&ours) == Some(tenant))
        || adfs_host(&found).is_some_and(|host| adfs_host(&ours) == Some(host))
}

/// The host of an AD FS, by either of its names: it issues access tokens under another one than ID tokens, with the same keys
/// (`access_token_issuer` of its metadata).
fn adfs_host(issuer: &str) -> Option<&str> {
    issuer.strip_suffix("/adfs").or(issuer.strip_suffix("/adfs/services/trust"))
}

/// What all names have in them that [`is_like`] takes for this one, in lower case.
pub fn telling(ours: &str) -> String {
    let ours = bare(ours);
    entra_tenant(&ours).or(adfs_host(&ours)).unwrap_or(&ours).to_owned()
}

fn bare(name: &str) -> String {
    let name = name.trim();
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    name.trim_end_matches('/').to_ascii_lowercase()
}

/// Hosts under which Entra ID issues tokens, in its national clouds too.
const ENTRA: [&str; 10] = [
    "login.microsoftonline.com",
    "login.microsoft.com",
    "login.windows.net",
    "sts.windows.net",
    "login.microsoftonline.us",
    "sts.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "login.chinacloudapi.cn",
    "sts.chinacloudapi.cn",
    "login.microsoftonline.de",
];

/// The tenant that an issuer of Entra ID names, whose scheme was taken off.
fn entra_tenant(issuer: &str) -> Option<&str> {
    let (host, path) = issuer.split_once('/')?;
    let tenant = path.split('/').next()?;
    (ENTRA.contains(&host) && !tenant.is_empty()).then_some(tenant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_known_by_each_of_its_names() {
        const TENANT: &str = "4a0e2c1f-0c3b-4b7c-9a51-8f1f3c1f6a10";
        let ours = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        for alike in [
            format!("https://sts.windows.net/{TENANT}/"),
            format!("https://STS.windows.net/{}", TENANT.to_uppercase()),
            format!("https://login.microsoftonline.com/{TENANT}/"),
            format!("https://login.windows.net/{TENANT}/v2.0"),
            format!("http://login.microsoftonline.com/{TENANT}/v2.0/"),
        ] {
            assert!(is_like(&alike, &ours) && is_like(&ours, &alike), "{alike}");
        }
        for other in [
            "https://sts.windows.net/00000000-0000-0000-0000-000000000001/".to_owned(),
            format!("https://sts.windows.net.evil.example/{TENANT}/"),
            format!("https://idp.example/{TENANT}/v2.0"),
            "https://sts.windows.net/".to_owned(),
            format!("https://sts.windows.net//{TENANT}/"),
        ] {
            assert!(!is_like(&other, &ours) && !is_like(&ours, &other), "{other}");
        }
        assert!(!is_like("https://sts.windows.net//a", "https://login.windows.net//b"));
        assert!(is_like("accounts.google.com", "https://accounts.google.com/"));
        assert!(is_like("http://fs.example/adfs/services/trust", "https://fs.example/adfs"));
        assert!(!is_like("http://fs.example/adfs/services/trust", "https://other.example/adfs"));
        assert!(is_like("HTTPS://IdP.example/", "https://idp.example"));
        assert!(!is_like("https://idp.example/other", "https://idp.example"));
    }
}
