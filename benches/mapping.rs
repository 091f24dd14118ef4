//! Evaluating mappings alone: what a login's 200 values cost among 10, 1,000 and 100,000 of them. The last should be
//! within a tenth of the first.

#![allow(clippy::expect_used, reason = "what cannot be set up cannot be measured")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use loginsync::pipeline::claims::{Claim, ClaimState, Claims, Split};
use loginsync::pipeline::ids::{ClaimName, GroupName, Namespace, ProviderName, Subject, Target, UserId};
use loginsync::pipeline::mapping::{Candidates, Group, Mapping, RuleSet, Rules, candidates};

const MATCHED: usize = 10;

fn evaluate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("200 values among mappings");
    for mappings in [10, 1000, 100_000] {
        let rules = rules(mappings);
        // Users differ, so that it is not always the same few places that are looked at.
        let logins: Vec<Arc<Claims>> = (0..64).map(|user| Arc::new(claims(mappings, user))).collect();
        let provider = provider();
        let mut next = logins.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(mappings), |bencher| {
            bencher.iter(|| {
                let candidates = next.next().map(|login| candidates(&rules, &provider, black_box(login)));
                assert_eq!(candidates.as_ref().map(Candidates::touched), Some(MATCHED));
                candidates
            });
        });
    }
    group.finish();
}

fn provider() -> ProviderName {
    ProviderName::parse("entra").expect("a name")
}

fn claim() -> ClaimName {
    ClaimName::parse("groups").expect("a name")
}

fn value(at: usize) -> String {
    format!("{:08x}-51f2-4a5e-8a46-{at:012x}", at.wrapping_mul(0x9e37_79b9) & 0xffff_ffff)
}

fn rules(count: usize) -> RuleSet {
    let mappings = (0..count)
        .map(|at| {
            let target = Target::Group(GroupName::parse(&format!("Group {}", at % 1000)).expect("a name"));
            Mapping::of_value(provider(), claim(), Arc::from(value(at)), None, target)
        })
        .collect();
    let groups = (0..count.min(1000))
        .map(|at| (GroupName::parse(&format!("Group {at}")).expect("a name"), Group::default()))
        .collect();
    let rules = Rules { groups, mappings, ..Rules::default() };
    RuleSet::compile(1, rules).expect("a small index")
}

fn claims(mappings: usize, user: usize) -> Claims {
    let stride = mappings / MATCHED;
    let mapped = (0..MATCHED).map(|at| value(at * stride + user * 7919 % stride));
    let others = (0..200 - MATCHED).map(|at| value(10_000_000 + user * 1000 + at));
    Claims {
        user: UserId {
            namespace: Namespace::parse("entra").expect("a name"),
            subject: Subject::parse(&format!("user-{user}")).expect("a name"),
        },
        email: None,
        display_name: None,
        claims: vec![Claim {
            name: claim(),
            state: ClaimState::Values(mapped.chain(others).collect()),
            split: Split::default(),
            skipped: 0,
            decided: true,
        }],
    }
}

criterion_group!(benches, evaluate);
criterion_main!(benches);
