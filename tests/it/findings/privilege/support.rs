//! SEC23: a grant must not keep itself alive.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use loginsync::cli::demo::mint::saml::{self, MintAttribute};
use loginsync::pipeline::claims::{Claim, ClaimState, Claims, Split};
use loginsync::pipeline::ids::{ClaimName, GroupName, Namespace, ProviderName, RoleName, Subject, Target, UserId};
use loginsync::pipeline::lint::{self, Lint};
use loginsync::pipeline::lookup::Lookup;
use loginsync::pipeline::mapping::action::Then;
use loginsync::pipeline::mapping::condition::{ClaimCondition, Condition, Test};
use loginsync::pipeline::mapping::{
    Activity, Group, Join, Mapping, Role, RuleSet, Rules, When, candidates, holds_by_claim,
};
use loginsync::pipeline::plan::{Grant, Snapshot, Source, by_role_or_claim, draft};
use proptest::prelude::*;
use serde_json::json;

use crate::attacks::{CONFIG, FORM, LEAVE, claims as token_claims, form, here, signed};
use crate::front_door::House;
use crate::kit::{NOW, key, login, signed_assertion};

const PROVIDERS: [&str; 3] = ["a", "b", "c"];

fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).unwrap()
}

fn role(number: usize) -> RoleName {
    RoleName::parse(&format!("r{}", number % 5)).unwrap()
}

/// Even: a group that carries the role of its number; odd: the role itself.
fn target(number: usize) -> Target {
    match number % 2 {
        0 => Target::Group(GroupName::parse(&format!("g{}", number % 5)).unwrap()),
        _ => Target::Role(role(number)),
    }
}

fn claim() -> ClaimName {
    ClaimName::parse("groups").unwrap()
}

fn has_value(value: usize) -> Condition {
    let test = Test::Is(Arc::from(value.to_string()));
    Condition::Claim(ClaimCondition { claim: claim(), delimiter: None, ignore_case: false, test })
}

/// A rule: for which provider, what it asks, what it gives.
type Rule = (Option<usize>, When, usize);

