//! What the tests of tools share: a folder with a call that may write in it, and the table of bad inputs.

use std::sync::Arc;

use serde_json::Value;

use super::{Call, Registry};
use crate::error::{Class, Result};
use crate::security::{Grants, Policy, Profile};

/// A folder and a call that may read and write there, nothing else.
pub(super) fn folder() -> (tempfile::TempDir, Call) {
    let dir = tempfile::tempdir().unwrap();
    let workdir = dir.path().to_path_buf();
    let grants = Grants { profile: Profile::Safe, write: vec![workdir.clone()], workdir, ..Grants::default() };
    (dir, Call::new(Arc::new(Policy::new(grants))))
}

/// The envelope of a call.
pub(super) fn run(tool: &str, params: Value, call: &Call) -> Result<Value> {
    Registry::new().invoke(tool, params, call)
}

/// The result of a call without files that must do.
pub(super) fn result(tool: &str, params: Value) -> Value {
    let (_dir, call) = folder();
    match run(tool, params.clone(), &call) {
        Ok(mut envelope) => envelope["result"].take(),
        Err(error) => panic!("{tool} {params}: {error}"),
    }
}

/// Every call is refused with its class, with a text of one line.
pub(super) fn bad(tool: &str, table: &[(Value, Class)]) {
    let (_dir, call) = folder();
    for (params, class) in table {
        match run(tool, params.clone(), &call) {
            Ok(envelope) => panic!("{tool} {params}: {envelope}"),
            Err(error) => {
                assert_eq!(error.class(), *class, "{tool} {params}: {error}");
                assert!(!error.text().contains('\n'), "{tool} {params}: {error}");
            }
        }
    }
}
