//! The grammar of RFC 8259 over bytes already known to be UTF-8: finds where a value ends without building it.
//!
//! Every function takes what is left of the text and returns what is left behind the thing it is named after. Nesting
//! is kept as one bit per level, so that 10⁵ brackets cost bytes and not stack.

/// What breaks the grammar, and how many bytes were left there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: &'static str,
    pub(crate) left: usize,
}

impl Fault {
    pub(crate) fn new(what: &'static str, rest: &[u8]) -> Self {
        Self { what, left: rest.len() }
    }
}

pub(crate) type Scan<'a> = Result<&'a [u8], Fault>;

/// Checks that `text` is one value with white space around it and tells its depth (0 for a scalar).
pub(crate) fn document(text: &[u8]) -> Result<usize, Fault> {
    let (rest, depth) = value(text)?;
    match skip_space(rest) {
        [] => Ok(depth),
        rest => Err(Fault::new("text behind the value", rest)),
    }
}

/// What is left behind one value, and the value's depth. White space before it is skipped.
pub(crate) fn value(text: &[u8]) -> Result<(&[u8], usize), Fault> {
    let mut nesting = Nesting::default();
    let mut rest = text;
    loop {
        // Here a value has to begin. An opening bracket is followed by a further value, unless it closes at once.
        rest = match skip_space(rest) {
            [b'{', tail @ ..] => {
                nesting.push(Bracket::Object);
                match skip_space(tail) {
                    tail @ [b'}', ..] => tail,
                    tail => {
                        rest = key(tail)?;
                        continue;
                    }
                }
            }
            [b'[', tail @ ..] => {
                nesting.push(Bracket::Array);
                match skip_space(tail) {
                    tail @ [b']', ..] => tail,
                    tail => {
                        rest = tail;
                        continue;
                    }
                }
            }
            text => scalar(text)?,
        };
        // Here a value has ended, or a bracket may close; that may end the values around it too.
        loop {
            let Some(bracket) = nesting.top() else {
                return Ok((rest, nesting.deepest));
            };
            rest = skip_space(rest);
            match (bracket, rest) {
                (Bracket::Array, [b']', tail @ ..]) | (Bracket::Object, [b'}', tail @ ..]) => {
                    nesting.pop();
                    rest = tail;
                }
                (Bracket::Array, [b',', tail @ ..]) => {
                    rest = tail;
                    break;
                }
                (Bracket::Object, [b',', tail @ ..]) => {
                    rest = key(skip_space(tail))?;
                    break;
                }
                _ => return Err(Fault::new("neither ',' nor the end of the array or object", rest)),
            }
        }
    }
}

/// White space before the next token.
pub(crate) fn skip_space(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let [b' ' | b'\t' | b'\n' | b'\r', tail @ ..] = rest {
        rest = tail;
    }
    rest
}

/// A key and its colon.
fn key(text: &[u8]) -> Scan<'_> {
    match skip_space(string(text)?) {
        [b':', tail @ ..] => Ok(tail),
        rest => Err(Fault::new("no ':' behind a key", rest)),
    }
}

fn scalar(text: &[u8]) -> Scan<'_> {
    match text {
        [b'"', ..] => string(text),
        [b'-' | b'0'..=b'9', ..] => number(text),
        [b't', b'r', b'u', b'e', tail @ ..] => Ok(tail),
        [b'f', b'a', b'l', b's', b'e', tail @ ..] => Ok(tail),
        [b'n', b'u', b'l', b'l', tail @ ..] => Ok(tail),
        _ => Err(Fault::new("not a value", text)),
    }
}

/// A string with both quotes.
pub(crate) fn string(text: &[u8]) -> Scan<'_> {
    let [b'"', rest @ ..] = text else {
        return Err(Fault::new("not a string", text));
    };
    let mut rest = rest;
    loop {
        let run = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
        rest = run.and_then(|run| rest.get(run..)).unwrap_or_default();
        match rest {
            [b'"', tail @ ..] => return Ok(tail),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', tail @ ..] => rest = tail,
            [b'\\', b'u', a, b, c, d, tail @ ..]
                if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
            {
                rest = tail;
            }
            [b'\\', ..] => return Err(Fault::new("unknown escape", rest)),
            [] => return Err(Fault::new("string without an end", rest)),
            _ => return Err(Fault::new("control character in a string", rest)),
        }
    }
}

/// A number; its value is not looked at.
pub(crate) fn number(text: &[u8]) -> Scan<'_> {
    let rest = match text {
        [b'-', tail @ ..] => tail,
        _ => text,
    };
    let mut rest = match rest {
        [b'0', tail @ ..] => tail,
        _ => digits(rest)?,
    };
    if let [b'.', tail @ ..] = rest {
        rest = digits(tail)?;
    }
    if let [b'e' | b'E', tail @ ..] = rest {
        rest = match tail {
            [b'+' | b'-', tail @ ..] => digits(tail)?,
            _ => digits(tail)?,
        };
    }
    Ok(rest)
}

/// At least one digit.
fn digits(text: &[u8]) -> Scan<'_> {
    let [b'0'..=b'9', rest @ ..] = text else {
        return Err(Fault::new("not a number", text));
    };
    let mut rest = rest;
    while let [b'0'..=b'9', tail @ ..] = rest {
        rest = tail;
    }
    Ok(rest)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Array,
    Object,
}

/// The open brackets, one bit each: the newest 64 in `top`, older ones in `below`.
#[derive(Default)]
struct Nesting {
    top: u64,
    below: Vec<u64>,
    depth: usize,
    deepest: usize,
}

impl Nesting {
    fn push(&mut self, bracket: Bracket) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.below.push(self.top);
        }
        self.top = self.top << 1 | u64::from(bracket == Bracket::Object);
        self.depth = self.depth.saturating_add(1);
        self.deepest = self.deepest.max(self.depth);
    }

    fn pop(&mut self) {
        self.top >>= 1;
        self.depth = self.depth.saturating_sub(1);
        if self.depth.is_multiple_of(64) {
            self.top = self.below.pop().unwrap_or_default();
        }
    }

    fn top(&self) -> Option<Bracket> {
        match (self.depth, self.top & 1) {
            (0, _) => None,
            (_, 0) => Some(Bracket::Array),
            _ => Some(Bracket::Object),
        }
    }
}
