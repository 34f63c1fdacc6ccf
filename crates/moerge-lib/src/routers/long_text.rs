//! Splits long text for the tokenizer: into pieces that take a fraction of a second each, and not many more of them
//! than are used.

/// Bytes per piece. Shorter texts are tokenized as a whole.
const PIECE: usize = 64 << 10;

/// Bytes that are tokenized per used token; typical text has four bytes per token.
const BYTES_PER_TOKEN: usize = 64;

/// The `texts` in pieces; of long text, an evenly spaced subset that yields at least `max_tokens` tokens.
pub(super) fn pieces(texts: &[String], max_tokens: usize) -> Vec<&str> {
    let all = texts.iter().flat_map(|text| split(text)).collect();
    spread(all, |piece: &&str| piece.len(), max_tokens.saturating_mul(BYTES_PER_TOKEN))
}

/// Splits a long text after line breaks, else before spaces, else anywhere.
fn split(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while text.len() > PIECE {
        let boundary = (0..=PIECE).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(PIECE);
        let head = &text[..boundary];
        let line = head.rfind('\n').map(|at| at + 1);
        let end = line.or_else(|| head.rfind(' ').filter(|at| *at > 0)).unwrap_or(head.len());
        let (piece, rest) = text.split_at(end);
        pieces.push(piece);
        text = rest;
    }
    pieces.push(text);
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

/// An evenly spaced subset of `all` with a total length of about `max`.
pub(super) fn spread<T>(all: Vec<T>, len: impl Fn(&T) -> usize, max: usize) -> Vec<T> {
    let total: usize = all.iter().map(&len).sum();
    if total <= max {
        return all;
    }
    // Take one whenever the running sum passes another multiple of the ratio between total and `max`.
    let mut taken = Vec::new();
    let (mut seen, mut kept) = (0usize, 0usize);
    for item in all {
        let len = len(&item);
        if kept as u128 * total as u128 <= seen as u128 * max as u128 {
            kept += len;
            taken.push(item);
        }
        seen += len;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_text_is_thinned_out_evenly() {
        let sequences: Vec<Vec<u32>> = (0..100).map(|i| vec![i; 10]).collect();
        let taken = spread(sequences.clone(), Vec::len, 200);
        assert_eq!(taken.len(), 20);
        assert_eq!(taken.iter().map(|s| s[0]).collect::<Vec<_>>(), (0..100).step_by(5).collect::<Vec<u32>>());
        assert_eq!(spread(sequences.clone(), Vec::len, 1000), sequences);
    }

    #[test]
    fn short_texts_stay_whole_and_long_ones_lose_nothing() {
        let texts = ["short".to_owned(), " ".repeat(3), "a".repeat(PIECE)];
        assert_eq!(pieces(&texts, usize::MAX), ["short", &texts[2]]);
        for unit in ["word ", "a line\n", "é", "日本 語"] {
            let text = [unit.repeat(3 * PIECE / unit.len() + 1)];
            let cut = pieces(&text, usize::MAX);
            assert_eq!(cut.concat(), text[0], "{unit:?}");
            assert!(cut.len() > 2 && cut.iter().all(|piece| piece.len() <= PIECE), "{unit:?}");
        }
    }

    /// Attack A9: a prompt file of 64 MiB took minutes to tokenize, for 8192 tokens.
    #[test]
    fn of_much_text_little_more_is_tokenized_than_is_used() {
        let text = ["some words of a line\n".repeat(1 << 20)];
        let taken: usize = pieces(&text, 8192).iter().map(|piece| piece.len()).sum();
        assert!((8192 * BYTES_PER_TOKEN..=8192 * BYTES_PER_TOKEN + PIECE).contains(&taken), "{taken}");
    }
}
