//! What new rules would change for people whose logins are recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use loginsync_pipeline::claims::{Claim, ClaimState, Claims, Split};
use loginsync_pipeline::forecast::{Excess, Forecast, Forecaster, LastLogin, Person, TargetName};
use loginsync_pipeline::ids::ClaimName;
use loginsync_pipeline::plan::Grant;

use crate::world::{NOW, group, mapped, nth, provider, rules};

/// A user whose last login brought these values.
fn person(number: u32, values: &[&str], grants: Vec<Grant>) -> Person {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    let state = if values.is_empty() { ClaimState::Empty } else { ClaimState::Values(values) };
    let name = ClaimName::parse("groups").unwrap();
    let claims = vec![Claim { name, state, split: Split::default(), skipped: 0, decided: true }];
    let claims = Claims { user: nth(number), email: None, display_name: None, claims };
    let mut person = Person::new(nth(number), true);
    person.snapshot.grants = grants;
    let (watermark, claims) = (NOW, Some(Arc::new(claims)));
    person.logins.push(LastLogin { provider: provider("p"), watermark, renewed_at: Some(NOW), claims });
    person
}

fn forecast(people: &[Person]) -> Forecast {
    let rules = rules();
    let mut forecaster = Forecaster::new(Some(&rules), Some(&rules), &rules, NOW, 100);
    people.iter().for_each(|person| forecaster.add(person));
    forecaster.finish(Vec::new())
}

/// A fifth of the members, as the brake lets pass where that is more than two.
#[test]
fn what_the_brake_would_hold_is_a_share_of_the_members() {
    for (leaving, is_held) in [(6, false), (7, true)] {
        let people: Vec<Person> = (0..30)
            .map(|number| person(number, if number < leaving { &[] } else { &["c"] }, vec![mapped("p", "c")]))
            .collect();
        let target = TargetName::from(&group("C"));
        let excess = Excess { provider: Some("p".into()), target, losing: leaving.into(), members: 30, allowed: 6 };
        let expected = if is_held { vec![excess] } else { vec![] };
        assert_eq!(forecast(&people).brake_holds, expected, "{leaving}");
    }
}

#[test]
fn grants_whose_lease_is_over_are_counted() {
    let mut lapsed = person(1, &["c", "d"], vec![mapped("p", "c"), mapped("p", "d")]);
    let id = crate::world::mapping("p", "c").id;
    lapsed.lapsed = BTreeSet::from([(group("C"), provider("p"), id)]);
    let other = person(2, &["c"], vec![mapped("p", "c")]);
    assert_eq!(forecast(&[lapsed, other]).lapsed_grants, 1);
}
