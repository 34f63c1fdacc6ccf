//! The web page: one file, which asks nothing of any other machine.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("page.html");

/// The page may run its own script, use its own style, and talk to this server: nothing else.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
});

/// The page with the headers that keep it harmless.
pub fn response() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

/// The page's one element `name` as a policy names it: by the SHA-256 of what is in it.
fn hash(name: &str) -> String {
    let inner = PAGE.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    inner.map_or("'none'".to_owned(), |(inner, _)| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inner))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nothing_of_other_machines_and_inserts_no_html() {
        assert!(POLICY.matches("'sha256-").count() == 2, "{}", *POLICY);
        for element in ["<script>", "<style>"] {
            assert_eq!(PAGE.matches(element).count(), 1, "{element}");
        }
        let addresses: Vec<&str> = PAGE.match_indices("://").map(|(at, _)| &PAGE[at - 5..(at + 30)]).collect();
        assert!(addresses.iter().all(|a| a.contains("www.w3.org/2000/svg")), "{addresses:?}");
        for unsafe_way in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick"]
        {
            assert!(!PAGE.contains(unsafe_way), "{unsafe_way}");
        }
    }
}
