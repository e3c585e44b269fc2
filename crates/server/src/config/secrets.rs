//! Secrets: from the configuration or from a file of their own, and whether they are any good.

use std::path::Path;

use super::reader::Reader;
use super::secret::Secret;

/// Secrets that stand in documentation everywhere, so that anyone can guess them.
const EXAMPLES: [&str; 18] = [
    "secret",
    "my-secret",
    "my_secret",
    "mysecret",
    "your-secret",
    "your_secret",
    "change-me",
    "changeme",
    "password",
    "api_key",
    "my_api_key",
    "my-api-key",
    "your-api-key",
    "keep-it-secret",
    "bbe7d157-a253-4094-9759-06a8236543f9",
    "46b38493-147e-4e3f-86e0-dc5ec54f5133",
    "d0683813-0916-4c49-979f-0e08a686b727",
    "d7627bb6-2292-4911-82e1-615c0ed3eebb",
];
/// RFC 7518 §3.2: a key as long as the hash, for the shortest hash.
const HMAC_BYTES_MIN: usize = 32;
/// Largest file a secret is read from.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Reads the secret at `path`, or from the file named at `path_file`.
pub(super) fn read(reader: &mut Reader<'_>, path: &str) -> Option<Secret> {
    let file_key = format!("{path}_file");
    let secret = match (reader.secret(path), reader.some_text(&file_key)) {
        (Some(_), Some(_)) => {
            reader.error(&file_key, format!("set together with {path}: keep one of them"));
            return None;
        }
        (None, Some(file)) => match from_file(Path::new(&file)) {
            Ok(secret) => secret,
            Err(problem) => {
                reader.error(&file_key, problem);
                return None;
            }
        },
        (secret, None) => secret?,
    };
    if is_example(&secret) {
        reader.warning(
            path,
            "a secret that stands in documentation, so anyone can guess it: make one of 32 random bytes",
        );
    }
    Some(secret)
}

/// As [`read`], for a secret that signs.
pub(super) fn read_hmac(reader: &mut Reader<'_>, path: &str) -> Option<Secret> {
    let secret = read(reader, path)?;
    let length = secret.expose().len();
    if length < HMAC_BYTES_MIN && !is_example(&secret) {
        let text =
            format!("{length} bytes are too few for signatures: use at least {HMAC_BYTES_MIN} random bytes");
        reader.warning(path, text);
    }
    Some(secret)
}

fn is_example(secret: &Secret) -> bool {
    let text = secret.expose();
    EXAMPLES.iter().any(|example| example.eq_ignore_ascii_case(text))
        || (text.starts_with('<') && text.ends_with('>'))
}

fn from_file(file: &Path) -> Result<Secret, String> {
    let metadata = std::fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(format!("everyone on this machine may use the file (mode {mode:o}): chmod 640 it"));
        }
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err("the file is empty".into()) } else { Ok(Secret::new(text)) }
}
