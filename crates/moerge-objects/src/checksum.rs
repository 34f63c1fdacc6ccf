//! The checksums by which a store shows what it holds. An ETag of S3 is the MD5 of an object that was sent at once, and the
//! MD5 of the MD5s of the parts, with their number, of one that was sent in parts
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>). Of an encrypted object, and in other stores, it is
//! something else: it can confirm content, but not refute it.

use md5::{Digest, Md5};

/// The MD5 of some bytes.
pub(crate) type Md5Sum = [u8; 16];

pub(crate) fn md5(bytes: &[u8]) -> Md5Sum {
    Md5::digest(bytes).into()
}

/// Whether an ETag is this checksum.
pub(crate) fn confirms(e_tag: Option<&str>, sum: &Md5Sum) -> bool {
    e_tag.is_some_and(|tag| tag.trim_matches('"').eq_ignore_ascii_case(&hex(sum)))
}

/// Whether an ETag is the checksum of an object that was sent in parts with these checksums.
pub(crate) fn confirms_parts(e_tag: Option<&str>, sums: &[Md5Sum]) -> bool {
    let whole = format!("{}-{}", hex(&md5(&sums.concat())), sums.len());
    e_tag.is_some_and(|tag| tag.trim_matches('"').eq_ignore_ascii_case(&whole))
}

/// Whether an ETag may be the checksum of an object that was sent at once.
pub(crate) fn may_be_md5(e_tag: &str) -> bool {
    let tag = e_tag.trim_matches('"');
    tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_s3_are_confirmed() {
        // `printf abc | md5sum`; of two parts `abc` and `d`: md5sum of both binary sums.
        assert!(confirms(Some("\"900150983cd24fb0d6963f7d28e17f72\""), &md5(b"abc")));
        assert!(!confirms(Some("\"900150983cd24fb0d6963f7d28e17f72\""), &md5(b"abd")) && !confirms(None, &md5(b"")));
        let sums = [md5(b"abc"), md5(b"d")];
        let whole = format!("\"{}-2\"", hex(&md5(&sums.concat())));
        assert!(confirms_parts(Some(&whole), &sums) && !confirms_parts(Some(&whole), &sums[..1]));
        assert!(may_be_md5("\"900150983cd24fb0d6963f7d28e17f72\"") && !may_be_md5(&whole));
    }
}
