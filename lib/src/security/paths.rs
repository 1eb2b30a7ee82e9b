//! Real paths, and opening them without following anything the check did not see: once a path is resolved, every folder
//! on the way is opened with `O_NOFOLLOW` from `/` down, so a link put there meanwhile fails instead of leading away.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Place;

/// As many symbolic links as Linux follows before it gives up.
const MAX_LINKS: usize = 40;

/// Folders and files with all below them.
#[derive(Debug)]
pub(super) struct Roots {
    all: bool,
    real: Vec<PathBuf>,
}

impl Roots {
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        let all = paths.iter().any(|path| path.as_os_str() == "*");
        Roots { all, real: paths.iter().filter(|path| path.is_absolute()).filter_map(|path| resolve(path)).collect() }
    }

    /// Whether the real path `path` is one of them or below one.
    pub(super) fn contain(&self, path: &Path) -> bool {
        self.all || self.real.iter().any(|root| path.starts_with(root))
    }

    /// Whether one of them is the real path `path` or below it.
    pub(super) fn below(&self, path: &Path) -> bool {
        self.real.iter().any(|root| root.starts_with(path))
    }
}

/// The absolute `path` with every symbolic link and `..` followed as far as it exists; the rest is appended as it stands.
/// Nothing when the links go round in circles.
pub(super) fn resolve(path: &Path) -> Option<PathBuf> {
    let mut real = PathBuf::from("/");
    let mut todo: Vec<_> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => real = PathBuf::from("/"),
            Some(Component::ParentDir) => _ = real.pop(),
            Some(Component::Normal(name)) => {
                real.push(name);
                if let Ok(target) = real.read_link() {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    real.pop();
                    todo.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
                }
            }
            _ => {}
        }
    }
    Some(real)
}

/// Opens the resolved path `real` for reading. A pipe without a writer does not block.
pub(super) fn open(real: &Path) -> io::Result<File> {
    let (dir, name) = descend(real)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(openat(&dir, name, flags, Mode::empty())?.into())
}

/// Opens what `place` names with `options`.
pub(super) fn open_with(place: &Place, options: &OpenOptions) -> io::Result<File> {
    // `OpenOptions` opens paths only; this one leads through the descriptor.
    #[cfg(target_os = "linux")]
    let path = Path::new("/proc/self/fd").join(place.dir.as_raw_fd().to_string()).join(&place.name);
    #[cfg(not(target_os = "linux"))]
    let path = place.path.clone();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    options.clone().mode(0o644).custom_flags(flags.bits().cast_signed()).open(path)
}

/// The opened folder of the resolved path `real`.
pub(super) fn place(real: PathBuf) -> io::Result<Place> {
    let (dir, name) = descend(&real)?;
    let name = name.to_owned();
    Ok(Place { dir, name, path: real })
}

/// Opens every folder above the last part of `real`, one in the other; `/` itself has the name `.`.
fn descend(real: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    // A folder that may be searched but not listed is enough on the way.
    #[cfg(target_os = "linux")]
    let access = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let access = OFlags::RDONLY;
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = openat(CWD, "/", flags, Mode::empty())?;
    for part in real.parent().into_iter().flat_map(Path::components) {
        if let Component::Normal(name) = part {
            dir = openat(&dir, name, flags, Mode::empty())?;
        }
    }
    Ok((dir, real.file_name().unwrap_or(OsStr::new("."))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_put_on_the_way_after_the_check_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("inside/sub")).unwrap();
        fs::create_dir(root.join("outside")).unwrap();
        fs::write(root.join("outside/f"), "secret").unwrap();
        fs::write(root.join("inside/sub/f"), "fine").unwrap();
        let checked = resolve(&root.join("inside/sub/f")).unwrap();
        fs::remove_dir_all(root.join("inside/sub")).unwrap();
        symlink(root.join("outside"), root.join("inside/sub")).unwrap();
        assert!(open(&checked).is_err());
        assert!(place(checked).is_err());
    }

    #[test]
    fn loops_are_refused_and_missing_parts_stay() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        symlink(root.join("b"), root.join("a")).unwrap();
        symlink(root.join("a"), root.join("b")).unwrap();
        assert_eq!(resolve(&root.join("a")), None);
        assert_eq!(resolve(&root.join("x/../y/./z")), Some(root.join("y/z")));
        assert_eq!(resolve(Path::new("/../..")).as_deref(), Some(Path::new("/")));
    }
}
