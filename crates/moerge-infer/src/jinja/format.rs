//! Python's string formatting: `'%s' % value` and `'{}'.format(value)`.

mod braces;
mod percent;
mod spec;

use super::{
    Fault,
    meter::Meter,
    value::{Value, escape_char},
};

pub use braces::braces;
pub use percent::percent;

type Run<T> = Result<T, Fault>;

/// Python's `ascii`, of a `repr`.
fn ascii(repr: &str, meter: &Meter<'_>) -> Run<String> {
    meter.fits(10 * repr.len())?;
    let mut out = String::with_capacity(repr.len());
    for c in repr.chars() {
        if c.is_ascii() { out.push(c) } else { escape_char(c, &mut out) }
    }
    Ok(out)
}

/// The character that the type `c` prints: a string of one character, or a code point.
fn character(value: &Value) -> Run<char> {
    let of_text = value.as_str().and_then(|text| {
        let mut chars = text.chars();
        chars.next().filter(|_| chars.next().is_none())
    });
    let of_number = || char::from_u32(u32::try_from(value.as_int()?).ok()?);
    of_text.or_else(of_number).ok_or_else(|| value.refuse("written as one character"))
}
