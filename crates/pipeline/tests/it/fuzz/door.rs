//! A reader of a stranger's bytes: what it is tried with, and what must hold of its answers.

pub struct Door {
    pub name: &'static str,
    pub samples: fn() -> Vec<Vec<u8>>,
    pub words: &'static [&'static [u8]],
    /// What came of an input, `read…` where it was read.
    pub look: fn(&[u8]) -> String,
}

pub fn texts(list: &[&str]) -> Vec<Vec<u8>> {
    list.iter().map(|text| text.as_bytes().to_vec()).collect()
}
