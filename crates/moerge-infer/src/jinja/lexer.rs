//! Splits a template into tokens. Whitespace control is as transformers configures it: `trim_blocks` and
//! `lstrip_blocks` are on, one final newline is dropped, and newlines are normalized.

use super::Fault;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Text(String),
    BlockStart,
    BlockEnd,
    VariableStart,
    VariableEnd,
    Name(String),
    Str(String),
    Int(i64),
    Float(f64),
    Op(&'static str),
}

const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

/// All tokens of `source`, each with its line.
pub fn tokens(source: &str) -> Result<Vec<(Token, usize)>, (Fault, usize)> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { rest: source, line: 1, line_starting: true, tokens: Vec::new() };
    match lexer.run() {
        Ok(()) => Ok(lexer.tokens),
        Err(fault) => Err((fault, lexer.line)),
    }
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    /// Whether the last token ended with a newline.
    line_starting: bool,
    tokens: Vec<(Token, usize)>,
}

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Result<(), Fault> {
        while !self.rest.is_empty() {
            let Some((start, kind)) = opening(self.rest) else {
                let text = self.take(self.rest.len());
                self.text(text);
                return Ok(());
            };
            let text = self.take(start);
            self.take(2);
            let sign = self.sign();
            let text = self.left_of(text, sign, kind);
            self.text(text);
            match kind {
                b'#' => self.comment()?,
                b'%' => self.block()?,
                _ => {
                    self.push(Token::VariableStart);
                    self.expression("}}", Token::VariableEnd)?;
                    self.line_starting = false;
                }
            }
        }
        Ok(())
    }

    /// The text before a tag, without the whitespace that the tag strips.
    fn left_of(&self, text: &'a str, sign: Option<char>, kind: u8) -> &'a str {
        match sign {
            Some('-') => text.trim_end(),
            None if kind != b'{' => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                let blank = text[line..].chars().all(char::is_whitespace);
                if (line > 0 || self.line_starting) && blank { &text[..line] } else { text }
            }
            _ => text,
        }
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let end = self.rest.find("#}").ok_or_else(|| Fault::template("a comment is not closed"))?;
        let body = self.take(end);
        self.take(2);
        self.right_of(body.chars().last());
        Ok(())
    }

    /// Strips the whitespace after `%}` or `#}`.
    fn right_of(&mut self, sign: Option<char>) {
        let removed = match sign {
            Some('-') => self.rest.len() - self.rest.trim_start().len(),
            Some('+') => 0,
            _ => usize::from(self.rest.starts_with('\n')),
        };
        let removed = self.take(removed);
        self.line_starting = removed.ends_with('\n');
    }

    fn block(&mut self) -> Result<(), Fault> {
        if let Some((body, behind)) = self.rest.trim_start().strip_prefix("raw").and_then(tag_end) {
            let skipped = self.rest.len() - body.len();
            self.take(skipped);
            self.right_of(behind);
            return self.raw();
        }
        self.push(Token::BlockStart);
        self.expression("%}", Token::BlockEnd)
    }

    fn raw(&mut self) -> Result<(), Fault> {
        let mut from = 0;
        while let Some(at) = self.rest[from..].find("{%").map(|at| at + from) {
            let inner = &self.rest[at + 2..];
            let sign = inner.chars().next().filter(|c| matches!(c, '-' | '+'));
            let name = inner[sign.map_or(0, char::len_utf8)..].trim_start();
            if let Some((after, behind)) = name.strip_prefix("endraw").and_then(tag_end) {
                let length = self.rest.len() - after.len();
                let text = self.left_of(&self.rest[..at], sign, b'%');
                self.text(text);
                self.take(length);
                self.right_of(behind);
                return Ok(());
            }
            from = at + 2;
        }
        Err(Fault::template("`raw` has no `endraw`"))
    }

    /// The tokens up to `end`, which only counts outside brackets.
    fn expression(&mut self, end: &str, token: Token) -> Result<(), Fault> {
        let mut open = Vec::new();
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            if open.is_empty() {
                for sign in ["-", "+", ""] {
                    let matched = self.rest.strip_prefix(sign).is_some_and(|rest| rest.starts_with(end));
                    if matched && (sign != "+" || end == "%}") {
                        self.take(sign.len() + end.len());
                        self.push(token);
                        if end == "%}" || sign == "-" {
                            self.right_of(sign.chars().next());
                        }
                        return Ok(());
                    }
                }
            }
            let Some(first) = self.rest.chars().next() else {
                return Err(Fault::template(format!("the template ends where `{end}` is expected")));
            };
            let token = match first {
                '"' | '\'' => self.string(first)?,
                c if c.is_ascii_digit() => self.number()?,
                c if c == '_' || c.is_alphabetic() => {
                    let length = self.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest.len());
                    Token::Name(self.take(length).to_owned())
                }
                other => {
                    let op = OPERATORS.into_iter().find(|op| self.rest.starts_with(op));
                    let op = op.ok_or_else(|| Fault::template(format!("unexpected character {other:?}")))?;
                    match op {
                        "(" | "[" | "{" => open.push(op),
                        ")" | "]" | "}" => {
                            let matching = match op {
                                ")" => "(",
                                "]" => "[",
                                _ => "{",
                            };
                            if open.pop() != Some(matching) {
                                return Err(Fault::template(format!("unexpected `{op}`")));
                            }
                        }
                        _ => {}
                    }
                    self.take(op.len());
                    Token::Op(op)
                }
            };
            self.push(token);
        }
    }

    fn string(&mut self, quote: char) -> Result<Token, Fault> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => {
                    let raw = self.take(at + 1);
                    return unescape(&raw[1..raw.len() - 1]).map(Token::Str);
                }
                _ => {}
            }
        }
        Err(Fault::template("a string is not closed"))
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let bytes = self.rest.as_bytes();
        let digits = |from: usize| {
            bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit() || **b == b'_').count()
        };
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            if self.rest.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
                let length =
                    self.rest[2..].find(|c: char| !c.is_digit(radix) && c != '_').unwrap_or(self.rest.len() - 2);
                let text = self.take(2 + length)[2..].replace('_', "");
                return i64::from_str_radix(&text, radix).map(Token::Int).map_err(|_| too_large(&text));
            }
        }
        let mut length = digits(0);
        let mut float = false;
        if bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
            length += 1 + digits(length + 1);
            float = true;
        }
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits(length + 1 + sign);
            if exponent > 0 {
                length += 1 + sign + exponent;
                float = true;
            }
        }
        let text = self.take(length).replace('_', "");
        if float {
            text.parse().map(Token::Float).map_err(|_| too_large(&text))
        } else {
            text.parse().map(Token::Int).map_err(|_| too_large(&text))
        }
    }

    fn sign(&mut self) -> Option<char> {
        let sign = self.rest.chars().next().filter(|c| matches!(c, '-' | '+'))?;
        self.take(1);
        Some(sign)
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.line_starting = text.ends_with('\n');
            self.push(Token::Text(text.to_owned()));
        }
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

