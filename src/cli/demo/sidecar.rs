//! The sidecar of the demo: the real one, by a real configuration in a temporary directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::agreed::{CLIENT_ID, MAPPED, Mapped, NAMESPACE, OIDC, OIDC_CALLBACK, SAML, SAML_CALLBACK};
use super::people::DELIMITER;
use super::provider::{Provider, Registration};
use super::{fresh_bytes, fresh_id};
use crate::cli::Failure;

/// Where everybody is: addresses without a trailing slash.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The sidecar, which is the app as browsers see it.
    pub proxy: String,
    pub provider: String,
    /// The app itself, where no browser goes.
    pub app: String,
    pub admin: String,
    /// Where each sidecar listens. One alone is `proxy`; before several there is a balancer.
    pub sidecars: Vec<Listening>,
}

/// Where a sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
}

impl Addresses {
    /// The app, as it registers with the provider.
    pub fn registration(&self) -> Registration {
        Registration {
            client_id: CLIENT_ID.into(),
            redirect_uri: format!("{}{OIDC_CALLBACK}", self.proxy),
            entity_id: format!("{}/saml", self.proxy),
            acs_url: format!("{}{SAML_CALLBACK}", self.proxy),
        }
    }
}

/// Where the sidecar's files are; gone when dropped.
pub struct Directory(TempDir);

impl Directory {
    /// Writes keys, and a configuration for each sidecar. `database` is the URL of what they share; without one, the store is a file. Other users of this machine cannot read them.
    ///
    /// # Errors
    /// When the system's temporary directory cannot be written.
    pub fn make(addresses: &Addresses, database: Option<&str>) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| Failure(format!("the demo's files cannot be written: {error}"));
        let directory = tempfile::Builder::new().prefix("loginsync-demo-").tempdir().map_err(cannot)?;
        let this = Self(directory);
        std::fs::write(this.path().join("audit.key"), format!("{}{}", fresh_id()?, fresh_id()?)).map_err(cannot)?;
        let store = match database {
            Some(url) => {
                let key = STANDARD.encode(fresh_bytes::<32>()?);
                std::fs::write(this.path().join("store.key"), key).map_err(cannot)?;
                format!("url      = \"{url}\"\nkey_file = \"store.key\"")
            }
            None => String::from("path = \"loginsync.db\""),
        };
        for (file, listening) in this.configs(addresses.sidecars.len()).iter().zip(&addresses.sidecars) {
            std::fs::write(file, configuration(addresses, listening, &store)).map_err(cannot)?;
        }
        Ok(this)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("loginsync.toml")
    }

    /// One for each sidecar.
    pub fn configs(&self, sidecars: usize) -> Vec<PathBuf> {
        let others = (2..=sidecars).map(|number| self.path().join(format!("loginsync-{number}.toml")));
        std::iter::once(self.config()).chain(others).collect()
    }
}

/// The whole configuration, commented for its readers.
fn configuration(addresses: &Addresses, listening: &Listening, store: &str) -> String {
    let Addresses { proxy, provider, app, .. } = addresses;
    let Listening { proxy: listen, admin } = listening;
    let entity_id = Provider::entity_id(provider);
    let audience = addresses.registration().entity_id;
    let mappings: String =
        [OIDC, SAML].iter().flat_map(|provider| MAPPED.iter().map(|mapped| mapping(provider, mapped))).collect();
    format!(
        r#"# The configuration of `loginsync demo`. It is a real one: edit it while the demo runs, and it is read again.
# Every key that there is, with its default: config/example.toml.

public_url = "{proxy}"        # the app as browsers see it

[listen]
address = "{listen}"

[app]
url = "{app}"               # the app itself

[admin]
address = "{admin}"

[console]
enabled = true                # pages for operators at http://{admin}/console/

[store]
{store}

[audit]
key_file = "audit.key"

[log]
format = "text"
level  = "warn"

# ---------------------------------------------------------------- who asserts logins
# One provider, two ways to log in. Both know people by the same account, so they share a namespace: a person who uses
# both is one user, who holds what either way gives.

[[provider]]
name       = "{OIDC}"
mode       = "oidc-form-post"
issuer     = "{provider}"
client_id  = "{CLIENT_ID}"
callback   = "{OIDC_CALLBACK}"
namespace  = "{NAMESPACE}"
user_claim = "account"

[provider.claims.groups]                  # a list in the token: nothing to split

[[provider]]
name         = "{SAML}"
mode         = "saml-post"
issuer       = "{entity_id}"
audience     = "{audience}"
metadata_url = "{entity_id}/metadata"
callback     = "{SAML_CALLBACK}"
namespace    = "{NAMESPACE}"
user_claim   = "account"
email_claim  = "email"

[provider.claims.groups]                  # one attribute, "marketing;editors"
delimiter = "{DELIMITER}"

# ---------------------------------------------------------------- what the app has
[[role]]
name = "author"

[[role]]
name = "deployer"

[[role]]
name      = "admin"
protected = true                          # its last holder is never removed by a login

[[group]]
name  = "Engineering"
roles = ["deployer"]

[[group]]
name = "On-call"

[[group]]
name = "Marketing"

[[group]]
name      = "Administrators"
roles     = ["admin"]
protected = true

# ---------------------------------------------------------------- which claim gives what
{mappings}"#
    )
}

fn mapping(provider: &str, mapped: &Mapped) -> String {
    let Mapped { value, kind, target } = mapped;
    format!(
        "[[mapping]]\nprovider = \"{provider}\"\nclaim    = \"groups\"\nvalue    = \"{value}\"\n{kind:<8} = \"{target}\"\n\n"
    )
}