fn when() -> impl Strategy<Value = When> {
    let of = |join: Join, conditions: Vec<Condition>| When::Conditions { join, conditions: conditions.into() };
    prop_oneof![
        3 => (0..4_usize).prop_map(move |value| of(Join::All, vec![has_value(value)])),
        4 => (0..5_usize).prop_map(move |number| of(Join::All, vec![Condition::HasRole(role(number))])),
        2 => (0..5_usize, 0..5_usize).prop_map(move |(one, other)| {
            of(Join::All, vec![Condition::HasRole(role(one)), Condition::HasRole(role(other))])
        }),
        2 => (0..5_usize, 0..4_usize).prop_map(move |(number, value)| {
            of(Join::Any, vec![Condition::HasRole(role(number)), has_value(value)])
        }),
        2 => (0..5_usize, 0..4_usize).prop_map(move |(number, value)| {
            of(Join::All, vec![Condition::HasRole(role(number)), has_value(value)])
        }),
        1 => (0..5_usize, 0..5_usize).prop_map(move |(has, lacks)| {
            of(Join::All, vec![Condition::HasRole(role(has)), Condition::LacksRole(role(lacks))])
        }),
        1 => (0..5_usize, 0..4_usize).prop_map(move |(lacks, value)| {
            of(Join::All, vec![Condition::LacksRole(role(lacks)), has_value(value)])
        }),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    (proptest::option::of(0..3_usize), when(), 0..10_usize)
}

fn rule_set(rules: &[Rule]) -> RuleSet {
    let mappings = rules.iter().enumerate().map(|(number, (owner, when, to))| Mapping {
        id: Mapping::id_of_name(&number.to_string()),
        name: Some(Arc::from(number.to_string())),
        provider: owner.map(|at| provider(PROVIDERS[at])),
        when: when.clone(),
        then: Then::Give(target(*to)),
        activity: Activity::Active,
        until: None,
    });
    let groups: Lookup<GroupName, Group> = (0..5)
        .map(|number| {
            let name = GroupName::parse(&format!("g{number}")).unwrap();
            (name, Group { roles: vec![role(number)], ..Group::default() })
        })
        .collect();
    let roles = (0..5).map(|number| (role(number), Role::default())).collect();
    RuleSet::compile(1, Rules { groups, roles, mappings: mappings.collect(), ..Rules::default() }).unwrap()
}

fn person() -> UserId {
    UserId { namespace: Namespace::parse("people").unwrap(), subject: Subject::parse("alice").unwrap() }
}

fn values(values: &[usize]) -> Arc<Claims> {
    let state = match values {
        [] => ClaimState::Empty,
        values => ClaimState::Values(values.iter().map(ToString::to_string).collect()),
    };
    let claim = Claim { name: claim(), state, split: Split::default(), skipped: 0, decided: true };
    Arc::new(Claims { user: person(), email: None, display_name: None, claims: vec![claim] })
}

/// A store of one person, with all that a plan is made from.
#[derive(Clone, PartialEq)]
struct Held {
    snapshot: Snapshot,
    recorded: HashMap<ProviderName, Arc<Claims>>,
}

impl Held {
    fn by_hand(numbers: &[usize]) -> Self {
        let unique: BTreeSet<Target> = numbers.iter().map(|number| target(*number)).collect();
        let grants = unique.into_iter().map(|target| Grant { target, source: Source::Assigned }).collect();
        Self { snapshot: Snapshot { grants, ..Snapshot::default() }, recorded: HashMap::new() }
    }

    fn log_in(&mut self, rules: &RuleSet, at: usize, brought: &[usize]) {
        let (name, brought) = (provider(PROVIDERS[at]), values(brought));
        self.snapshot.by_claim = by_role_or_claim(&self.snapshot, &name, rules)
            .into_iter()
            .filter(|(owner, mapping)| {
                self.recorded.get(*owner).is_some_and(|claims| holds_by_claim(&mapping.when, claims))
            })
            .map(|(owner, mapping)| (owner.clone(), mapping.id))
            .collect();
        let candidates = candidates(rules, &name, &brought);
        let plan = draft(person(), NOW, NOW, &candidates, &self.snapshot, rules);
        let grant = |change: &loginsync::pipeline::plan::Change| Grant {
            target: change.target.clone(),
            source: Source::Mapped { provider: name.clone(), mapping: change.mapping },
        };
        let revoked: BTreeSet<Grant> = plan.revokes.iter().map(grant).collect();
        self.snapshot.grants.retain(|grant| !revoked.contains(grant));
        self.snapshot.grants.extend(plan.grants.iter().map(grant));
        self.snapshot.grants.sort();
        self.recorded.insert(name, brought);
    }

    fn log_in_everywhere(&mut self, rules: &RuleSet, brought: &[Vec<usize>]) {
        for (at, brought) in brought.iter().enumerate() {
            self.log_in(rules, at, brought);
        }
    }

    /// Rounds of logins until nothing changes, or where rules take turns, for long enough.
    fn settle(&mut self, rules: &RuleSet, brought: &[Vec<usize>]) {
        for _ in 0..ROUNDS {
            // What is held may be the same by other sources: the claims of one provider support the next one's grants.
            let before = self.clone();
            self.log_in_everywhere(rules, brought);
            if *self == before {
                return;
            }
        }
    }

    fn mapped(&self) -> BTreeSet<(Target, ProviderName)> {
        let mapped = self.snapshot.grants.iter().filter_map(|grant| match &grant.source {
            Source::Mapped { provider, .. } => Some((grant.target.clone(), provider.clone())),
            Source::Assigned => None,
        });
        mapped.collect()
    }
}

/// What the rules can come to at all from what was given by hand and these claims: a role that is asked to be missing is
/// taken to be. Written anew, without any of the code that it judges.
fn derivable(rules: &[Rule], by_hand: &[usize], brought: &[Vec<usize>]) -> BTreeSet<(Target, ProviderName)> {
    let roles_of = |number: usize| role(number);
    let mut roles: BTreeSet<RoleName> = by_hand.iter().map(|number| roles_of(*number)).collect();
    let mut given = BTreeSet::new();
    loop {
        let before = given.len();
        for (owner, when, to) in rules {
            for at in (0..PROVIDERS.len()).filter(|at| owner.is_none_or(|owner| owner == *at)) {
                let When::Conditions { join, conditions } = when else { unreachable!() };
                let holds = |condition: &Condition| match condition {
                    Condition::HasRole(role) => roles.contains(role),
                    Condition::LacksRole(_) => true,
                    Condition::Claim(condition) => {
                        let Test::Is(value) = &condition.test else { unreachable!() };
                        brought[at].iter().any(|brought| brought.to_string() == **value)
                    }
                    Condition::LastLogin(_) | Condition::Unreadable => unreachable!(),
                };
                let holds = match join {
                    Join::All => conditions.iter().all(holds),
                    Join::Any => conditions.iter().any(holds),
                };
                if holds {
                    roles.insert(roles_of(*to));
                    given.insert((target(*to), provider(PROVIDERS[at])));
                }
            }
        }
        if given.len() == before {
            return given;
        }
    }
}

fn has_negative(rules: &[Rule]) -> bool {
    let negative = |condition: &Condition| matches!(condition, Condition::LacksRole(_));
    rules.iter().any(|(_, when, _)| when.conditions().iter().any(negative))
}

fn logins() -> impl Strategy<Value = Vec<(usize, Vec<usize>)>> {
    proptest::collection::vec((0..3_usize, proptest::collection::vec(0..4_usize, 0..3)), 0..12)
}

fn brought() -> impl Strategy<Value = Vec<Vec<usize>>> {
    proptest::collection::vec(proptest::collection::vec(0..4_usize, 0..3), 3)
}

/// A revocation reaches the next provider at its login: this many rounds carry it through every chain.
const ROUNDS: usize = 15;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever happened before: once everyone has logged in again, nothing is held that the claims of now and what was given
    /// by hand do not lead to; and where no rule asks that a role is missing, a further login changes nothing.
    #[test]
    fn sec23_what_is_held_leads_back_to_a_source(
        rules in proptest::collection::vec(rule(), 0..10),
        by_hand in proptest::collection::vec(0..10_usize, 0..2),
        before in logins(),
        now in brought(),
    ) {
        let set = rule_set(&rules);
        let mut held = Held::by_hand(&by_hand);
        for (at, values) in &before {
            held.log_in(&set, *at, values);
        }
        held.settle(&set, &now);
        let possible = derivable(&rules, &by_hand, &now);
        let mapped = held.mapped();
        prop_assert!(mapped.is_subset(&possible), "{mapped:?} is more than {possible:?}");
        if !has_negative(&rules) {
            let mut again = held.clone();
            again.log_in_everywhere(&set, &now);
            prop_assert!(again == held, "a further login changed what was settled");
        }
    }

    /// The same without any source left: nothing that leans on a role by hand or on nothing stays.
    #[test]
    fn sec23_nothing_outlives_its_sources(
        rules in proptest::collection::vec(rule(), 0..10), before in logins(),
    ) {
        let set = rule_set(&rules);
        let mut held = Held::by_hand(&[]);
        for (at, values) in &before {
            held.log_in(&set, *at, values);
        }
        held.settle(&set, &[vec![], vec![], vec![]]);
        prop_assert!(held.mapped().is_empty(), "{:?} supports itself", held.mapped());
    }
}

