//! What differs between two texts, line by line, for the second of two editors.

/// Lines of a text beyond which only its beginning and end are compared.
const MOST: usize = 400;

/// One line, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Both(String),
    /// In the first text alone.
    Theirs(String),
    /// In the second text alone.
    Yours(String),
}

/// The lines of both texts, in an order in which each of them reads down.
pub fn difference(theirs: &str, yours: &str) -> Vec<Line> {
    let (one, other): (Vec<&str>, Vec<&str>) = (theirs.lines().collect(), yours.lines().collect());
    let same = |(one, other): &(&&str, &&str)| one.trim_end() == other.trim_end();
    let head = one.iter().zip(&other).take_while(same).count();
    let rest = one.len().min(other.len()) - head;
    let tail = one.iter().rev().zip(other.iter().rev()).take(rest).take_while(same).count();
    let middle = |lines: &[&str]| {
        lines.get(head..lines.len() - tail).unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<String>>()
    };
    let both = |lines: Option<&[&str]>| {
        lines.unwrap_or_default().iter().map(|line| Line::Both((*line).to_owned())).collect::<Vec<_>>()
    };
    let mut lines = both(other.get(..head));
    lines.extend(between(&middle(&one), &middle(&other)));
    lines.extend(both(other.get(other.len() - tail..)));
    lines
}

/// By the longest common subsequence, where the texts are short enough for its table.
fn between(one: &[String], other: &[String]) -> Vec<Line> {
    if one.len() > MOST || other.len() > MOST {
        let theirs = one.iter().cloned().map(Line::Theirs);
        return theirs.chain(other.iter().cloned().map(Line::Yours)).collect();
    }
    // How many lines the rests of both have in common, from each pair of places on.
    let mut common = vec![vec![0_usize; other.len() + 1]; one.len() + 1];
    let at = |common: &[Vec<usize>], i: usize, j: usize| common.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0);
    for (i, line) in one.iter().enumerate().rev() {
        for (j, candidate) in other.iter().enumerate().rev() {
            let length = match line.trim_end() == candidate.trim_end() {
                true => at(&common, i + 1, j + 1) + 1,
                false => at(&common, i + 1, j).max(at(&common, i, j + 1)),
            };
            if let Some(place) = common.get_mut(i).and_then(|row| row.get_mut(j)) {
                *place = length;
            }
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    loop {
        match (one.get(i), other.get(j)) {
            (Some(line), Some(candidate)) if line.trim_end() == candidate.trim_end() => {
                lines.push(Line::Both(candidate.clone()));
                (i, j) = (i + 1, j + 1);
            }
            (Some(line), candidate) if candidate.is_none() || at(&common, i + 1, j) >= at(&common, i, j + 1) => {
                lines.push(Line::Theirs(line.clone()));
                i += 1;
            }
            (_, Some(candidate)) => {
                lines.push(Line::Yours(candidate.clone()));
                j += 1;
            }
            _ => return lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(theirs: &str, yours: &str) -> String {
        let mark = |line: &Line| match line {
            Line::Both(text) => format!(" {text}"),
            Line::Theirs(text) => format!("-{text}"),
            Line::Yours(text) => format!("+{text}"),
        };
        difference(theirs, yours).iter().map(mark).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn lines_of_either_are_told_from_those_of_both() {
        for (theirs, yours, expected) in [
            ("a\nb\nc", "a\nb\nc", " a| b| c"),
            ("a\nb\nc", "a\nx\nc", " a|-b|+x| c"),
            ("a\nb", "a\r\nb\r", " a| b\r"),
            ("", "a", "+a"),
            ("a", "", "-a"),
            ("a\na\na", "a", " a|-a|-a"),
            ("k\na\nb\nc", "k\nb\nx\nc", " k|-a| b|+x| c"),
        ] {
            assert_eq!(shown(theirs, yours), expected, "{theirs:?} {yours:?}");
        }
        let (long, other) = ("x\n".repeat(500), "y\n".repeat(500));
        assert_eq!(difference(&long, &other).len(), 1000);
    }
}
