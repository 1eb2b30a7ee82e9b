//! Forgetting kernels that are gone, and removing what dead ones left.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::process::Here;
use super::stop;
use super::survey::{Condition, Kernel, survey};
use super::wanted::{Claim, Lock, forget};
use crate::error::Result;
use crate::home::Home;

/// Half-written files are left by what was killed while writing; a younger one may still be written.
const ABANDONED: Duration = Duration::from_secs(60);

/// Kernels that `cleanup` would forget: they do not run, and nothing starts them again.
#[must_use]
pub fn forgettable(home: &Home, here: &Here) -> Vec<Kernel> {
    let watched = super::watch::is_running(home);
    let gone = |kernel: &Kernel| match kernel.condition {
        Condition::Stopped => true,
        Condition::Dead | Condition::Backoff | Condition::CrashLooping => {
            let again = kernel.wanted.as_ref().is_some_and(|wanted| wanted.restart != super::Policy::Never);
            !(again && watched)
        }
        _ => false,
    };
    survey(home, here).into_iter().filter(gone).collect()
}

/// Forgets `kernel` if it still does not run, and removes its connection and PID file. Its log stays.
///
/// # Errors
/// `Conflict` while a command starts or stops it; what the system said.
pub fn forget_kernel(home: &Home, here: &Here, kernel: &Kernel) -> Result<bool> {
    let _lock = Lock::take(home)?;
    let claim = Claim::take(home, &kernel.id)?;
    let now = Kernel::look(home, here, &kernel.id);
    if now.stat.is_some() {
        return Ok(false);
    }
    if let Some(connection) = &now.connection {
        stop::clear(home, &kernel.id, connection);
    }
    forget(home, &kernel.id)?;
    claim.remove(home, &kernel.id);
    Ok(true)
}

/// Files that were never finished, as their writer was killed.
#[must_use]
pub fn abandoned(home: &Home) -> Vec<PathBuf> {
    let dirs = [home.kernel_dir(), home.wanted_dir(), home.state_dir()];
    let files = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().filter_map(|entry| {
        let path = entry.ok()?.path();
        let ours = path.extension().is_some_and(|end| end == "tmp");
        let age = fs::symlink_metadata(&path).ok()?.modified().ok()?.elapsed().unwrap_or_default();
        (ours && age >= ABANDONED).then_some(path)
    });
    files.collect()
}