/// A chain over two providers and back stays while its source does, whichever provider is asked and in whichever order the
/// rules stand.
#[test]
fn sec23_a_chain_with_a_source_stays() {
    let by_role = |number| When::Conditions { join: Join::All, conditions: [Condition::HasRole(role(number))].into() };
    let source = (Some(0), When::Conditions { join: Join::All, conditions: [has_value(1)].into() }, 1);
    let over = (Some(1), by_role(1), 2);
    let back = (Some(0), by_role(2), 3);
    for rules in [[source.clone(), over.clone(), back.clone()], [back, over, source]] {
        let set = rule_set(&rules);
        let mut held = Held::by_hand(&[]);
        for _ in 0..3 {
            held.log_in_everywhere(&set, &[vec![1], vec![], vec![]]);
        }
        assert_eq!(held.mapped().len(), 3, "{:?}", held.mapped());
        held.log_in_everywhere(&set, &[vec![], vec![], vec![]]);
        held.log_in_everywhere(&set, &[vec![], vec![], vec![]]);
        assert!(held.mapped().is_empty(), "{:?}", held.mapped());
    }
}

/// Of a mapping with alternatives, a grant that a claim gave stands by itself, as the recorded claims say.
#[test]
fn sec23_a_claim_beside_a_role_is_a_source() {
    let either = When::Conditions { join: Join::Any, conditions: [Condition::HasRole(role(1)), has_value(1)].into() };
    let leaning = When::Conditions { join: Join::All, conditions: [Condition::HasRole(role(2))].into() };
    let set = rule_set(&[(Some(1), either, 2), (Some(0), leaning, 3)]);
    let mut held = Held::by_hand(&[]);
    held.log_in(&set, 1, &[1]);
    held.log_in(&set, 0, &[]);
    assert_eq!(held.mapped().len(), 2, "{:?}", held.mapped());
    held.recorded.clear();
    held.log_in(&set, 0, &[]);
    assert_eq!(held.mapped().len(), 1, "what was not recorded supports nothing: {:?}", held.mapped());
}

