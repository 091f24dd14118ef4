//! Conditions that exclude each other.
//!
//! Two positive conditions on one claim never do, since each may be met by another value; a positive and a negative one do
//! where every value that meets the first spoils the second.

use crate::mapping::Join;
use crate::mapping::condition::{ClaimCondition, Condition, Days, Test};

/// Why conditions can never hold together, in words.
pub(super) fn find(join: Join, conditions: &[Condition]) -> Option<String> {
    if join == Join::Any {
        return None;
    }
    conditions.iter().enumerate().find_map(|(at, one)| {
        let later = conditions.get(at + 1..).unwrap_or_default();
        let other = later.iter().find(|other| exclude(one, other) || exclude(other, one))?;
        Some(format!("`{one}` and `{other}` exclude each other"))
    })
}

fn exclude(one: &Condition, other: &Condition) -> bool {
    match (one, other) {
        (Condition::HasRole(has), Condition::LacksRole(lacks)) => has == lacks,
        (Condition::LastLogin(Days::MoreThan(more)), Condition::LastLogin(Days::FewerThan(fewer))) => {
            // Whole days: more than 5 and fewer than 7 leaves 6.
            u64::from(*more) + 1 >= u64::from(*fewer)
        }
        (Condition::Claim(one), Condition::Claim(other)) => {
            one.claim == other.claim && one.delimiter == other.delimiter && spoils(one, other)
        }
        _ => false,
    }
}

/// Whether every value that meets the positive condition makes the negative one false.
fn spoils(positive: &ClaimCondition, negative: &ClaimCondition) -> bool {
    if !positive.is_positive() {
        return false;
    }
    let part = match &positive.test {
        Test::Is(text) | Test::Contains(text) | Test::BeginsWith(text) | Test::EndsWith(text) => Some(text),
        _ => None,
    };
    // Without case a condition is met by spellings that the other may not mean.
    let reaches_further = positive.ignore_case && !negative.ignore_case;
    match (&negative.test, part) {
        (Test::Absent, _) => true,
        (_, None) => false,
        (_, Some(_)) if reaches_further => false,
        (Test::IsNot(_), Some(text)) => matches!(positive.test, Test::Is(_)) && negative.matches(text),
        (Test::NotContains(_), Some(text)) => negative.matches(text),
        _ => false,
    }
}
