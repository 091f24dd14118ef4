//! What the text of a pattern tells.

/// Why a regular expression matches more than a whole value, in words.
pub(super) fn loose(source: &str) -> Option<&'static str> {
    let bare = source.trim_start_matches("(?i)").trim_start_matches("(?-i)");
    let begins = bare.starts_with('^') || bare.starts_with(r"\A");
    let ends = bare.ends_with(r"\z") || (bare.ends_with('$') && !is_escaped(bare));
    match (begins, ends, alternatives(bare)) {
        (true, true, false) => None,
        (true, true, true) => Some("has alternatives that its `^` and `$` do not both hold; expected `^(…|…)$`"),
        (false, true, _) => Some("may begin anywhere in a value; expected `^` at its front"),
        (true, false, _) => Some("may end anywhere in a value; expected `$` at its end"),
        (false, false, _) => Some("is found anywhere in a value; expected `^…$`"),
    }
}

/// Whether the last character is taken literally.
fn is_escaped(text: &str) -> bool {
    let before = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    before.chars().rev().take_while(|character| *character == '\\').count() % 2 == 1
}

/// Whether a `|` stands outside of all brackets.
fn alternatives(text: &str) -> bool {
    let (mut depth, mut in_class, mut escaped) = (0_u32, false, false);
    for character in text.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// Whether a name can come of a template such as `team-${team}`: its texts stand in the name in their order.
pub(super) fn fits(template: &str, name: &str) -> bool {
    let mut texts = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        texts.push(before);
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    let (Some((first, middle)), last) = (texts.split_first(), rest) else { return template == name };
    let Some(inner) = name.strip_prefix(*first).and_then(|inner| inner.strip_suffix(last)) else { return false };
    let mut inner = inner;
    for text in middle {
        match inner.split_once(*text) {
            Some((_, after)) => inner = after,
            None => return false,
        }
    }
    true
}

/// `2f1c7d0a-51f2-4a5e-8a46-8b6f8c3b7a11`, as directories number their groups.
pub(super) fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|character| character == '-' || character.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loose_expression_is_told_from_a_tight_one() {
        for tight in ["^a$", r"\Aa\z", "(?i)^a$", "^(a|b)$", "^[|]$", r"^a\|b$", r"^a\\$"] {
            assert_eq!(loose(tight), None, "{tight}");
        }
        for wide in ["a", "^a", "a$", "^a|b$", r"^a\$", "^a$|b"] {
            assert!(loose(wide).is_some(), "{wide}");
        }
    }

    #[test]
    fn a_template_fits_what_it_may_come_to() {
        assert!(fits("team-${team}", "team-payments"));
        assert!(fits("${a}-x-${b}", "1-x-2"));
        assert!(!fits("team-${team}", "Payments"));
        assert!(!fits("${a}-x-${b}", "1-y-2"));
        assert!(!fits("a${x}a", "a"), "the front and the end are no one text");
    }
}
