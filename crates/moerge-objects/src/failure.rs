//! Errors of stores as I/O errors that say what was found and what to do. What a server says is quoted only as far as it is
//! a code: its text could hold anything.

use std::io;

use moerge_checkpoint::StorageError;
use object_store::Error;

use crate::bucket::Bucket;
use crate::place::Scheme;
use crate::retry::{TransferError, status};

/// The I/O error of a transfer.
pub(crate) fn transfer(bucket: &Bucket, error: &TransferError) -> io::Error {
    match error {
        TransferError::Store(error) => store(bucket, error),
        TransferError::Changed => with_hint(
            io::ErrorKind::Other,
            "the object was replaced while it was being read",
            "leave the models alone while they are being read, then run the command again",
        ),
        TransferError::Damaged => with_hint(
            io::ErrorKind::InvalidData,
            "its bytes arrived damaged, several times",
            "a proxy or the network may be at fault; run the command again",
        ),
    }
}

/// The I/O error of a store's error.
pub(crate) fn store(bucket: &Bucket, error: &Error) -> io::Error {
    let text = error.to_string();
    let code = code(&text);
    let said = match (status(&text), code) {
        (Some(status), Some(code)) => format!(" ({status} {code})"),
        (Some(status), None) => format!(" ({status})"),
        (None, Some(code)) => format!(" ({code})"),
        (None, None) => String::new(),
    };
    let name = format!("{}{}", bucket.scheme.prefix(), bucket.name);
    if code == Some("NoSuchBucket") || code == Some("ContainerNotFound") {
        let message = format!("there is no bucket {name}{said}");
        return with_hint(io::ErrorKind::Other, &message, hint_where(bucket.scheme));
    }
    if text.contains("without LOCATION")
        || matches!(
            code,
            Some("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException")
        )
    {
        let message = format!("the bucket {name} is in another region{said}");
        return with_hint(io::ErrorKind::Other, &message, "set AWS_REGION to the region of the bucket");
    }
    let denied = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. });
    if denied || matches!(status(&text), Some(401 | 403)) {
        let message = format!("access is denied{said}");
        return with_hint(io::ErrorKind::PermissionDenied, &message, hint_access(bucket.scheme));
    }
    match error {
        Error::NotFound { .. } => io::ErrorKind::NotFound.into(),
        Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            with_hint(io::ErrorKind::Unsupported, &format!("the store does not support it{said}"), "use another store")
        }
        _ if status(&text).is_some_and(|status| status >= 500 || status == 429) => with_hint(
            io::ErrorKind::Other,
            &format!("the store failed several times{said}"),
            "it may be overloaded; rerun the command later",
        ),
        _ if status(&text).is_some() => {
            with_hint(io::ErrorKind::Other, &format!("the store refused it{said}"), hint_where(bucket.scheme))
        }
        _ => with_hint(io::ErrorKind::Other, network(error), hint_where(bucket.scheme)),
    }
}

/// What of the network failed.
fn network(error: &Error) -> &'static str {
    // What happened is the innermost error.
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let lower = causes.map(|error| error.to_string().to_ascii_lowercase()).last().unwrap_or_default();
    if lower.contains("dns error") || lower.contains("lookup") || lower.contains("name or service") {
        "the name of the store's server is not known"
    } else if lower.contains("certificate") {
        "the server's certificate is not valid"
    } else if lower.contains("refused") || lower.contains("unreachable") {
        "the store's server cannot be reached"
    } else if lower.contains("timed out") || lower.contains("elapsed") {
        "the store's server does not answer in time"
    } else {
        "the connection to the store failed several times"
    }
}

/// The `<Code>` of an answer in XML.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (code.len() <= 60 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
}

fn hint_access(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::S3 => "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE, and what that account may do",
        Scheme::Google => "check GOOGLE_APPLICATION_CREDENTIALS, and what that account may do",
        Scheme::Azure => "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, and what that account may do",
    }
}

fn hint_where(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::S3 => "check the bucket's name, AWS_REGION and AWS_ENDPOINT_URL",
        Scheme::Google => "check the bucket's name",
        Scheme::Azure => "check the container's name and AZURE_STORAGE_ACCOUNT_NAME",
    }
}

fn with_hint(kind: io::ErrorKind, message: &str, hint: &str) -> io::Error {
    StorageError { message: message.to_owned(), hint: hint.to_owned() }.into_io(kind)
}
