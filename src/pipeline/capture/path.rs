//! A path as the laxest app would read it. The configuration compares callbacks by it, and the proxy finds them by it: were
//! these two readings, a path could be one callback to the first and another to the second.

/// How often a path may be escaped. Each round shortens it, and nobody sends more than two.
pub const MAX_DEPTH: usize = 4;

/// The normal form of a configured path: every escape undone, backslash for slash, cut at `#` and `?`. Two paths of one form
/// may be one to the app.
pub fn normal_form(path: &str) -> String {
    let mut text = path.as_bytes().to_vec();
    for _ in 0..MAX_DEPTH {
        text = percent_encoding::percent_decode(&text).collect();
    }
    reading(&text, true, true)
}

/// The normal form of one reading of a path: without case, empty segments, dot segments, parameters after `;`, and what some
/// readers drop at the end of a segment.
pub fn reading(text: &[u8], backslash_is_slash: bool, cut: bool) -> String {
    let end = if cut { text.iter().position(|b| matches!(b, b'#' | b'?')).unwrap_or(text.len()) } else { text.len() };
    let lossy = String::from_utf8_lossy(text.get(..end).unwrap_or_default());
    let folded: String = lossy.chars().filter(|c| !c.is_control()).flat_map(fold).collect();
    let mut normal = String::with_capacity(folded.len() + 1);
    for segment in folded.split(|c| c == '/' || (backslash_is_slash && c == '\\')) {
        let name = segment.split(';').next().unwrap_or_default();
        if name == ".." {
            normal.truncate(normal.rfind('/').unwrap_or_default());
            continue;
        }
        // Drops empty segments and single dots with the trailing ones.
        let name = name.trim_end_matches(['.', ' ']);
        if !name.is_empty() {
            normal.push('/');
            normal.push_str(name);
        }
    }
    if normal.is_empty() {
        normal.push('/');
    }
    normal
}

/// Lower case, and what some comparison or normalization takes for an ASCII letter: full-width forms (NFKC), the dotless and
/// dotted i, the long s and the Kelvin sign (simple case folding).
fn fold(c: char) -> impl Iterator<Item = char> {
    let narrow = match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        'ı' | 'İ' => 'i',
        'ſ' => 's',
        '\u{212a}' => 'k',
        _ => c,
    };
    narrow.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_compare_as_the_laxest_app_would_read_them() {
        for path in [
            "/saml/acs",
            "/SAML//acs",
            "/saml/%61cs",
            "/saml/x/../acs",
            "/saml;v=1/acs/",
            "/saml%2facs",
            "/saml%252facs",
            "/\u{ff53}aml/acs",
        ] {
            assert_eq!(normal_form(path), "/saml/acs", "{path}");
        }
        assert_ne!(normal_form("/saml/acs2"), normal_form("/saml/acs"));
    }
}
