//! The page llmspell.toml(5), made from the keys.

use std::fmt::Write as _;

use toml::Value;

use super::keys::{KEYS, Key, Kind};

const INTRODUCTION: &str = r#".SH NAME
llmspell.toml \- configuration of llmspell
.SH DESCRIPTION
The programs of llmspell read TOML files.
A key that is set in none has its default.
Files, environment and flags are merged key by key; what comes later wins:
.IP 1. 3
.I /etc/llmspell/config.toml
.IP 2. 3
.I ~/.llmspell/config.toml
(\fI$LLMSPELL_HOME/config.toml\fR)
.IP 3. 3
.I ./llmspell.toml
of the working folder, within the limits of
.BR TRUST ,
below
.IP 4. 3
.I $CREDENTIALS_DIRECTORY/llmspell.toml
of a systemd service with
.BR LoadCredential=llmspell.toml:FILE ,
which only that service can read
.IP 5. 3
the environment
.IP 6. 3
flags
.PP
With
.B \-\-config
.I FILE
or
.BR LLMSPELL_CONFIG ,
that file is the only one, besides the credential.
.PP
An unknown key or a wrong value is an error that names file, line and key
(exit status 3).
Keys of version 0.10 that have no effect are told once and passed over;
.B llmspell\-kernel config migrate
rewrites a file.
.PP
A duration is a number of seconds or a text such as "30s", "5m" or "2h".
A size is a number of bytes or a text such as "10MB" or "512KiB".
A relative path starts at the folder of its file;
a leading ~ is the home folder.
"#;

const REST: &str = r#".SH ENVIRONMENT
Each key but a table is also a variable:
.B LLMSPELL_
and its name in capitals, with _ for each dot, as in
.B LLMSPELL_KERNEL_TOOLS_TOOL_TIMEOUT=1m
for
.BR kernel.tools.tool_timeout .
The items of a list are separated by commas.
An empty variable counts as unset.
.B LLMSPELL_MODEL
is short for
.BR LLMSPELL_MODELS_DEFAULT .
Of a provider,
.BI LLMSPELL_ NAME _BASE_URL\fR,
.BI LLMSPELL_ NAME _MODEL\fR,
.BI LLMSPELL_ NAME _TIMEOUT
and
.BI LLMSPELL_ NAME _MAX_RETRIES
set the keys of its section, for a name of one's own with
.B LLMSPELL_PROVIDER_
at the beginning.
.PP
Of version 0.10,
.BR LLMSPELL_ENGINE ", " LLMSPELL_TOOLS_ALLOWED_PATHS ", " LLMSPELL_TOOLS_MAX_FILE_SIZE
and
.B LLMSPELL_TOOLS_NETWORK_TIMEOUT
still set
.BR default_engine ", " tools.file_operations.allowed_paths ", " tools.file_operations.max_file_size
and
.BR tools.http_request.timeout_seconds .
.SH KEYS OF SERVICES
A key is looked for when the model is asked, in this order:
.IP 1. 3
.IR api_key_env ,
.IR api_key_file ,
.I api_key_command
and
.I api_key
of its section
.IP 2. 3
the environment:
.BI LLMSPELL_ NAME _API_KEY
and the service's own variable, such as
.B OPENAI_API_KEY
.IP 3. 3
the credential
.IB NAME -api-key
of a systemd service with
.BI LoadCredential= NAME -api-key:FILE
.IP 4. 3
.IR ~/.llmspell/keys.toml ,
which
.B llmspell\-kernel keys set
.I NAME
writes
.PP
No program shows a key.
.SH TRUST
Somebody else may have written a project's
.IR ./llmspell.toml .
Until its folder is trusted, the file may narrow permissions and set limits;
what else it says is refused with a warning, key by key, as told at each key.
.B llmspell\-run \-\-trust
trusts the folder with the file as it is;
once the file changes it must be trusted again.
Trusted folders are listed in
.I ~/.llmspell/trusted
with the SHA-256 of their file.
A file named with
.B \-\-config
is always trusted.
.SH EXAMPLES
A project that computes only, and gives its tools a minute:
.PP
.nf
[security]
profile = "safe"

[kernel.tools]
tool_timeout = "1m"
.fi
.PP
.B llmspell\-kernel config init
writes a file with every key;
.B llmspell\-kernel config show
tells the values in effect and where each comes from.
.SH SEE ALSO
.BR llmspell\-kernel (1),
.BR llmspell\-run (1),
.BR llmspell\-tool (1)
"#;

/// The page, as roff.
#[must_use]
pub fn page() -> String {
    let mut page = format!(".TH LLMSPELL.TOML 5 2026-11-23 \"llmspell {}\"\n{INTRODUCTION}", env!("CARGO_PKG_VERSION"));
    let (sections, keys) = &*KEYS;
    page += ".SH KEYS\n";
    keys.iter().filter(|key| key.section().is_empty()).for_each(|key| entry(key, &mut page));
    for section in sections {
        let mut keys = keys.iter().filter(|key| key.section() == section.path).peekable();
        if keys.peek().is_some() {
            let _ = write!(page, ".SS [{}]\n{}\n", escape(&section.path.replace('*', "NAME")), prose(&section.doc));
            keys.for_each(|key| entry(key, &mut page));
        }
    }
    page + REST
}

fn entry(key: &Key, page: &mut String) {
    let noun = if key.default.as_ref().is_some_and(Value::is_table) {
        format!("table, each {}", key.noun)
    } else {
        key.noun.clone()
    };
    let _ = write!(
        page,
        ".TP\n.BR {} \" (\" \"{}\" )\n{}\n",
        escape(key.name()),
        escape(&noun).replace('"', "\\(dq"),
        prose(&key.doc)
    );
    if let Some(default) = key.default.as_ref().filter(|default| !default.is_table()) {
        let _ = writeln!(page, "Default: {}.", escape(&default.to_string()));
    }
    if key.live {
        page.push_str("SIGHUP applies a new value.\n");
    }
    let limit = match key.project.as_deref() {
        Some("free") => return,
        Some("less") if key.kind == Kind::Bool => "Untrusted projects: only to turn it off.",
        Some("less") => "Untrusted projects: only to lower it.",
        Some("subset") => "Untrusted projects: only what is already allowed.",
        Some("inside") => "Untrusted projects: only inside their folder.",
        _ => "Untrusted projects: refused.",
    };
    let _ = writeln!(page, "{limit}");
}

/// `text` in short lines.
fn prose(text: &str) -> String {
    textwrap::wrap(text, 72).iter().map(|line| escape(line)).collect::<Vec<_>>().join("\n")
}

/// `text` as roff shows it literally.
fn escape(text: &str) -> String {
    let text =
        text.replace('\\', "\\e").replace('-', "\\-").replace('`', "").replace('~', "\\(ti").replace('^', "\\(ha");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_page_is_this_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../man/llmspell.toml.5");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, page()).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == page(),
            "run the tests with BLESS=1 and look at the difference"
        );
    }

    #[test]
    fn every_key_and_variable_name_is_in_the_page() {
        let page = page();
        for key in &KEYS.1 {
            assert!(page.contains(&format!(".BR {} ", escape(key.name()))), "{}", key.path);
        }
        for (name, _) in super::super::former::VARIABLES {
            assert!(page.contains(name), "{name}");
        }
    }
}
