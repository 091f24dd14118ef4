//! Distinguished names (RFC 4514) reduced to what people call the group: `CN=Sales\, EMEA,OU=Groups,DC=example` to
//! `Sales, EMEA`.
//!
//! A name is never torn: a comma in it separates its own parts and not values of the claim, and an escaped character
//! separates nothing at all.

use super::split::Delimiter;

/// The pieces of one value, each reduced where it is a distinguished name. What is none, or has no single first value,
/// stays whole.
pub fn pieces(value: &str, delimiter: Option<&Delimiter>) -> Vec<String> {
    let reduced = |piece: &str| first_value(piece).unwrap_or_else(|| piece.to_owned());
    let Some(delimiter) = delimiter.map(Delimiter::as_str).filter(|delimiter| !delimiter.is_empty()) else {
        return vec![reduced(value)];
    };
    if delimiter.contains([',', '+', '=']) && is_name(value) {
        return vec![reduced(value)];
    }
    let pieces = split(value, delimiter).into_iter().map(str::trim);
    pieces.filter(|piece| !piece.is_empty()).map(reduced).collect()
}

/// Splits where the delimiter is neither escaped nor between quotes that a value begins with.
fn split<'v>(value: &'v str, delimiter: &str) -> Vec<&'v str> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    let (mut quoted, mut begins) = (false, false);
    while let Some(rest) = value.get(at..)
        && let Some(letter) = rest.chars().next()
    {
        if !quoted && rest.starts_with(delimiter) {
            pieces.push(value.get(start..at).unwrap_or_default());
            at += delimiter.len();
            (start, begins) = (at, false);
            continue;
        }
        at += letter.len_utf8();
        match letter {
            '\\' => at += value.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8),
            '"' if quoted || begins => quoted = !quoted,
            _ => {}
        }
        begins = letter == '=' || (begins && letter == ' ');
    }
    // A quote that never ends was none.
    if quoted {
        return value.split(delimiter).collect();
    }
    pieces.push(value.get(start..).unwrap_or_default());
    pieces
}

fn is_name(text: &str) -> bool {
    parse(text).is_some()
}

/// The value of the first RDN, unescaped. An RDN of several attributes is a set (RFC 4514 section 2.2), which has no first.
fn first_value(text: &str) -> Option<String> {
    let first = parse(text)?;
    first.value.filter(|value| first.single && !value.trim().is_empty())
}

/// What is at the front of a name.
struct First {
    /// `None`: not text (`#` and hexadecimal digits, RFC 4514 section 2.4).
    value: Option<String>,
    single: bool,
}

/// Reads a whole name, or nothing: text that only begins like one is none.
fn parse(text: &str) -> Option<First> {
    let mut rest = text;
    let mut first: Option<First> = None;
    loop {
        let (value, separator, after) = attribute(rest)?;
        let known = first.take();
        let joined = separator == Some('+');
        first = Some(known.unwrap_or(First { value, single: !joined }));
        match separator {
            None => return first,
            Some(_) => rest = after,
        }
    }
}

/// One `type=value`: the value, what ended it, and what follows.
fn attribute(text: &str) -> Option<(Option<String>, Option<char>, &str)> {
    let (kind, rest) = text.split_once('=')?;
    if !is_type(kind.trim_matches(' ')) {
        return None;
    }
    let rest = rest.trim_start_matches(' ');
    match rest.strip_prefix('"') {
        // RFC 2253 section 4: older software puts a value between quotes.
        Some(quoted) => quoted_value(quoted),
        None => plain_value(rest),
    }
}

/// `descr` or `numericoid` (RFC 4512 section 1.4).
fn is_type(text: &str) -> bool {
    let word = text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
    word || (text.contains('.') && text.split('.').all(digits))
}

fn quoted_value(text: &str) -> Option<(Option<String>, Option<char>, &str)> {
    let mut value = Vec::new();
    let mut rest = text;
    loop {
        let letter = rest.chars().next()?;
        rest = rest.get(letter.len_utf8()..)?;
        match letter {
            '"' => break,
            '\\' => rest = escaped(rest, &mut value)?,
            letter => push(letter, &mut value),
        }
    }
    let rest = rest.trim_start_matches(' ');
    let (separator, after) = match rest.chars().next() {
        None => (None, ""),
        Some(separator @ (',' | '+')) => (Some(separator), rest.get(1..)?),
        Some(_) => return None,
    };
    Some((Some(String::from_utf8(value).ok()?), separator, after))
}

fn plain_value(text: &str) -> Option<(Option<String>, Option<char>, &str)> {
    let mut value = Vec::new();
    // Spaces at the end count only where they are escaped.
    let mut kept = 0;
    let mut rest = text;
    let separator = loop {
        let Some(letter) = rest.chars().next() else { break None };
        rest = rest.get(letter.len_utf8()..)?;
        match letter {
            ',' | '+' => break Some(letter),
            '\\' => {
                rest = escaped(rest, &mut value)?;
                kept = value.len();
            }
            // RFC 4514 section 2.4: these stand in a value only behind a `\`.
            '"' | ';' | '<' | '>' | '\0' => return None,
            ' ' => value.push(b' '),
            letter => {
                push(letter, &mut value);
                kept = value.len();
            }
        }
    };
    value.truncate(kept);
    let is_hex = text.starts_with('#');
    let value = String::from_utf8(value).ok()?;
    Some(((!is_hex).then_some(value), separator, rest))
}

