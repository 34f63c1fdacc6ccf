//! Filters that lay out text: indentation, line breaks, file sizes, HTML attributes.

use super::{
    Fault,
    arguments::{Args, Optional as _},
    meter::Meter,
    strings::lines,
    value::{Value, escape_html},
};

type Run<T> = Result<T, Fault>;

/// `indent`: indents every line but the first by `width` spaces, or by that string.
pub fn indent(value: &Value, args: Args, meter: &Meter<'_>) -> Run<Value> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
    let (first, blank) = (first.truth(), blank.truth());
    let indent = match &width {
        Some(Value::Str(indent)) => indent.to_string(),
        width => {
            let width = usize::try_from(width.int("a width")?.unwrap_or(4)).unwrap_or(0);
            meter.fits(width)?;
            " ".repeat(width)
        }
    };
    let text = format!("{}\n", value.print(meter)?);
    let lines = lines(&text, false);
    meter.fits(lines.len().saturating_mul(indent.len() + 1).saturating_add(text.len()))?;
    let mut out = if first { indent.clone() } else { String::new() };
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push('\n');
            out.push_str(if blank || !line.is_empty() { &indent } else { "" });
        }
        out.push_str(line);
    }
    Value::text_like(out, value.is_markup(), meter)
}

/// `wordwrap`: breaks lines at `width` characters as Python's `textwrap` does.
pub fn wordwrap(text: &str, args: Args, meter: &Meter<'_>) -> Run<Value> {
    let [width, break_long_words, wrapstring, break_on_hyphens] =
        args.bind("wordwrap", ["width", "break_long_words", "wrapstring", "break_on_hyphens"])?;
    let width = usize::try_from(width.int("a width")?.unwrap_or(79)).unwrap_or(0);
    if width == 0 {
        return Err(Fault::template("`wordwrap` needs a width above 0"));
    }
    let long = break_long_words.is_none() || break_long_words.truth();
    let hyphens = break_on_hyphens.is_none() || break_on_hyphens.truth();
    let newline = wrapstring.text("a line break")?.unwrap_or("\n").to_owned();
    meter.fits(text.len().saturating_mul(newline.len() + 1))?;
    meter.memory(text.len().saturating_mul(48))?;
    // Each line that a word fills processes the rest of the word again.
    let longest = text.split_whitespace().map(str::len).max().unwrap_or(0);
    meter.work(text.len().saturating_mul(longest / width + 1))?;
    let wrapped = lines(text, false).into_iter().map(|line| wrap_line(line, width, long, hyphens).join(&newline));
    Value::text(wrapped.collect::<Vec<_>>().join(&newline), meter)
}

/// Python's `textwrap.wrap` without expanding tabs or replacing whitespace.
fn wrap_line(line: &str, width: usize, break_long: bool, hyphens: bool) -> Vec<String> {
    let mut pieces = pieces(line, hyphens);
    pieces.reverse();
    let length = |text: &str| text.chars().count();
    let mut wrapped = Vec::new();
    while !pieces.is_empty() {
        let (mut current, mut used) = (Vec::new(), 0);
        if !wrapped.is_empty() && pieces.last().is_some_and(|piece| piece.trim().is_empty()) {
            pieces.pop();
        }
        while let Some(piece) = pieces.last().filter(|piece| used + length(piece) <= width) {
            used += length(piece);
            current.extend(pieces.pop());
        }
        if let Some(piece) = pieces.last().filter(|piece| length(piece) > width) {
            if break_long {
                let room = width.saturating_sub(used);
                let mut end = piece.char_indices().nth(room).map_or(piece.len(), |(at, _)| at);
                // Prefer to break a long word after a hyphen.
                if hyphens && let Some(at) = piece[..end].rfind('-').filter(|at| piece[..*at].contains(|c| c != '-')) {
                    end = at + 1;
                }
                let (head, tail) = (piece[..end].to_owned(), piece[end..].to_owned());
                pieces.pop();
                pieces.push(tail);
                current.push(head);
            } else if current.is_empty() {
                current.extend(pieces.pop());
            }
        }
        if current.last().is_some_and(|piece| piece.trim().is_empty()) {
            current.pop();
        }
        if !current.is_empty() {
            wrapped.push(current.concat());
        }
    }
    wrapped
}

/// Words and the whitespace between them. With `hyphens`, a word also ends after a hyphen between letters.
fn pieces(line: &str, hyphens: bool) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let chars: Vec<char> = line.chars().collect();
    let (mut piece, mut blank) = (String::new(), false);
    for (at, c) in chars.iter().copied().enumerate() {
        let hyphen =
            hyphens && at > 1 && chars[at - 1] == '-' && chars[at - 2].is_alphanumeric() && c.is_alphabetic() && !blank;
        if !piece.is_empty() && (c.is_whitespace() != blank || hyphen) {
            pieces.push(std::mem::take(&mut piece));
        }
        blank = c.is_whitespace();
        piece.push(c);
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// `truncate`: cuts a string at a word boundary.
pub fn truncate(value: &Value, args: Args, meter: &Meter<'_>) -> Run<Value> {
    let [length, killwords, end, leeway] = args.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let length = usize::try_from(length.int("a length")?.unwrap_or(255)).unwrap_or(0);
    let leeway = usize::try_from(leeway.int("a leeway")?.unwrap_or(5)).unwrap_or(0);
    let (text, end) = (value.print(meter)?, end.text("an ending")?.unwrap_or("...").to_owned());
    if text.chars().count() <= length.saturating_add(leeway) {
        return Value::text_like(text, value.is_markup(), meter);
    }
    let cut: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let cut = if killwords.truth() { &cut } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words) };
    Value::text_like(format!("{cut}{end}"), value.is_markup(), meter)
}

