//! Which table a command works on, and reading it.

use super::errors::TableErrors;
use super::{Table, parse, trusted_file};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

pub const TABLE_NAME: &str = "services.toml";

/// The path of the table, as errors will name it; whether it can be read is seen by `load`.
///
/// 1. `--config`
/// 2. called as `start_all…` or `stop_all…`: beside the link
/// 3. `$PIDCTL_CONFIG`
/// 4. in the working directory or its nearest parent that has one
pub fn locate(
    flag: Option<&Path>,
    drop_in_folder: Option<&Path>,
    env: Option<OsString>,
    cwd: &Path,
) -> Result<PathBuf, TableErrors> {
    if let Some(path) = flag {
        return Ok(path.to_owned());
    }
    let env = env.filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = drop_in_folder {
        let beside = folder.join(TABLE_NAME);
        if is_there(&beside) {
            return Ok(beside);
        }
    }
    if let Some(path) = env {
        return Ok(path);
    }
    if is_there(&cwd.join(TABLE_NAME)) {
        return Ok(PathBuf::from(TABLE_NAME));
    }
    cwd.ancestors()
        .skip(1)
        .map(|folder| folder.join(TABLE_NAME))
        .find(|path| is_there(path))
        .ok_or_else(|| {
            let message = format!(
                "no such file in {} or any folder above it; expected one there, in -c FILE or in $PIDCTL_CONFIG (pidctl init writes one)",
                cwd.display()
            );
            TableErrors::whole(Path::new(TABLE_NAME), message)
        })
}

/// Something of that name that cannot be looked at is there all the same: to pass it by could end in
/// another project's table.
fn is_there(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), NotFound | NotADirectory),
    }
}

/// Reads and validates the table.
pub fn load(given: &Path) -> Result<Table, TableErrors> {
    let canonical = given.canonicalize().map_err(|error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        TableErrors::whole(given, message)
    })?;
    let text =
        trusted_file::read(&canonical).map_err(|error| TableErrors::from_one(given, error))?;
    parse::parse(&text, given, &canonical)
}

#[cfg(test)]
mod tests {
    use super::super::trusted_file::tests::Folder;
    use super::*;

    const TABLE: &str = "[[service]]\nname = \"a\"\ncommand = \"true\"\n";

    #[test]
    fn the_flag_comes_first_then_the_link_then_the_environment() {
        let folder = Folder::new("locate-order");
        folder.write("link/services.toml", TABLE);
        let link = folder.0.join("link");
        let flag = Path::new("other.toml");
        let env = || Some(OsString::from("env.toml"));
        let found = |flag, link, env| locate(flag, link, env, &folder.0).unwrap();
        assert_eq!(found(Some(flag), Some(&link), env()), flag);
        assert_eq!(found(None, Some(&link), env()), link.join(TABLE_NAME));
        assert_eq!(found(None, None, env()), Path::new("env.toml"));
        assert_eq!(found(None, Some(&folder.0), env()), Path::new("env.toml"));
        assert_eq!(
            found(None, Some(&link), Some(OsString::new())),
            link.join(TABLE_NAME)
        );
    }

    #[test]
    fn a_link_without_a_table_beside_it_is_followed_by_the_other_places() {
        let folder = Folder::new("locate-link");
        folder.write(TABLE_NAME, TABLE);
        let bare = folder.0.join("bare");
        fs::create_dir(&bare).unwrap();
        let found = locate(None, Some(&bare), None, &folder.0).unwrap();
        assert_eq!(found, Path::new(TABLE_NAME));
    }

    #[test]
    fn the_nearest_parent_that_has_one() {
        let folder = Folder::new("locate-parent");
        let table = folder.write("a/services.toml", TABLE);
        let deep = folder.0.join("a/b/c");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(locate(None, None, None, &deep).unwrap(), table);
        assert_eq!(
            locate(None, None, None, &folder.0.join("a")).unwrap(),
            Path::new(TABLE_NAME)
        );
        let error = locate(None, None, None, Path::new("/proc/self")).unwrap_err();
        assert!(error.to_string().starts_with("services.toml: no such file"));
    }

    #[test]
    fn a_table_is_named_as_given_and_known_by_its_canonical_path() {
        let folder = Folder::new("load");
        let file = folder.write("real/services.toml", TABLE);
        let link = folder.0.join("link.toml");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let table = load(&link).unwrap();
        assert_eq!((&table.given, &table.file), (&link, &file));
        assert_eq!(table.root, folder.0.join("real"));
        assert_eq!(table.pids_dir, folder.0.join("real/pids"));

        let bad = folder.write("bad.toml", "\n[[service]]\n");
        let error = load(&bad).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}:2: ", bad.display())),
            "{error}"
        );
        let error = load(&folder.0).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}: is a folder; expected a file", folder.0.display())
        );
    }
}
