//! Inputs that are made of others.

/// Bytes of an input at the most.
const LONGEST: usize = 48 * 1024;

/// A sequence that its seed decides (xorshift64*, Vigna 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap() % bound
    }

    fn of<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.below(list.len())]
    }
}

/// Bytes at which readers turn.
const TURNS: &[u8] = b"\0\t\n\r \"#%&'()*+,-./:;<=>?@[\\]^_`{|}~\x7f\x80\xbf\xc0\xe2\xef\xf0\xfe\xff";

pub struct Mutator<'w> {
    pub random: Random,
    /// What a door's readers know.
    pub words: &'w [&'w [u8]],
}

impl Mutator<'_> {
    /// Another input. Half of them are made of the samples that were `given`, which stand first: of those that were found, most
    /// are broken already.
    pub fn next(&mut self, samples: &[Vec<u8>], given: usize) -> Vec<u8> {
        let pool = if self.random.below(2) == 0 { &samples[..given] } else { samples };
        let mut input = self.random.of(pool).clone();
        for _ in 0..=self.random.below(6) {
            self.change(&mut input, samples);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let random = &mut self.random;
        let at = random.below(input.len() + 1);
        let end = (at + random.below(40)).min(input.len());
        let far = random.below(input.len() + 1);
        match random.below(11) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = *random.of(TURNS),
            2 => drop(input.drain(at..end)),
            3 => {
                let piece = input[at..end].to_vec();
                drop(input.splice(far..far, piece));
            }
            4 | 5 => {
                let word = *random.of(self.words);
                let end = if random.below(2) == 0 { at } else { end };
                drop(input.splice(at..end, word.iter().copied()));
            }
            6 => {
                let other = random.of(samples);
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 => input.truncate(at),
            8 => {
                // The same many times over: depth, and length.
                let piece = input[at..end].to_vec();
                let many = piece.repeat(random.below(200));
                drop(input.splice(far..far, many));
            }
            9 => input.insert(at, *random.of(TURNS)),
            _ => {
                let byte = u8::try_from(random.below(256)).unwrap();
                input.insert(at, byte);
            }
        }
    }
}
