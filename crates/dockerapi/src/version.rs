//! API versions: the range that is served, and the `/v1.NN` prefix of paths.

use crate::error::ApiError;

/// The newest version that the embedded engine speaks, and that the client asks for.
pub const NEWEST: (u32, u32) = (1, 47);
/// The oldest.
pub const OLDEST: (u32, u32) = (1, 24);

/// The oldest that an engine must speak for the client: that of Docker 19.03.
pub const OLDEST_ENGINE: (u32, u32) = (1, 40);

/// The newest version of an engine, and the oldest where it says.
pub type Range = ((u32, u32), Option<(u32, u32)>);

/// The version to speak with an engine, or what is wrong with it.
pub fn agree(newest: (u32, u32), oldest: Option<(u32, u32)>) -> Result<(u32, u32), String> {
    if newest < OLDEST_ENGINE {
        return Err(format!(
            "speaks API {} at most; keel needs {} or newer (Docker 19.03)",
            text(newest),
            text(OLDEST_ENGINE)
        ));
    }
    if let Some(oldest) = oldest.filter(|oldest| *oldest > NEWEST) {
        return Err(format!(
            "speaks API {} at least; this keel knows {} and older",
            text(oldest),
            text(NEWEST)
        ));
    }
    Ok(newest.min(NEWEST))
}

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
    fn the_newest_version_that_both_know_is_spoken() {
        assert_eq!(agree((1, 40), None), Ok((1, 40)));
        assert_eq!(agree((1, 41), None), Ok((1, 41)));
        assert_eq!(agree((1, 52), Some((1, 44))), Ok(NEWEST));
        assert_eq!(agree((2, 0), Some(NEWEST)), Ok(NEWEST));
        let old = agree((1, 39), None).expect_err("too old");
        assert!(old.contains("1.39") && old.contains("1.40"), "{old}");
        let new = agree((1, 99), Some((1, 98))).expect_err("too new");
        assert!(new.contains("1.98") && new.contains("1.47"), "{new}");
    }

    #[test]
    fn a_path_loses_its_version_and_an_unknown_one_is_refused() {
        assert_eq!(strip("/v1.41/services"), Ok("/services"));
        assert_eq!(strip("/services"), Ok("/services"));
        assert_eq!(strip("/volumes"), Ok("/volumes"));
        assert!(strip("/v1.99/services").is_err());
        assert!(strip("/v1.5/services").is_err());
    }
}
