//! Addresses: the origin that decides whether the token goes along, where a redirect or a `Link` leads, and escaping.

use ureq::http::{HeaderMap, Uri};

/// Scheme, host and port of an address, the port written out.
pub fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let default = if scheme == "https" { 443 } else { 80 };
    Some(format!("{scheme}://{}:{}", authority.host().to_lowercase(), authority.port_u16().unwrap_or(default)))
}

/// The absolute address that `location`, found in an answer from `url`, stands for. `None` for a downgrade from https
/// and for anything that is neither absolute nor a path from the root.
pub fn resolve(url: &str, location: &str) -> Option<String> {
    if location.starts_with("https://") || location.starts_with("http://") {
        return (location.starts_with("https://") || url.starts_with("http://")).then(|| location.to_owned());
    }
    let uri: Uri = url.parse().ok()?;
    let path = location.strip_prefix('/').filter(|rest| !rest.starts_with('/'))?;
    Some(format!("{}://{}/{path}", uri.scheme_str()?, uri.authority()?))
}

/// The target with `rel="next"` in the `Link` headers (RFC 8288).
pub fn next_page(headers: &HeaderMap) -> Option<String> {
    headers.get_all("link").iter().find_map(|value| next_in(value.to_str().ok()?))
}

fn next_in(mut link: &str) -> Option<String> {
    while let Some((_, rest)) = link.split_once('<') {
        let (target, rest) = rest.split_once('>')?;
        // A comma inside quotes belongs to a parameter; outside, it ends this link.
        let mut quoted = false;
        let end = rest.find(|c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let (parameters, others) = rest.split_at(end.unwrap_or(rest.len()));
        if parameters.split(';').any(is_next) {
            return Some(target.trim().to_owned());
        }
        link = others;
    }
    None
}

/// Whether a parameter is `rel` and `next` is among its relation types.
fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let relations = value.trim().trim_matches('"').split_whitespace();
    name.trim().eq_ignore_ascii_case("rel") && relations.into_iter().any(|r| r.eq_ignore_ascii_case("next"))
}

/// Percent-encodes a string as one segment of a path.
pub fn escaped(segment: &str) -> String {
    let mut out = String::new();
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_never_leave_https() {
        let from = "https://hub.co/a/resolve/main/x";
        assert_eq!(resolve(from, "/b/resolve/main/x").as_deref(), Some("https://hub.co/b/resolve/main/x"));
        assert_eq!(resolve(from, "https://cdn.co/x?sig=1").as_deref(), Some("https://cdn.co/x?sig=1"));
        for bad in ["http://hub.co/x", "//evil.co/x", "x", "ftp://x", ""] {
            assert_eq!(resolve(from, bad), None, "{bad}");
        }
    }

    #[test]
    fn the_token_is_for_one_origin() {
        assert_eq!(origin("https://Hub.co/x?y"), origin("https://hub.co:443"));
        assert_ne!(origin("https://hub.co"), origin("http://hub.co"));
        assert_ne!(origin("https://hub.co"), origin("https://hub.co.evil.org"));
        assert_ne!(origin("http://127.0.0.1:80"), origin("http://127.0.0.1:81"));
    }

    #[test]
    fn the_next_page_is_found() {
        for (link, next) in [
            ("<https://h/x?cursor=1>; rel=\"next\"", Some("https://h/x?cursor=1")),
            ("<https://h/a>; rel=\"prev\", <https://h/b>; rel=\"next\"", Some("https://h/b")),
            ("<https://h/a,b>;title=\"x, y\";REL=next", Some("https://h/a,b")),
            ("</x>; rel=\"last next\"", Some("/x")),
            ("<https://h/a>; rel=\"prev\"", None),
            ("<https://h/a>; title=\"rel=next\"", None),
            ("<https://h/a", None),
            ("", None),
        ] {
            assert_eq!(next_in(link).as_deref(), next, "{link}");
        }
    }

    #[test]
    fn path_segments_are_escaped() {
        assert_eq!(escaped("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(escaped("a b?ü"), "a%20b%3F%C3%BC");
    }
}
