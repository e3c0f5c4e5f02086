//! Patterns: one word that stands for several specs. `popen*4` is four times `popen`; `ssh=web[01-12]` is a spec for each of twelve
//! hosts.

/// How many specs one word may stand for.
const MOST: usize = 10_000;

/// The specs, or names, that a word stands for, in order.
///
/// * `*N` at the end of the word, or of the part before the first `//`: each so often.
/// * `[...]` in the part before the first `//`, with a comma or a range in it: one for each of the parts between the commas. `A-B` is
///   each number from A to B; a leading zero keeps the width. Brackets with anything else in them are as they are.
pub(crate) fn expand(word: &str) -> Result<Vec<String>, String> {
    let (word, count) = counted(word)?;
    let (first, rest) = match word.find("//") {
        Some(end) => word.split_at(end),
        None => (word.as_str(), ""),
    };
    let mut expanded = vec![String::new()];
    for piece in pieces(first)? {
        let alternatives = match piece {
            Piece::Text(text) => vec![text.to_owned()],
            Piece::OneOf(alternatives) => alternatives,
        };
        if expanded.len().saturating_mul(alternatives.len()).saturating_mul(count) > MOST {
            return Err(format!("`{word}` stands for more than {MOST} workers"));
        }
        expanded = expanded
            .iter()
            .flat_map(|begin| alternatives.iter().map(move |end| format!("{begin}{end}")))
            .collect();
    }
    Ok(expanded.iter().flat_map(|first| std::iter::repeat_n(format!("{first}{rest}"), count)).collect())
}

/// The word without its count.
fn counted(word: &str) -> Result<(String, usize), String> {
    let end = word.find("//").unwrap_or(word.len());
    for end in [word.len(), end] {
        let Some((before, digits)) = word[..end].rsplit_once('*') else { continue };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        return match digits.parse() {
            Ok(count @ 1..=MOST) => Ok((format!("{before}{}", &word[end..]), count)),
            _ => Err(format!("`*{digits}` in `{word}`: a count is a number from 1 to {MOST}")),
        };
    }
    Ok((word.to_owned(), 1))
}

enum Piece<'a> {
    Text(&'a str),
    OneOf(Vec<String>),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let Some(length) = rest[open..].find(']') else { break };
        let (before, inner) = (&rest[..open], &rest[open + 1..open + length]);
        match alternatives(inner)? {
            Some(found) => pieces.extend([Piece::Text(before), Piece::OneOf(found)]),
            None => pieces.push(Piece::Text(&rest[..=open + length])),
        }
        rest = &rest[open + length + 1..];
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// What brackets stand for, if they are a pattern.
fn alternatives(inner: &str) -> Result<Option<Vec<String>>, String> {
    let is_word = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let parts: Vec<&str> = inner.split(',').collect();
    if !parts.iter().all(|part| is_word(part)) || (parts.len() == 1 && range(inner).is_none()) {
        return Ok(None);
    }
    let mut found = Vec::new();
    for part in parts {
        let Some((low, high, width)) = range(part) else {
            found.push(part.to_owned());
            continue;
        };
        match (low.parse::<usize>(), high.parse::<usize>()) {
            (Ok(low), Ok(high)) if low <= high && high - low < MOST => {
                found.extend((low..=high).map(|number| format!("{number:0width$}")));
            }
            _ => return Err(format!("`[{inner}]`: a range goes from a number to a larger one")),
        }
    }
    Ok(Some(found))
}

/// The two numbers of a range, and how wide they are written.
fn range(part: &str) -> Option<(&str, &str, usize)> {
    let (low, high) = part.split_once('-')?;
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let width = if low.starts_with('0') { low.len() } else { 0 };
    (are_digits(low) && are_digits(high)).then_some((low, high, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(word: &str) -> Vec<String> {
        expand(word).unwrap()
    }

    #[test]
    fn counts_and_ranges() {
        assert_eq!(expanded("popen"), ["popen"]);
        assert_eq!(expanded("popen*2"), ["popen", "popen"]);
        assert_eq!(expanded("popen*2//python=python3"), ["popen//python=python3"; 2]);
        assert_eq!(expanded("popen//python=python3*2"), ["popen//python=python3"; 2]);
        assert_eq!(expanded("ssh=web[09-11]"), ["ssh=web09", "ssh=web10", "ssh=web11"]);
        assert_eq!(expanded("ssh=w[9-10].example*2//nice=1").len(), 4);
        assert_eq!(expanded("ssh=[a,b-2,3-4]x"), ["ssh=ax", "ssh=b-2x", "ssh=3x", "ssh=4x"]);
        assert_eq!(expanded("rack[1-2]n[1-2]"), ["rack1n1", "rack1n2", "rack2n1", "rack2n2"]);
    }

    #[test]
    fn what_is_no_pattern_stays() {
        for word in
            ["socket=[::1]:8888", "popen//python=sh -c 'a[1-2]'", "x[", "x[]", "x[5]", "a*b", "popen*"]
        {
            assert_eq!(expanded(word), [word]);
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert!(expand("popen*0").unwrap_err().contains("a number from 1"));
        assert!(expand("popen*99999999999999999999").unwrap_err().contains("a number from 1"));
        assert!(expand("w[5-2]").unwrap_err().contains("to a larger one"));
        assert!(expand("w[1-9999]x[1-9999]").unwrap_err().contains("more than"));
    }
}
