//! What may be asked for without a login: an operator's act, and a plan from recorded claims.

use crate::ids::{Target, Timestamp};

/// Who acts, and with which right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// As the audit names them.
    pub name: String,
    /// With scope `admin`, or at the command line.
    pub admin: bool,
    /// The rules by which it was found that they may. Under newer ones nothing is done.
    pub epoch: Option<u64>,
}

impl By {
    /// A person at the command line, who could as well write the configuration.
    pub fn operator(name: impl Into<String>) -> Self {
        Self { name: name.into(), admin: true, epoch: None }
    }
}

impl From<&str> for By {
    fn from(name: &str) -> Self {
        Self::operator(name)
    }
}

/// An operator's act on one user.
#[derive(Debug, Clone)]
pub enum Act {
    Assign(Target),
    Unassign(Target),
    Deny {
        target: Target,
        reason: String,
        /// `None`: until it is lifted.
        until: Option<Timestamp>,
    },
    Undeny(Target),
    Disable,
    Enable,
    /// A person who has not logged in yet, with what is known of them until they do.
    Create {
        email: Option<String>,
        display_name: Option<String>,
        enabled: bool,
    },
    /// Another display name, until a login brings one.
    Rename(String),
    /// Personal fields go; the audit chain still verifies. Where the user is disabled or denied something, a keyed digest stays,
    /// so that this still binds them.
    Erase,
    /// The same without the digest; for a person who was erased before, the digest.
    Forget,
}

impl Act {
    pub(super) fn event(&self) -> &'static str {
        match self {
            Self::Assign(_) => "assigned",
            Self::Unassign(_) => "unassigned",
            Self::Deny { .. } => "denied",
            Self::Undeny(_) => "deny_lifted",
            Self::Disable => "user_disabled",
            Self::Enable => "user_enabled",
            Self::Create { .. } => "user_created",
            Self::Rename(_) => "user_renamed",
            Self::Erase | Self::Forget => ERASED,
        }
    }

    pub(super) fn target(&self) -> Option<&Target> {
        match self {
            Self::Assign(target) | Self::Unassign(target) | Self::Deny { target, .. } | Self::Undeny(target) => {
                Some(target)
            }
            _ => None,
        }
    }

    /// Whether it makes a user where there is none.
    pub fn creates(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Assign(_) | Self::Deny { .. })
    }

    pub(super) fn erases(&self) -> bool {
        matches!(self, Self::Erase | Self::Forget)
    }
}

/// The personal fields of every earlier row of the audit about this user are gone.
pub const ERASED: &str = "user_erased";

/// Why a user is planned again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why<'a> {
    /// The rules changed, or an operator asks: the brake watches as it does at a login.
    Rules { by: Option<&'a str> },
    /// An operator released these: what was held may go.
    Released { by: &'a str, targets: &'a [Target] },
}