/// `filesizeformat`: `1.5 kB`.
pub fn file_size(value: &Value, args: Args, meter: &Meter<'_>) -> Run<Value> {
    let [binary] = args.bind("filesizeformat", ["binary"])?;
    let bytes = match value {
        Value::Str(text) => text.trim().parse().map_err(|_| value.refuse("a size"))?,
        value => value.as_float().ok_or_else(|| value.refuse("a size"))?,
    };
    let (base, infix) = if binary.truth() { (1024.0, "i") } else { (1000.0, "") };
    let text = if bytes == 1.0 {
        "1 Byte".to_owned()
    } else if bytes < base {
        format!("{} Bytes", bytes as i64)
    } else {
        let mut power = 1;
        while power < 8 && bytes >= base.powi(power + 1) {
            power += 1;
        }
        let prefix = ["k", "M", "G", "T", "P", "E", "Z", "Y"][power as usize - 1];
        let prefix = if infix.is_empty() { prefix.to_owned() } else { prefix.to_uppercase() };
        format!("{:.1} {prefix}{infix}B", bytes / base.powi(power))
    };
    Value::text(text, meter)
}

/// `xmlattr`: formats a dictionary as HTML attributes.
pub fn xml_attributes(value: &Value, args: Args, meter: &Meter<'_>) -> Run<Value> {
    let [autospace] = args.bind("xmlattr", ["autospace"])?;
    let Value::Dict(dict) = value else { return Err(value.refuse("written as attributes")) };
    let mut attributes = Vec::new();
    for (name, value) in &dict.entries {
        if matches!(value, Value::None | Value::Undefined(_)) {
            continue;
        }
        let name = name.print(meter)?;
        if name.contains(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>' | '=')) {
            return Err(Fault::template("`xmlattr` found a name that no attribute can have"));
        }
        let value = escape_html(&value.print(meter)?, meter)?;
        attributes.push(format!("{}=\"{value}\"", escape_html(&name, meter)?));
    }
    let space = !attributes.is_empty() && (autospace.is_none() || autospace.truth());
    Value::text(format!("{}{}", if space { " " } else { "" }, attributes.join(" ")), meter)
}

/// `urlencode`: percent-encodes a string, or formats pairs as a query.
pub fn url_encode(value: &Value, meter: &Meter<'_>) -> Run<Value> {
    let pairs = match value {
        Value::Dict(_) => super::methods::items(value, meter)?.iterate(meter)?,
        Value::List(_) | Value::Tuple(_) => value.iterate(meter)?,
        value => return Value::text(percent_encoded(&value.print(meter)?, "/", false, meter)?, meter),
    };
    let mut parts = Vec::new();
    for pair in &pairs.items {
        match pair.iterate(meter)?.items.as_slice() {
            [key, value] => {
                let encoded = |part: &Value| percent_encoded(&part.print(meter)?, "", true, meter);
                parts.push(format!("{}={}", encoded(key)?, encoded(value)?));
            }
            _ => return Err(Fault::template("`urlencode` takes a string or pairs")),
        }
    }
    Value::text(parts.join("&"), meter)
}

fn percent_encoded(text: &str, kept: &str, plus: bool, meter: &Meter<'_>) -> Run<String> {
    meter.fits(3 * text.len())?;
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' if plus => encoded.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) || kept.as_bytes().contains(&byte) => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(encoded)
}

/// `striptags`: removes tags and comments and collapses whitespace.
pub fn strip_tags(text: &str, meter: &Meter<'_>) -> Run<Value> {
    meter.work(text.len())?;
    let mut stripped = String::new();
    for (open, close) in [("<!--", "-->"), ("<", ">")] {
        let source = if open == "<" { std::mem::take(&mut stripped) } else { text.to_owned() };
        let mut rest = source.as_str();
        while let Some(start) = rest.find(open) {
            let Some(end) = rest[start..].find(close) else { break };
            stripped.push_str(&rest[..start]);
            rest = &rest[start + end + close.len()..];
        }
        stripped.push_str(rest);
    }
    let mut words = stripped.split_whitespace().collect::<Vec<_>>().join(" ");
    for (entity, c) in [("&lt;", "<"), ("&gt;", ">"), ("&#39;", "'"), ("&#34;", "\""), ("&quot;", "\""), ("&amp;", "&")]
    {
        words = words.replace(entity, c);
    }
    Value::text(words, meter)
}
