//! Connects to a bucket with what the environment says: the variables of the AWS, Google Cloud and Azure tools, and the
//! profiles of the AWS tools.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Once};
use std::time::Duration;

use moerge_checkpoint::StorageError;
use object_store::{
    ObjectStore,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::MicrosoftAzureBuilder,
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    multipart::MultipartStore,
};

use crate::place::Scheme;
use crate::profile;
use crate::retry::{client_options, retry_config};

/// A store, as what lists, reads and writes whole objects, and as what takes parts.
pub(crate) type Connection = (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>);

/// Where machines of AWS get their credentials.
const METADATA_SERVICE: ([u8; 4], u16) = ([169, 254, 169, 254], 80);

/// Connects to a bucket; sends nothing.
///
/// # Errors
/// The environment lacks something, or has it wrong.
pub(crate) fn connect(scheme: Scheme, bucket: &str) -> io::Result<Connection> {
    // The client takes the process's provider of cryptography.
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // One that is installed already will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    match scheme {
        Scheme::S3 => s3(bucket),
        Scheme::Google => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry_config());
            let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
            let http = allows_http("GOOGLE_BASE_URL", endpoint, "GOOGLE_ALLOW_HTTP")?;
            let builder = builder.with_client_options(client_options().with_allow_http(http));
            let store = Arc::new(builder.build().map_err(|e| refused(&e, GOOGLE_HINT))?);
            Ok((store.clone(), store))
        }
        Scheme::Azure => {
            let http = is_true("AZURE_ALLOW_HTTP");
            let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retry_config());
            let builder = builder.with_client_options(client_options().with_allow_http(http));
            let store = Arc::new(builder.build().map_err(|e| refused(&e, AZURE_HINT))?);
            Ok((store.clone(), store))
        }
    }
}

const GOOGLE_HINT: &str = "set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials";
const AZURE_HINT: &str = "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or another credential";
const AWS_HINT: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";

fn s3(bucket: &str) -> io::Result<Connection> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry_config());
    let lacks = |builder: &AmazonS3Builder, key: AmazonS3ConfigKey| builder.get_config_value(&key).is_none();
    let home = env::home_dir().unwrap_or_default();
    let own = profile::read(&home, |name| env::var(name).ok());
    if lacks(&builder, AmazonS3ConfigKey::AccessKeyId)
        && let (Some(id), Some(secret)) = (own.get("aws_access_key_id"), own.get("aws_secret_access_key"))
    {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        if let Some(token) = own.get("aws_session_token") {
            builder = builder.with_token(token);
        }
    }
    if let (true, Some(region)) = (lacks(&builder, AmazonS3ConfigKey::Region), own.get("region")) {
        builder = builder.with_region(region);
    }
    let s3_endpoint = builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint);
    let endpoint = s3_endpoint.or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let http = allows_http("AWS_ENDPOINT_URL", endpoint, "AWS_ALLOW_HTTP")?;
    let others = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_METADATA_ENDPOINT",
    ];
    let keyless = lacks(&builder, AmazonS3ConfigKey::AccessKeyId) && !is_true("AWS_SKIP_SIGNATURE");
    // Asking a service that is not there would take minutes.
    if keyless && others.iter().all(|name| env::var_os(name).is_none()) && !has_metadata_service() {
        let message = "there are no credentials for S3".to_owned();
        let hint = format!("{AWS_HINT}; AWS_SKIP_SIGNATURE=true reads public buckets without any");
        return Err(StorageError { message, hint }.into_io(io::ErrorKind::PermissionDenied));
    }
    let builder = builder.with_client_options(client_options().with_allow_http(http));
    let store = Arc::new(builder.build().map_err(|e| refused(&e, AWS_HINT))?);
    Ok((store.clone(), store))
}

/// Whether the variable `allowed_by` allows requests without encryption.
///
/// # Errors
/// It does not, and the server's address, from the variable `named_by`, needs them.
fn allows_http(named_by: &str, endpoint: Option<String>, allowed_by: &str) -> io::Result<bool> {
    let allowed = is_true(allowed_by);
    match endpoint.filter(|endpoint| endpoint.starts_with("http://") && !allowed) {
        Some(endpoint) => {
            let message = format!("{named_by} is {}, without encryption", without_user(&endpoint));
            let hint = format!("{allowed_by}=true allows it");
            Err(StorageError { message, hint }.into_io(io::ErrorKind::InvalidInput))
        }
        None => Ok(allowed),
    }
}

fn has_metadata_service() -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(METADATA_SERVICE), Duration::from_secs(1)).is_ok()
}

fn is_true(variable: &str) -> bool {
    env::var(variable).is_ok_and(|value| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str()))
}

/// A URL without a user's name and password.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{}", host.rsplit('@').next().unwrap_or_default())
}

/// The error of a configuration. The library's text names what is missing; it may quote a value, so only what it says of
/// the kind of problem is taken over.
fn refused(error: &object_store::Error, hint: &str) -> io::Error {
    let text = error.to_string();
    let message = match text.split_once(": ") {
        Some((_, what)) if what.starts_with("Missing ") || what.contains("must be specified") => what.to_owned(),
        _ => "its access is not configured, or wrongly".to_owned(),
    };
    StorageError { message, hint: hint.to_owned() }.into_io(io::ErrorKind::InvalidInput)
}