/// What follows a `\`: a special character, or two hexadecimal digits that are one byte of UTF-8 (RFC 4514 section 2.4).
fn escaped<'t>(text: &'t str, value: &mut Vec<u8>) -> Option<&'t str> {
    let letter = text.chars().next()?;
    if matches!(letter, ' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\') {
        push(letter, value);
        return text.get(1..);
    }
    let byte = u8::from_str_radix(text.get(..2).filter(|pair| !pair.starts_with('+'))?, 16).ok()?;
    value.push(byte);
    text.get(2..)
}

fn push(letter: char, value: &mut Vec<u8>) {
    value.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(value: &str, delimiter: &str) -> Vec<String> {
        pieces(value, Delimiter::parse(delimiter).ok().as_ref())
    }

    /// The examples of RFC 4514 section 4 are among them.
    #[test]
    fn a_name_is_reduced_to_its_first_value() {
        for (name, first) in [
            ("UID=jsmith,DC=example,DC=net", "jsmith"),
            ("CN=James \\\"Jim\\\" Smith\\, III,DC=example,DC=net", "James \"Jim\" Smith, III"),
            ("CN=Before\\0dAfter,DC=example,DC=net", "Before\rAfter"),
            ("CN=Lu\\C4\\8Di\\C4\\87", "Lučić"),
            ("CN=Engineering,OU=Groups,DC=example,DC=com", "Engineering"),
            ("cn = Engineering , ou = Groups", "Engineering"),
            ("CN=Sales\\, EMEA,OU=Groups", "Sales, EMEA"),
            ("CN=a\\2Cb,OU=c", "a,b"),
            ("CN=\\ a\\ ,OU=c", " a "),
            ("CN=\"Sales, EMEA\",OU=Groups", "Sales, EMEA"),
            ("2.5.4.3=Engineering,OU=Groups", "Engineering"),
            ("CN=x=y,OU=c", "x=y"),
            ("CN=Köln,OU=c", "Köln"),
        ] {
            assert_eq!(of(name, ""), [first], "{name}");
        }
    }

    /// A quote is one where a value begins, and nowhere else.
    #[test]
    fn a_delimiter_within_quotes_splits_nothing() {
        for (value, pieces) in [
            ("CN=\"a;b\",OU=c;CN=d", &["CN=\"a;b\",OU=c", "CN=d"][..]),
            ("CN= \"a;b\";CN=d", &["CN= \"a;b\"", "CN=d"]),
            ("CN=a\"b;CN=c\"d", &["CN=a\"b", "CN=c\"d"]),
            ("a\"b;c\"d", &["a\"b", "c\"d"]),
            ("CN=\"a;b", &["CN=\"a", "b"]),
            ("CN=a\\;b;CN=c", &["CN=a\\;b", "CN=c"]),
        ] {
            assert_eq!(split(value, ";"), pieces, "{value}");
        }
    }

    #[test]
    fn what_is_no_name_or_has_no_first_value_stays_whole() {
        for text in [
            "Engineering",
            "Sales, EMEA",
            "CN=a, and more",
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
            "1.3.6.1.4.1.1466.0=#04024869",
            "CN=,OU=c",
            "CN=\\20,OU=c",
            "CN=a\\",
            "CN=a\\zz",
            "CN=a\\+2,OU=\\+2;",
            "CN=\\FF,OU=c",
            "CN=\"a,OU=c",
            "CN=a;OU=b",
            "=a",
            "a b=c",
            "https://example.com/?a=b,c",
            "",
        ] {
            assert_eq!(of(text, ""), [text]);
        }
    }

    #[test]
    fn a_delimiter_never_tears_a_name() {
        assert_eq!(of("CN=a,OU=c;CN=b\\;d,OU=c; plain ;;", ";"), ["a", "b;d", "plain"]);
        assert_eq!(of("CN=a,OU=c|CN=b,OU=c", "|"), ["a", "b"]);
        assert_eq!(of("CN=a,OU=c", ","), ["a"]);
        assert_eq!(of("CN=\"a;b\",OU=c;CN=d", ";"), ["a;b", "d"]);
        // What is not a name is split as ever.
        assert_eq!(of("a, b", ","), ["a", "b"]);
        assert_eq!(of("5\" pipes;b", ";"), ["5\" pipes", "b"]);
        assert_eq!(of("x=\"a;b", ";"), ["x=\"a", "b"]);
    }

    proptest! {
        #[test]
        fn an_escaped_value_comes_back(value in "[^\\x00]{0,12}[^\\x00 ]", others in "[a-z]{1,5}") {
            let mut name = String::from("CN=");
            for letter in value.chars() {
                match letter {
                    ' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\' => name.extend(['\\', letter]),
                    letter => name.push(letter),
                }
            }
            let name = format!("{name},OU={others}");
            let expected = if value.trim().is_empty() { name.clone() } else { value };
            prop_assert_eq!(of(&name, ""), [expected]);
        }

        #[test]
        fn any_text_can_be_read(text in "([A-Z]=|[\\\\\",;+#= ]|\\PC){0,20}", delimiter in "[,;|+ ]{0,3}") {
            of(&text, &delimiter);
        }
    }
}
