//! House rule: a module imports only from modules above it in `lib.rs`.
#![expect(clippy::unwrap_used, reason = "a test may end at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file below `path`, or `path` itself.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let inside = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    inside
        .filter(|path| path.is_dir() || path.extension().is_some_and(|kind| kind == "rs"))
        .flat_map(|path| sources(&path))
        .collect()
}

#[test]
fn modules_import_only_from_above() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(root.join("lib.rs")).unwrap();
    let order: Vec<&str> = map
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert!(order.len() > 10, "{order:?}");
    let mut wrong = Vec::new();
    for (place, module) in order.iter().enumerate() {
        let (file, folder) = (root.join(format!("{module}.rs")), root.join(module));
        for source in sources(if file.exists() { &file } else { &folder }) {
            let text = fs::read_to_string(&source).unwrap();
            // Tests may use whatever they like.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (_, used) in text.match_indices("crate::").map(|(at, _)| text.split_at(at + "crate::".len())) {
                let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if order.iter().position(|other| *other == name).is_some_and(|at| at > place) {
                    wrong.push(format!("{} imports {name}", source.strip_prefix(&root).unwrap().display()));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
