//! The forecast for people: the summary first, then who.

use std::fmt::{self, Display as _};

use super::{Excess, Forecast, MappingChange, Refusals, TargetName, UserForecast};

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shadow {
            writeln!(f, "`sync.mode` is `shadow`: none of this is written until that changes")?;
        }
        let changes = self.changes || self.shadow;
        match changes {
            true => writeln!(f, "{} of {} users gain or lose something", self.changed_users, self.users)?,
            false => writeln!(f, "nothing changes for any of {} users", self.users)?,
        }
        if self.interrupted_users > 0 {
            writeln!(f, "{} more are without something until their next login", self.interrupted_users)?;
        }
        if self.privileged_grants > 0 {
            let count = self.privileged_grants;
            writeln!(
                f,
                "{count} grants end since their group or role becomes privileged and no administrator made them"
            )?;
        }
        if self.lapsed_grants > 0 {
            writeln!(f, "{} grants end by these rules' leases", self.lapsed_grants)?;
        }
        if !self.roles_compared {
            writeln!(
                f,
                "the roles that groups carry now are unknown, since no sidecar has recorded them in this database yet; use `--from`"
            )?;
        }
        if self.without_claims > 0 {
            let count = self.without_claims;
            writeln!(
                f,
                "{count} users: the recorded claims lack some that these rules read, so gains and losses are unknown"
            )?;
        }
        self.mappings(f)?;
        self.targets(f)?;
        for refusals in &self.refusals {
            writeln!(f, "  {} users would be {}", refusals.users, refusals.reason)?;
        }
        for refusals in &self.may_refuse {
            let Refusals { users, reason } = refusals;
            writeln!(f, "  {users} users may be {reason}: what it asks for was not recorded of them")?;
        }
        self.warnings(f)?;
        if !self.details.is_empty() {
            writeln!(f, "\nwho")?;
        }
        self.details.iter().try_for_each(|user| user.fmt(f))?;
        match self.left_out {
            0 => Ok(()),
            count => writeln!(f, "  and {count} more (`--limit` shows more)"),
        }
    }
}

impl Forecast {
    fn mappings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = &self.mappings;
        if !all.compared {
            if !all.is_empty() {
                writeln!(f, "\nmappings, as far as grants show them; `--from` compares their definitions")?;
            }
        } else if !all.is_empty() {
            writeln!(f, "\nmappings: {} added, {} removed, {} edited", all.added, all.removed, all.edited)?;
        }
        all.changes.iter().try_for_each(|change| change.fmt(f))?;
        let shown = all.changes.len() as u64;
        let left_out = (all.added + all.removed + all.edited).saturating_sub(shown);
        if left_out > 0 {
            writeln!(f, "  and {left_out} more")?;
        }
        let unnamed = |change: &str| all.changes.iter().any(|one| one.change == change && one.unnamed);
        if unnamed("added") && unnamed("removed") {
            writeln!(f, "  a mapping without a name is its content: editing it removes it and adds another")?;
        }
        Ok(())
    }

    fn targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.targets.is_empty() {
            return Ok(());
        }
        let name = |target: &TargetName| target.to_string();
        let width = self.targets.iter().map(|row| name(&row.target).chars().count()).max().unwrap_or(0).max(10);
        writeln!(
            f,
            "\n  {:<width$} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "", "gain", "lose", "at once", "may gain", "may lose"
        )?;
        for row in &self.targets {
            let (gains, losses, at_once) = (row.gains, row.losses, row.at_once);
            let (may_gain, may_lose) = (row.may_gain, row.may_lose);
            let name = name(&row.target);
            writeln!(f, "  {name:<width$} {gains:>8} {losses:>8} {at_once:>8} {may_gain:>8} {may_lose:>8}")?;
        }
        Ok(())
    }

    fn warnings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !(self.last_holders.is_empty() && self.brake_refuses.is_empty() && self.brake_holds.is_empty()) {
            writeln!(f)?;
        }
        for target in &self.last_holders {
            writeln!(f, "WARNING: {target} loses its last holder")?;
        }
        for excess in &self.brake_refuses {
            writeln!(f, "the brake refuses these rules, unless `--confirm` is given: {excess}")?;
        }
        for excess in &self.brake_holds {
            writeln!(f, "the brake holds what goes past its limit: {excess}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, target, losing, members, allowed } = self;
        match provider {
            Some(provider) => {
                write!(f, "{target} would go from {losing} of {members} who have it through `{provider}`")?
            }
            None => write!(f, "{target} would go from {losing} of {members} who have it by hand")?,
        }
        write!(f, "; {allowed} may")
    }
}

impl fmt::Display for MappingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { change, mapping, says, unnamed: _, grants, going, coming } = self;
        write!(f, "  {change:<15} `{mapping}`")?;
        if let Some(says) = says {
            write!(f, "  {says}")?;
        }
        match grants {
            0 => {}
            grants => write!(f, "  ({grants} grants now)")?,
        }
        match (going, coming) {
            (0, 0) => writeln!(f),
            (going, 0) => writeln!(f, ", {going} go"),
            (0, coming) => writeln!(f, ", {coming} come"),
            (going, coming) => writeln!(f, ", {going} go, {coming} come"),
        }
    }
}

impl fmt::Display for UserForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} ", self.user)?;
        for (sign, targets) in [("+", &self.gains), ("-", &self.losses), ("?", &self.may_lose)] {
            targets.iter().try_for_each(|target| write!(f, " {sign} {target}"))?;
        }
        if let Some(refused) = &self.refused {
            write!(f, " x {refused}")?;
        }
        if let Some(refused) = &self.may_be_refused {
            write!(f, " ? {refused}")?;
        }
        writeln!(f)
    }
}
