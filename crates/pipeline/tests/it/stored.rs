//! What the mapping APIs have made, beside what the file declares.

use std::collections::HashSet;
use std::sync::Arc;

use loginsync_pipeline::ids::Target;
use loginsync_pipeline::mapping::stored::{
    Entry, GroupBody, OwnGroup, OwnRole, RoleBody, Stored, merge, removed_targets, taken_names,
};

use crate::world::{NOW, group, group_name, role, role_name, rules};

/// Groups and roles by number and name, made by the APIs or declared by the file.
fn stored(groups: &[(i64, &str, bool)], roles: &[(i64, &str, bool)]) -> Stored {
    let mut stored = Stored::default();
    for (number, name, is_own) in groups {
        let body = GroupBody { name: (*name).into(), own: is_own.then(OwnGroup::default) };
        stored.groups.insert(*number, Arc::new(Entry::new(*number, String::new(), NOW, body)));
    }
    for (number, name, is_own) in roles {
        let body = RoleBody { name: (*name).into(), own: is_own.then(OwnRole::default) };
        stored.roles.insert(*number, Arc::new(Entry::new(*number, String::new(), NOW, body)));
    }
    stored
}

#[test]
fn what_the_file_declares_is_numbered_once() {
    let (rules, mut stored, mut keys) = (rules(), Stored::default(), 0);
    for is_new in [true, false, false] {
        let fresh_key = || {
            keys += 1;
            keys.to_string()
        };
        assert_eq!(stored.number_declared(&rules, NOW, fresh_key), is_new);
        assert_eq!((stored.last_number, stored.groups.len(), stored.roles.len()), (5, 4, 1));
    }
    assert_eq!(keys, 5);
    let named = |name: &str| stored.group(name).map(|entry| (entry.number, entry.key.clone()));
    assert_eq!((named("A"), named("B"), named("E")), (Some((1, "1".into())), Some((2, "2".into())), None));
    assert_eq!(stored.role("admin").map(|entry| entry.number), Some(5));
    assert!(stored.role("owner").is_none());
}

/// The file's own names are its own, case aside; what both have made counts once.
#[test]
fn a_name_of_the_file_is_not_made_again() {
    let stored = stored(&[(1, "a", true), (2, "E", true), (3, "F", false)], &[(4, "ADMIN", true), (5, "owner", true)]);
    let merged = merge(&rules(), &stored, Arc::default(), 2).unwrap();
    let has_group = |name: &str| merged.groups.contains_key(name);
    let has_role = |name: &str| merged.roles.contains_key(name);
    assert_eq!(["A", "a", "E", "F"].map(has_group), [true, false, true, false]);
    assert_eq!(["admin", "ADMIN", "owner"].map(has_role), [true, false, true]);
    let left_out: HashSet<i64> = merged.overlay.left_out.keys().copied().collect();
    assert_eq!(left_out, HashSet::from([1, 4]));
    let taken = taken_names([group_name("Staff")].iter(), [role_name("Editor")].iter());
    assert_eq!(taken, HashSet::from(["staff".into(), "editor".into()]));
}

#[test]
fn what_was_made_and_is_gone_is_removed() {
    let before = stored(&[(1, "E", true), (2, "F", true), (3, "A", false)], &[(4, "owner", true), (5, "guest", true)]);
    for (groups, roles, expected) in [
        (&[(1, "E", true), (2, "F", true)][..], &[(4, "owner", true), (5, "guest", true)][..], vec![]),
        (&[(1, "E", true)], &[(4, "owner", true)], vec![group("F"), role("guest")]),
        // A name may change; the number stays.
        (&[(1, "G", true), (2, "F", true)], &[(5, "other", true)], vec![role("owner")]),
        (&[], &[], vec![group("E"), group("F"), role("owner"), role("guest")]),
    ] {
        let removed: Vec<Target> = removed_targets(&before, &stored(groups, roles));
        assert_eq!(removed, expected);
    }
}
