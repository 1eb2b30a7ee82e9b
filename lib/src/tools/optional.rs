//! Tools that not every build has: what is needed to name them where they are missing. A row here, its `mod` and its
//! line in `builtin()` under the same feature; the tests compare them, and the presets of `Cargo.toml` with the page.

use serde_json::{Value, json};

use crate::error::{Class, Error};

/// A tool behind a feature, described as its `SPEC` does.
#[derive(Debug)]
pub(super) struct Optional {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) category: &'static str,
    pub(super) summary: &'static str,
    /// Of lib/Cargo.toml and of the programs.
    pub(super) feature: &'static str,
    /// Whether this build has it.
    pub(super) built: bool,
}

macro_rules! optional {
    ($($feature:literal: $name:literal $aliases:expr, $category:literal, $summary:literal;)*) => {
        &[$(Optional {
            name: $name,
            aliases: &$aliases,
            category: $category,
            summary: $summary,
            feature: $feature,
            built: cfg!(feature = $feature),
        }),*]
    };
}

/// One row a tool, by feature: `"tool-x": "name" ["alias"], "category", "summary";`
pub(super) const OPTIONAL: &[Optional] = optional! {};

/// What this build could have but has not.
pub(super) fn absent() -> impl Iterator<Item = &'static Optional> {
    OPTIONAL.iter().filter(|tool| !tool.built)
}

impl Optional {
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// The answer to whoever asks for it.
    pub(super) fn refusal(&self) -> Error {
        let Optional { name, feature, .. } = self;
        Error::new(Class::Absent, format!("tool {name}: not in this build: needs --features {feature}")).hint(format!(
            "Build the programs with cargo build --release --features {feature}, or --features full for all tools."
        ))
    }

    /// Its row of a list.
    pub(super) fn row(&self) -> Value {
        let Optional { name, summary, category, feature, .. } = self;
        json!({"name": name, "summary": summary, "category": category, "available": false, "feature": feature})
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::tools::Registry;

    fn file(path: &str) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
    }

    /// The features that `feature` of `program` switches on in the library, and those that lead there.
    fn closure(program: &str, feature: &str) -> BTreeSet<String> {
        let manifest: toml::Table = fs::read_to_string(file(program).join("Cargo.toml")).unwrap().parse().unwrap();
        let mut found = BTreeSet::new();
        let mut todo = vec![feature.to_owned()];
        while let Some(name) = todo.pop() {
            let members = manifest["features"].get(&name).unwrap_or_else(|| panic!("{program}: no feature {name}"));
            for member in members.as_array().unwrap() {
                let member = member.as_str().unwrap();
                match member.strip_prefix("llmspell/") {
                    Some(inner) => _ = found.insert(inner.to_owned()),
                    None if member.contains([':', '/']) => {}
                    None => todo.push(member.to_owned()),
                }
            }
            found.insert(name);
        }
        found
    }

    #[test]
    fn rows_and_tools_tell_the_same() {
        let built = crate::tools::builtin();
        for row in OPTIONAL {
            let spec = built.iter().map(|tool| tool.spec()).find(|spec| spec.name == row.name);
            assert_eq!(spec.is_some(), row.built, "{}: the feature of its row is not that of its tool", row.name);
            let Some(spec) = spec else { continue };
            let told = (row.name, row.aliases, row.category, row.summary);
            assert_eq!(told, (spec.name, spec.aliases, spec.category, spec.summary));
        }
    }

    #[test]
    fn features_are_known_to_every_program() {
        let lib = closure("lib", "full");
        for row in OPTIONAL {
            assert!(lib.contains(row.feature), "{}: {} is not in full", row.name, row.feature);
        }
        for program in ["bins/llmspell-kernel", "bins/llmspell-run"] {
            for feature in lib.iter().filter(|name| name.starts_with("tool-") || *name == "common" || *name == "full") {
                assert!(closure(program, feature).contains(feature), "{program}: {feature}");
            }
        }
    }

    /// The three presets, each with its tools.
    fn presets() -> [(&'static str, Vec<&'static str>); 3] {
        let always = crate::tools::builtin().iter().map(|tool| tool.spec().name).collect::<Vec<_>>();
        ["runtime", "common", "full"].map(|preset| {
            let features = closure("lib", preset);
            let optional = |name: &&str| OPTIONAL.iter().find(|row| row.name == *name);
            let mut names: Vec<_> = always.iter().copied().filter(|name| optional(name).is_none()).collect();
            names.extend(OPTIONAL.iter().filter(|row| features.contains(row.feature)).map(|row| row.name));
            names.sort_unstable();
            (if preset == "runtime" { "minimal" } else { preset }, names)
        })
    }

    /// `page` with `rows` between the comments `begin TITLE` and `end TITLE`.
    fn filled(page: &str, title: &str, rows: &str) -> String {
        let (head, rest) = page.split_once(&format!(".\\\" begin {title}\n")).unwrap_or_else(|| panic!("no {title}"));
        let (_, tail) = rest.split_once(&format!(".\\\" end {title}\n")).unwrap();
        format!("{head}.\\\" begin {title}\n{rows}.\\\" end {title}\n{tail}")
    }

    #[test]
    fn the_page_lists_every_preset() {
        let path = file("man/llmspell-builds.7");
        let page = fs::read_to_string(&path).unwrap();
        let mut wanted = page.clone();
        let mut before = Vec::new();
        for (preset, names) in presets() {
            let new: Vec<_> = names.iter().filter(|name| !before.contains(*name)).copied().collect();
            wanted = filled(&wanted, preset, &format!("{}\n", new.join(",\n")));
            let count = format!(".TP\n.B {preset}\n{} tools\n", names.len());
            wanted = filled(&wanted, &format!("{preset} count"), &count);
            before = names;
        }
        let rows = OPTIONAL.iter().map(|row| format!("{}|{}\n", row.name, row.feature.replace('-', "\\-")));
        wanted = filled(&wanted, "features", &format!("tool|feature\n{}", rows.collect::<String>()));
        if page != wanted && std::env::var_os("BLESS").is_some() {
            return fs::write(path, wanted).unwrap();
        }
        assert_eq!(page, wanted, "BLESS=1 cargo test -p llmspell --features full");
    }

    #[test]
    fn this_build_has_the_tools_of_its_preset() {
        let preset = if cfg!(feature = "full") { 2 } else { usize::from(cfg!(feature = "common")) };
        let features = closure("lib", ["runtime", "common", "full"][preset]);
        // A build with single features is none of the three.
        if OPTIONAL.iter().all(|row| row.built == features.contains(row.feature)) {
            assert_eq!(Registry::new().names().collect::<Vec<_>>(), presets()[preset].1);
        }
    }

    #[test]
    fn what_is_absent_is_named_with_its_feature() {
        let row = Optional { name: "x", aliases: &[], category: "data", summary: "s", feature: "tool-x", built: false };
        let error = row.refusal();
        assert_eq!(
            (error.class(), error.text()),
            (Class::Absent, "tool x: not in this build: needs --features tool-x")
        );
        for row in absent() {
            let registry = Registry::new();
            assert!(registry.is_absent(row.name) && !registry.exists(row.name));
            assert_eq!(registry.info(row.name).unwrap_err().class(), Class::Absent);
            assert!(registry.list_all(None).unwrap().contains(&row.row()));
        }
    }
}
