//! Numbers of JSON as they are written, digit by digit.
//!
//! serde_json keeps a number that 64 bits cannot hold as a float: `100000000000000000001` and `…002` become one value, and two
//! people one user. So before a text is parsed, such a number is put into an object of one member that keeps its text. Where
//! that is not expected, it is an object, which no rule takes for a value.
//!
//! ```text
//! {"sub": "a", "employee": 100000000000000000001}
//! {"sub": "a", "employee": {"\u0001number": "100000000000000000001"}}
//! ```

use std::borrow::Cow;

use serde_json::Value;

/// The name of the member, as JSON writes it and as it is.
const WRITTEN: &str = "\\u0001number";
const NAME: &str = "\u{1}number";

/// How many such numbers of a text are kept: an object takes a hundred times the memory of two digits. Those after them are
/// empty objects, which are no value of any claim.
const MOST: usize = 1000;

/// The text with every number kept that is not a plain whole number of 64 bits. What is not JSON is not JSON afterwards either.
pub fn kept(json: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::new();
    let (mut rest, mut copied, mut count) = (json, 0, 0);
    while let Some((first, after)) = rest.split_first() {
        match first {
            b'"' => rest = after_string(after),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                let length = rest.iter().take_while(is_part).count();
                let (number, after) = rest.split_at(length);
                let start = json.len() - rest.len();
                rest = after;
                let Some(text) = std::str::from_utf8(number).ok().filter(|text| is_number(text) && !is_plain(text))
                else {
                    continue;
                };
                count += 1;
                out.extend_from_slice(json.get(copied..start).unwrap_or_default());
                match count > MOST {
                    true => out.extend_from_slice(b"{}"),
                    false => out.extend_from_slice(format!("{{\"{WRITTEN}\":\"{text}\"}}").as_bytes()),
                }
                copied = start + length;
            }
            _ => rest = after,
        }
    }
    if count == 0 {
        return Cow::Borrowed(json);
    }
    out.extend_from_slice(json.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// The text of a number, as it was written.
pub fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Object(members) if members.len() == 1 => {
            // A text that held this very member is a number that was written in a long way.
            members.get(NAME)?.as_str().filter(|text| is_number(text)).map(Cow::Borrowed)
        }
        _ => None,
    }
}

/// Whether a number has neither a fraction nor an exponent.
pub fn is_whole(text: &str) -> bool {
    !text.contains(['.', 'e', 'E'])
}

/// After the closing quotation mark.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let (ends, escaped) = (rest.get(at) == Some(&b'"'), rest.get(at + 2..));
        match ends {
            true => return rest.get(at + 1..).unwrap_or_default(),
            false => rest = escaped.unwrap_or_default(),
        }
    }
    &[]
}

/// A whole number of 64 bits that is written in the one way in which serde_json writes it again.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let in_range = text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok();
    in_range && text != "-0" && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 8259 section 6.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &str| digits(text.strip_prefix(['+', '-']).unwrap_or(text));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Vec<String> {
        let kept = kept(json.as_bytes());
        let values: Vec<Value> = serde_json::from_slice(&kept).unwrap();
        values.iter().map(|value| text(value).map_or_else(|| format!("{value}?"), Cow::into_owned)).collect()
    }

    #[test]
    fn a_number_is_its_text() {
        let numbers = [
            "0",
            "-0",
            "1",
            "-1",
            "1.0",
            "1.50",
            "-0.0",
            "1e20",
            "1E+20",
            "1e-20",
            "0e0",
            "1e999",
            "-1e-999",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775808",
            "-9223372036854775809",
            "100000000000000000001",
            "100000000000000000002",
        ];
        let json = format!("[{}]", numbers.join(" ,\n"));
        assert_eq!(read(&json), numbers);
    }

    #[test]
    fn what_is_no_number_stays() {
        for same in [
            r#"["1e20", "\"", "\\", "-0\\\" 1.0", 7, true, null, {"1.0": 2}]"#,
            "[01]",
            "[1.]",
            "[.5]",
            "[+1]",
            "[1e]",
            "[-]",
            "[1.0.0]",
            "[1-1]",
            "[0x10]",
            "",
            "\"",
            "\"\\",
            "1",
        ] {
            assert_eq!(kept(same.as_bytes()), same.as_bytes(), "{same}");
        }
        assert_eq!(text(&serde_json::json!({ NAME: "admins" })), None);
        assert_eq!(text(&serde_json::json!({ NAME: "1.0", "x": 1 })), None);
        assert_eq!(text(&serde_json::json!("1.0")), None);
    }

    #[test]
    fn they_are_bounded() {
        let many = |count: usize| format!("[{}]", vec!["-0"; count].join(","));
        let (last, after) = (read(&many(MOST)), read(&many(MOST + 2)));
        assert_eq!((last.len(), last[MOST - 1].as_str()), (MOST, "-0"));
        assert_eq!((after.len(), after[MOST - 1].as_str(), after[MOST].as_str()), (MOST + 2, "-0", "{}?"));
    }
}
