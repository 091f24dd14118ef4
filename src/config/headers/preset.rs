//! The names of the header fields by which each app learns who sent a request, and how it reads them.
//!
//! | preset | user | groups | roles |
//! |---|---|---|---|
//! | `loginsync` | `X-Loginsync-User` | `X-Loginsync-Groups` | `X-Loginsync-Roles` |
//! | `oauth2-proxy` | `X-Forwarded-User` | `X-Forwarded-Groups` | |
//! | `authelia`, `octoprint` | `Remote-User` | `Remote-Groups` | |
//! | `open-webui` | `X-Forwarded-User` | `X-Forwarded-Groups` | `X-Forwarded-Role`: `admin`, `user` or `pending` |
//! | `grafana` | `X-Webauth-User` | `X-Webauth-Groups` | `X-Webauth-Role`: `Admin`, `Editor`, `Viewer` or `None` |
//! | `jenkins` | `X-Forwarded-User` | `X-Forwarded-Groups` | |
//! | `netbox` | `Remote-User` | `Remote-User-Group` | |
//! | `cloudbeaver` | `X-User` | `X-Team` | |

/// The names under which the app learns who logged in, and how it reads lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderPreset {
    /// `X-Loginsync-User`, `-Email`, `-Groups`, `-Roles`; values percent-escaped so that they split back at the delimiter.
    Loginsync,
    /// As the proxy of that name: `X-Forwarded-User`, `-Email`, `-Groups`, `-Preferred-Username`.
    Oauth2Proxy,
    /// As the proxy of that name: `Remote-User`, `-Groups`, `-Email`, `-Name`.
    Authelia,
    /// The names of [`Self::Authelia`].
    OctoPrint,
    /// The names of [`Self::Oauth2Proxy`], and `X-Forwarded-Role`.
    OpenWebUi,
    /// `X-Webauth-User`, `-Email`, `-Name`, `-Groups`, `-Role`.
    Grafana,
    /// The plugin Reverse Proxy Auth: `X-Forwarded-User`, `-Groups`, `-Mail`, `-Displayname`.
    Jenkins,
    /// `Remote-User`, `Remote-User-Group`, `Remote-User-Email`.
    NetBox,
    /// `X-User`, `X-Team`, `X-Full-Name`.
    CloudBeaver,
    None,
}

impl HeaderPreset {
    pub(super) const ALL: [(&'static str, Self); 10] = [
        ("loginsync", Self::Loginsync),
        ("oauth2-proxy", Self::Oauth2Proxy),
        ("authelia", Self::Authelia),
        ("octoprint", Self::OctoPrint),
        ("open-webui", Self::OpenWebUi),
        ("grafana", Self::Grafana),
        ("jenkins", Self::Jenkins),
        ("netbox", Self::NetBox),
        ("cloudbeaver", Self::CloudBeaver),
        ("none", Self::None),
    ];

    /// As the configuration writes it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, preset)| *preset == self).map_or("none", |(word, _)| word)
    }

    /// What the app splits lists at when nothing else is set up there.
    pub(super) fn delimiter(self) -> char {
        match self {
            Self::Jenkins | Self::NetBox | Self::CloudBeaver => '|',
            _ => ',',
        }
    }

    /// What an app takes for an empty list that does not take a missing header for one. CloudBeaver refuses teams that it
    /// does not have, and everyone is in its team `user`. Jenkins and NetBox take a missing header for an empty list.
    pub(super) fn no_groups(self) -> Option<&'static str> {
        match self {
            Self::OctoPrint | Self::OpenWebUi | Self::Grafana => Some("-"),
            Self::CloudBeaver => Some("user"),
            _ => None,
        }
    }

    /// The cookies by which an app goes on with a session of its own instead of reading the headers again, where it works without
    /// them. OctoPrint reads each with and without its port. What the other apps do is in `docs/apps.md`.
    pub fn session_cookies(self) -> &'static [&'static str] {
        match self {
            Self::OctoPrint => &["session", "session_P*", "remember_token", "remember_token_P*"],
            _ => &[],
        }
    }

    /// Whether the apps that read these names are known: another proxy's names say nothing of the app.
    pub fn is_of_another_proxy(self) -> bool {
        matches!(self, Self::Oauth2Proxy | Self::Authelia)
    }
}

/// The names of one preset, in lower case.
#[derive(Debug)]
pub struct Names {
    pub user: &'static str,
    pub email: Option<&'static str>,
    pub display_name: Option<&'static str>,
    pub groups: &'static str,
    pub roles: Roles,
    pub hidden: Option<&'static str>,
    /// What the app reads though we do not send it: a client must not send it either.
    pub besides: &'static [&'static str],
}

