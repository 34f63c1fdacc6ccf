//! Removes the token from everything that a server said before it is printed. A server may echo the request's headers,
//! whole or in part, percent-encoded, as JSON escapes, as hexadecimal digits or as base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use moerge_core::{error::Error, suggest::printable};

use super::settings::Token;

/// What is printed in place of the token.
const REPLACEMENT: &str = "[token]";
/// Shorter secrets are not tokens; replacing them would only garble messages.
const MIN_SECRET: usize = 4;
/// The beginning or the end of the token is removed from this length on.
const MIN_PART: usize = 8;

/// Removes one token.
pub(super) struct Redactor {
    forms: Vec<Form>,
}

/// A spelling of the token.
struct Form {
    bytes: Vec<u8>,
    ignores_case: bool,
}

impl Redactor {
    /// One that removes `token`, or nothing.
    pub fn new(token: Option<&Token>) -> Self {
        let secret = token.map(Token::secret).unwrap_or_default().as_bytes();
        if secret.len() < MIN_SECRET {
            return Self { forms: Vec::new() };
        }
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let mut forms = vec![
            Form { bytes: secret.to_vec(), ignores_case: true },
            Form { bytes: hex.into_bytes(), ignores_case: true },
        ];
        // Base64 of the token depends on its place within what was encoded, modulo 3.
        for before in 0..3 {
            let encoded = STANDARD.encode([vec![0; before], secret.to_vec()].concat());
            let first = (before * 8).div_ceil(6);
            let end = (before + secret.len()) * 8 / 6;
            let inner = encoded.get(first..end).unwrap_or_default();
            forms.push(Form { bytes: inner.as_bytes().to_vec(), ignores_case: false });
        }
        Self { forms }
    }

    /// `text` without the token, and with control characters escaped: fit to print.
    pub fn clean(&self, text: &str) -> String {
        printable(&self.redact(text))
    }

    /// An error with every part of it cleaned.
    pub fn clean_error(&self, error: Error) -> Error {
        if self.forms.is_empty() { error } else { error.map_words(|words| self.redact(words)) }
    }

    /// `text` without the token.
    pub fn redact(&self, text: &str) -> String {
        let bytes = text.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.forms.iter().filter_map(|form| form.match_at(bytes, at)).max() {
                Some(end) => {
                    out.extend(REPLACEMENT.as_bytes());
                    at = end;
                }
                None => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl Form {
    /// Where the token, its beginning or its end, ends in `text`, if it starts at `at`.
    fn match_at(&self, text: &[u8], at: usize) -> Option<usize> {
        let last_start = self.bytes.len().saturating_sub(MIN_PART);
        (0..=last_start).find_map(|from| self.match_from(text, at, from))
    }

    /// The same for the bytes of the token after `from`. From 0 on, a match may stop early.
    fn match_from(&self, text: &[u8], mut at: usize, from: usize) -> Option<usize> {
        for (matched, expected) in self.bytes.get(from..)?.iter().enumerate() {
            let Some((found, end)) = decoded(text, at).filter(|(found, _)| self.is_same(*found, *expected)) else {
                return (from == 0 && matched >= MIN_PART).then_some(at);
            };
            debug_assert!(found.is_ascii());
            at = end;
        }
        Some(at)
    }

    fn is_same(&self, found: u8, expected: u8) -> bool {
        if self.ignores_case {
            return found.eq_ignore_ascii_case(&expected);
        }
        // The URL-safe alphabet of base64 differs in two characters.
        found == expected || matches!((found, expected), (b'-', b'+') | (b'_', b'/'))
    }
}

/// The character at `at`, written as itself, `%41` (also encoded again: `%2541`), `\u0041`, `\x41` or `&#65;`, and
/// where it ends.
fn decoded(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = text.get(at..)?;
    let hex = |digits: Option<&[u8]>| u8::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok();
    if let Some(mut encoded) = rest.strip_prefix(b"%") {
        while let Some(again) = encoded.strip_prefix(b"25") {
            encoded = again;
        }
        if let Some(byte) = hex(encoded.get(..2)).filter(u8::is_ascii_graphic) {
            return Some((byte, text.len() - encoded.len() + 2));
        }
    }
    for (prefix, digits) in [(&b"\\u00"[..], 2), (b"\\x", 2)] {
        let number = rest.strip_prefix(prefix).and_then(|digits_on| hex(digits_on.get(..digits)));
        if let Some(byte) = number.filter(u8::is_ascii_graphic) {
            return Some((byte, at + prefix.len() + digits));
        }
    }
    if let Some(number) = rest.strip_prefix(b"&#") {
        let end = number.iter().take(5).position(|b| *b == b';');
        let digits = end.and_then(|end| std::str::from_utf8(number.get(..end)?).ok());
        let value = digits.and_then(|d| match d.strip_prefix(['x', 'X']) {
            Some(hex) => u8::from_str_radix(hex, 16).ok(),
            None => d.parse().ok(),
        });
        if let Some((byte, end)) = value.filter(u8::is_ascii_graphic).zip(end) {
            return Some((byte, at + 2 + end + 1));
        }
    }
    rest.first().filter(|b| b.is_ascii()).map(|byte| (*byte, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hf_ThisMust/Never+BeSeen";

    fn redactor() -> Redactor {
        Redactor::new(Token::new(SECRET, "HF_TOKEN").unwrap().as_ref())
    }

    #[track_caller]
    fn hidden(echo: &str) {
        let clean = redactor().clean(&format!("<{echo}>"));
        assert!(clean.starts_with('<') && clean.ends_with('>'), "{clean}");
        assert!(clean.contains(REPLACEMENT) && clean.len() < 30, "{echo} became {clean}");
    }

    #[test]
    fn attack_13_every_spelling_of_the_token_is_removed() {
        hidden(SECRET);
        hidden(&SECRET.to_uppercase());
        hidden(&format!("Bearer {SECRET}"));
        let percent = |text: &str, all: bool| -> String {
            text.chars()
                .map(|c| if all || !c.is_alphanumeric() { format!("%{:02x}", c as u32) } else { c.to_string() })
                .collect()
        };
        hidden(&percent(SECRET, false));
        hidden(&percent(SECRET, true));
        hidden(&percent(SECRET, true).replace('%', "%25"));
        hidden(&SECRET.chars().map(|c| format!("\\u{:04X}", c as u32)).collect::<String>());
        hidden(&SECRET.chars().map(|c| format!("&#{};", c as u32)).collect::<String>());
        hidden(&SECRET.bytes().map(|b| format!("{b:02X}")).collect::<String>());
        hidden(&SECRET[..12]);
        hidden(&SECRET[10..]);
    }

    #[test]
    fn base64_is_recognised_at_every_offset() {
        use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
        for before in ["", "u", "us", "user:"] {
            let text = format!("{before}{SECRET}");
            for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                let clean = redactor().clean(&encoded);
                assert!(clean.contains(REPLACEMENT) && clean.len() < 22, "{encoded} became {clean}");
            }
        }
    }

    #[test]
    fn other_words_stay() {
        let text = "Invalid credentials, 100% of hf_This ü %zz \\u00 &# &#;";
        assert_eq!(redactor().clean(text), text);
        assert_eq!(redactor().clean("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(Redactor::new(None).clean(SECRET), SECRET);
    }
}