#[test]
fn sec23_lint_names_the_circle() {
    let by_role = |number| When::Conditions { join: Join::All, conditions: [Condition::HasRole(role(number))].into() };
    let set = rule_set(&[(None, by_role(1), 2), (None, by_role(2), 1), (None, by_role(3), 4)]);
    let found = lint::lint(&set, &lint::Telling::default(), NOW);
    let circles: Vec<String> =
        found.iter().filter(|finding| finding.lint == Lint::SupportsItself).map(ToString::to_string).collect();
    assert_eq!(
        circles,
        [
            "supports itself: mapping `0`: its condition leads back to itself: `0` gives role `r2`, which `1` asks for; `1` \
          gives role `r1`, which `0` asks for; it gives nothing while no other source gives one of these roles"
        ]
    );
}

/// Two providers of one namespace, and a mapping for both that gives by a role what carries that role.
fn circle() -> String {
    let rules = r#"
[[mapping]]
name = "editors are staff"
when = [{ has_role = "editor" }]
then = [{ add_group = "Staff" }]
"#;
    let shared = "namespace = \"people\"\nuser_claim = \"email\"\nemail_trusted = true\n";
    let text = CONFIG.replace("OIDC", shared).replace("SAML\n", &format!("{shared}email_claim = \"email\"\n"));
    // The source of it all is a role at one of the two.
    let text = text.replace("value = \"staff\"\ngroup = \"Staff\"", "value = \"staff\"\nrole = \"editor\"");
    format!("{text}\n{rules}")
}

struct Person {
    house: House,
}

impl Person {
    async fn by_oidc(&self, jti: &str, groups: &[&str]) -> Vec<String> {
        let cookies = self.house.leave(LEAVE).await;
        let mut login = token_claims(jti);
        login["groups"] = json!(groups);
        let body = form(&[("id_token", &signed(&login)), ("state", "state-1")]);
        let headers = [("cookie", cookies.as_str()), FORM];
        let answer = self.house.send("POST", "/callback", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        self.groups().await
    }

    async fn by_saml(&self, number: &str, groups: &[&str]) -> Vec<String> {
        let cookies = self.house.leave(&crate::attacks::saml_leave(crate::kit::REQUEST)).await;
        let (response, assertion) = (format!("_response-{number}"), format!("_assertion-{number}"));
        let mut login = login();
        (login.response_id, login.assertion_id) = (response, assertion);
        login.attributes =
            vec![MintAttribute::of("groups", groups), MintAttribute::of("email", &["alice@example.com"])];
        let document = signed_assertion(&login, &key("idp-rsa"));
        let field = saml::field(&document);
        let body = form(&[("SAMLResponse", &field), ("RelayState", "/home")]);
        let headers = [("cookie", cookies.as_str()), FORM];
        let answer = self.house.send("POST", "/saml/acs", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        self.groups().await
    }

    async fn groups(&self) -> Vec<String> {
        let subject = Subject::parse("alice@example.com").unwrap();
        let view = self.house.view(UserId { subject, ..person() }).await;
        view.map(|view| view.groups).unwrap_or_default()
    }
}

#[tokio::test]
async fn sec23_two_providers_do_not_keep_each_others_grants() {
    let person = Person { house: House::open(&circle(), &here(), NOW).await };
    assert_eq!(person.by_oidc("1", &["staff"]).await, ["Staff"]);
    assert_eq!(person.by_saml("1", &[]).await, ["Staff"], "it follows from the role that the other provider gives");
    // The source is gone: the next login of each provider takes its part away.
    person.by_oidc("2", &[]).await;
    person.by_saml("2", &[]).await;
    assert!(person.by_oidc("3", &[]).await.is_empty(), "nothing gives `editor` any more");
}