/// Where the first tag of `text` starts, and the second character of its delimiter.
fn opening(text: &str) -> Option<(usize, u8)> {
    let pairs = text.as_bytes().windows(2).enumerate();
    pairs.filter(|(_, pair)| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#')).map(|(at, p)| (at, p[1])).next()
}

/// What follows the leading `%}` of `text`, and its whitespace sign.
fn tag_end(text: &str) -> Option<(&str, Option<char>)> {
    let text = text.trim_start();
    let sign = text.chars().next().filter(|c| matches!(c, '-' | '+'));
    Some((text[sign.map_or(0, char::len_utf8)..].strip_prefix("%}")?, sign))
}

fn too_large(text: &str) -> Fault {
    Fault::template(format!("the number {} is too large", moerge_core::suggest::shorten(text)))
}

/// A Python string literal's text.
fn unescape(raw: &str) -> Result<String, Fault> {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some(escape) = chars.next() else { break };
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let code: String = chars.by_ref().take(digits).collect();
            let found = u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits).and_then(char::from_u32);
            text.push(found.ok_or_else(|| Fault::template(format!("bad escape `\\{escape}{code}` in a string")))?);
            continue;
        }
        match escape {
            '\n' => {}
            '\\' | '\'' | '"' => text.push(escape),
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'a' => text.push('\x07'),
            'b' => text.push('\x08'),
            'f' => text.push('\x0c'),
            'v' => text.push('\x0b'),
            '0'..='7' => {
                let mut code = escape.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = chars.clone().next().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    chars.next();
                }
                text.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            other => text.extend(['\\', other]),
        }
    }
    Ok(text)
}
