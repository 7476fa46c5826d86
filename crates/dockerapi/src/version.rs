//! API versions: the range that is served, and the `/v1.NN` prefix of paths.

use crate::error::ApiError;

/// The newest version that the embedded engine speaks, and that the client asks for.
pub const NEWEST: (u32, u32) = (1, 47);
/// The oldest.
pub const OLDEST: (u32, u32) = (1, 24);

/// `1.47`.
pub fn text(version: (u32, u32)) -> String {
    format!("{}.{}", version.0, version.1)
}

/// Reads `1.47`.
pub fn parse(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Takes the version prefix off a path. Paths without one are of the newest version.
pub fn strip(path: &str) -> Result<&str, ApiError> {
    let Some(rest) = path.strip_prefix("/v") else { return Ok(path) };
    let (version, _) = rest.split_once('/').unwrap_or((rest, ""));
    let Some(number) = parse(version) else { return Ok(path) };
    if number > NEWEST {
        return Err(ApiError::bad_parameter(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            text(NEWEST)
        )));
    }
    if number < OLDEST {
        return Err(ApiError::bad_parameter(format!(
            "client version {version} is too old. Minimum supported API version is {}, please \
             upgrade your client to a newer version",
            text(OLDEST)
        )));
    }
    Ok(&rest[version.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_loses_its_version_and_an_unknown_one_is_refused() {
        assert_eq!(strip("/v1.41/services"), Ok("/services"));
        assert_eq!(strip("/services"), Ok("/services"));
        assert_eq!(strip("/volumes"), Ok("/volumes"));
        assert!(strip("/v1.99/services").is_err());
        assert!(strip("/v1.5/services").is_err());
    }
}