#[derive(Debug)]
pub enum Roles {
    Untold,
    List(&'static str),
    /// For an app that takes one role, out of its own: the first of these that is held.
    Highest {
        name: &'static str,
        ranks: &'static [&'static str],
        none: &'static str,
    },
}

const LOGINSYNC: Names = Names {
    user: "x-loginsync-user",
    email: Some("x-loginsync-email"),
    display_name: None,
    groups: "x-loginsync-groups",
    roles: Roles::List("x-loginsync-roles"),
    hidden: Some("x-loginsync-hidden-groups"),
    besides: &[],
};

const OAUTH2_PROXY: Names = Names {
    user: "x-forwarded-user",
    email: Some("x-forwarded-email"),
    display_name: Some("x-forwarded-preferred-username"),
    groups: "x-forwarded-groups",
    roles: Roles::Untold,
    hidden: None,
    besides: &[],
};

const AUTHELIA: Names = Names {
    user: "remote-user",
    email: Some("remote-email"),
    display_name: Some("remote-name"),
    groups: "remote-groups",
    roles: Roles::Untold,
    hidden: None,
    besides: &[],
};

/// A role that it does not know it ignores, and keeps the old one; `pending` may do nothing.
const OPEN_WEBUI: Names = Names {
    roles: Roles::Highest { name: "x-forwarded-role", ranks: &["admin", "user"], none: "pending" },
    ..OAUTH2_PROXY
};

/// Without a role it keeps the old one; `None` is a role of its own.
const GRAFANA: Names = Names {
    user: "x-webauth-user",
    email: Some("x-webauth-email"),
    display_name: Some("x-webauth-name"),
    groups: "x-webauth-groups",
    roles: Roles::Highest { name: "x-webauth-role", ranks: &["Admin", "Editor", "Viewer"], none: "None" },
    hidden: None,
    besides: &["x-webauth-login"],
};

const JENKINS: Names = Names {
    user: "x-forwarded-user",
    email: Some("x-forwarded-mail"),
    display_name: Some("x-forwarded-displayname"),
    groups: "x-forwarded-groups",
    roles: Roles::Untold,
    hidden: None,
    besides: &[],
};

const NETBOX: Names = Names {
    user: "remote-user",
    email: Some("remote-user-email"),
    display_name: None,
    groups: "remote-user-group",
    roles: Roles::Untold,
    hidden: None,
    besides: &["remote-user-first-name", "remote-user-last-name"],
};

/// `X-Role` is the older name of `X-Team`, and read where that is missing.
const CLOUDBEAVER: Names = Names {
    user: "x-user",
    email: None,
    display_name: Some("x-full-name"),
    groups: "x-team",
    roles: Roles::Untold,
    hidden: None,
    besides: &["x-role", "x-role-te", "x-first-name", "x-last-name"],
};

impl Names {
    pub fn of(preset: HeaderPreset) -> Option<&'static Self> {
        match preset {
            HeaderPreset::None => None,
            HeaderPreset::Loginsync => Some(&LOGINSYNC),
            HeaderPreset::Oauth2Proxy => Some(&OAUTH2_PROXY),
            HeaderPreset::Authelia | HeaderPreset::OctoPrint => Some(&AUTHELIA),
            HeaderPreset::OpenWebUi => Some(&OPEN_WEBUI),
            HeaderPreset::Grafana => Some(&GRAFANA),
            HeaderPreset::Jenkins => Some(&JENKINS),
            HeaderPreset::NetBox => Some(&NETBOX),
            HeaderPreset::CloudBeaver => Some(&CLOUDBEAVER),
        }
    }

    /// Every name that is sent, and those that the app reads besides.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        let roles = match self.roles {
            Roles::Untold => None,
            Roles::List(name) | Roles::Highest { name, .. } => Some(name),
        };
        let optional = [self.email, self.display_name, roles, self.hidden];
        let besides = self.besides.iter().copied();
        [self.user, self.groups].into_iter().chain(optional.into_iter().flatten()).chain(besides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::reading::header::{Meaning, meaning};

    /// A name that passed from clients would let them claim to be any user.
    #[test]
    fn no_name_of_a_preset_passes_from_clients() {
        for names in [&LOGINSYNC, &OAUTH2_PROXY, &AUTHELIA, &OPEN_WEBUI, &GRAFANA, &JENKINS, &NETBOX, &CLOUDBEAVER] {
            for name in names.all() {
                let found = meaning(name);
                assert!(
                    matches!(found, Some(Meaning::Ours | Meaning::Identity | Meaning::OtherHop)),
                    "{name}: {found:?}"
                );
            }
        }
    }
}
