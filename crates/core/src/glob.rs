//! Patterns with wildcards, as configurations and the server API write them.

use regex::Regex;

/// A pattern for whole texts: `*` stands for any characters, `?` for one, `[ab]`, `[a-z]`, `[!ab]` for one of a set,
/// `{one,two}` for one of several, and a backslash takes the next character literally. Matching takes time in
/// proportion to the text, whatever the pattern.
#[derive(Debug, Clone)]
pub struct Glob(Regex);

impl Glob {
    /// Reads a pattern; `None` if it is not one.
    pub fn parse(pattern: &str) -> Option<Self> {
        let regex = as_regex(pattern)?;
        Regex::new(&regex).ok().map(Self)
    }

    /// Reads a pattern that may be left out: an empty one stands for every text.
    pub fn parse_or_all(pattern: &str) -> Option<Self> {
        Self::parse(if pattern.is_empty() { "*" } else { pattern })
    }

    /// Whether it stands for this text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn as_regex(glob: &str) -> Option<String> {
    let mut out = String::from(r"(?s)\A");
    let mut alternatives = 0_u32;
    let mut chars = glob.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => push_set(&mut chars, &mut out)?,
            '{' => {
                alternatives += 1;
                out.push_str("(?:");
            }
            ',' if alternatives > 0 => out.push('|'),
            '}' => {
                alternatives = alternatives.checked_sub(1)?;
                out.push(')');
            }
            '\\' => out.push_str(&regex::escape(chars.next()?.encode_utf8(&mut [0; 4]))),
            literal => out.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push_str(r"\z");
    (alternatives == 0).then_some(out)
}

/// Translates what follows a `[` up to its `]`.
fn push_set(chars: &mut std::str::Chars<'_>, out: &mut String) -> Option<()> {
    out.push('[');
    let mut empty = true;
    loop {
        match chars.next()? {
            ']' if !empty => break,
            '!' if empty && !out.ends_with('^') => {
                out.push('^');
                continue;
            }
            '-' if !empty => out.push('-'),
            '\\' => out.push_str(&regex::escape(chars.next()?.encode_utf8(&mut [0; 4]))),
            literal => out.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4]))),
        }
        empty = false;
    }
    out.push(']');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_sets_and_alternatives() {
        for (pattern, text, matches) in [
            ("news", "news", true),
            ("news", "newspaper", false),
            ("news*", "newspaper", true),
            ("*", "", true),
            ("?", "é", true),
            ("?", "", false),
            ("a*c", "a\nc", true),
            ("chat:[0-9]", "chat:7", true),
            ("chat:[!0-9]", "chat:7", false),
            ("{one,two}:*", "two:x", true),
            ("{one,two}:*", "three:x", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            ("a.c", "abc", false),
            ("a,b", "a,b", true),
            ("$user#1", "$user#1", true),
        ] {
            assert_eq!(Glob::parse(pattern).unwrap().matches(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for pattern in ["[a", "{a", "a}", "a\\", "[z-a]", "[]"] {
            assert!(Glob::parse(pattern).is_none(), "{pattern}");
        }
    }
}
