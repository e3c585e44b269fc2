//! What the tests of this crate share.

use tidewire_delta::{Limits, apply, create};

/// Enough for every target of a test.
pub(crate) const LIMITS: Limits = Limits { target_bytes_max: 1 << 24 };

/// The patch from `source` to `target`, checked to lead there.
pub(crate) fn patch(source: &[u8], target: &[u8]) -> Vec<u8> {
    let mut patch = Vec::new();
    create(source, target, &mut patch);
    let applied = apply(source, &patch, LIMITS);
    assert!(applied.as_deref() == Ok(target), "{:?} of {:?}", applied, String::from_utf8_lossy(&patch));
    patch
}

/// A JSON payload of about `bytes` bytes: a table of rows, as a price feed sends it. Another `seed`, other values.
pub(crate) fn table(bytes: usize, seed: u64) -> String {
    let mut text = String::from(r#"{"version":1700000000123,"rows":["#);
    let mut state = seed | 1;
    for row in 1000.. {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (symbol, price, cents) = (state >> 40 & 1023, state >> 50, state >> 30 & 63);
        text += &format!(r#"{{"id":{row},"symbol":"SYM{symbol}","price":{price}.{cents:02},"open":true}}"#);
        if text.len() + 2 >= bytes {
            break;
        }
        text.push(',');
    }
    text + "]}"
}

/// `text` with the value of `field` replaced by `value`, in the row `row`.
pub(crate) fn with_value(text: &str, row: usize, field: &str, value: &str) -> String {
    let name = format!("\"{field}\":");
    let (at, _) = text.match_indices(&name).nth(row).expect("the row has the field");
    let begin = at + name.len();
    let end = begin + text[begin..].find([',', '}']).expect("the value ends");
    format!("{}{value}{}", &text[..begin], &text[end..])
}
