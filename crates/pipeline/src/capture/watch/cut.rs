//! Text in UTF-8 as readers see it that cut each unit of UTF-16 to its lower byte: Node does so where it makes bytes of a text.

/// Reads a text in pieces.
#[derive(Debug, Default, Clone)]
pub struct Cut {
    letter: u32,
    /// Bytes of the letter that are still to come.
    missing: u8,
}

impl Cut {
    /// Whether a text has a letter that loses something by it: one from U+0100.
    pub fn is_needed(text: &[u8]) -> bool {
        text.iter().any(|byte| matches!(byte, 0xc4..=0xf4))
    }

    /// The bytes of the letters that end in the next piece.
    pub fn read(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut cut = Vec::with_capacity(piece.len());
        for byte in piece {
            match (*byte, self.missing) {
                (0..=0x7f, _) => {
                    self.missing = 0;
                    cut.push(*byte);
                }
                (0x80..=0xbf, 0) => cut.push(*byte),
                (0x80..=0xbf, _) => {
                    self.letter = self.letter << 6 | u32::from(byte & 0x3f);
                    self.missing -= 1;
                    if self.missing == 0 {
                        self.ended(&mut cut);
                    }
                }
                (0xc0..=0xdf, _) => (self.letter, self.missing) = (u32::from(byte & 0x1f), 1),
                (0xe0..=0xef, _) => (self.letter, self.missing) = (u32::from(byte & 0x0f), 2),
                (0xf0..=0xff, _) => (self.letter, self.missing) = (u32::from(byte & 0x07), 3),
            }
        }
        cut
    }

    fn ended(&self, cut: &mut Vec<u8>) {
        let mut units = [0; 2];
        let units: &[u16] = match char::from_u32(self.letter) {
            Some(letter) => letter.encode_utf16(&mut units),
            // A surrogate, as some writers leave it.
            None => &[u16::try_from(self.letter & 0xffff).unwrap_or_default()],
        };
        cut.extend(units.iter().map(|unit| unit.to_le_bytes()[0]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_cut_to_their_lower_byte_however_they_come() {
        for (text, expected) in [
            ("eyJ", &b"eyJ"[..]),
            ("\u{165}\u{2179}\u{4e4a}", b"eyJ"),
            ("\u{e9}a\u{ff}", b"\xe9a\xff"),
            // D83D DE41 in UTF-16.
            ("a\u{1f641}b", b"a\x3d\x41b"),
        ] {
            for size in 1..=text.len() {
                let mut cut = Cut::default();
                let found: Vec<u8> = text.as_bytes().chunks(size).flat_map(|piece| cut.read(piece)).collect();
                assert_eq!(found, expected, "{text} by {size}");
            }
        }
    }
}
