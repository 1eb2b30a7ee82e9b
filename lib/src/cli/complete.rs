//! Completions for bash, zsh and fish: sub-commands, flags, choices, files and folders.

use super::table::{Action, Command, Flag};
use super::{Trail, help};

/// The completion of `program` for bash 4 and later.
pub(super) fn bash<D, A>(program: &'static Command<D, A>) -> String {
    let (name, function) = (program.name, identifier(program.name));
    let mut text = format!(
        "# bash completion of {name}, made by `{name} --generate bash`.\n
{function}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} at= operands=0 value= i
    # bash splits at the equals sign.
    if [[ $cur == = ]]; then
        cur= value=1
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD-2]}} value=1
    fi
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
"
    );
    let valued = patterns(program, "|");
    text += &format!(
        "            {valued}) ((i++)); [[ ${{COMP_WORDS[i]}} == = ]] && ((i++)) ;;\n            =) ((i++)) ;;\n            -?*) ;;\n"
    );
    text += "            *)\n                case $at/${COMP_WORDS[i]} in\n";
    let all = Trail::new(program).all();
    for trail in all.iter().skip(1) {
        text += &format!("                    {}) at={} ;;\n", places(trail).join("|"), place(trail));
    }
    text += "                    *) ((operands++)) ;;\n                esac ;;\n        esac\n    done\n";
    if program.flags_end {
        text += "    if ((operands > 0)); then\n        compopt -o default\n        return\n    fi\n";
    }
    text += "    case $prev in\n";
    for flag in distinct(program).into_iter().filter(|flag| flag.takes_value()) {
        let reply = match what(flag.metavar, flag.choices) {
            What::Choices(words) => format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", words.join(" ")),
            What::Files => "compopt -o default".to_owned(),
            What::Folders => "compopt -o dirnames".to_owned(),
            What::Kernels => format!("COMPREPLY=($(compgen -W \"$({KERNELS})\" -- \"$cur\"))"),
            What::Nothing => ":".to_owned(),
        };
        text += &format!("        {}) {reply}; return ;;\n", spellings(flag).join("|"));
    }
    text += "    esac
    if [[ -n $value ]]; then
        compopt -o default
        return
    fi
    local words= files=
    case $at in
";
    for trail in &all {
        let flags: Vec<_> = shown(trail).flat_map(spellings).collect();
        let words: Vec<_> = trail.last().commands.iter().map(|sub| sub.name).collect();
        let words =
            if takes(trail, What::is_kernels) { format!("\"$({KERNELS})\"") } else { format!("'{}'", words.join(" ")) };
        let files = if takes(trail, What::is_files) { " files=1" } else { "" };
        text += &format!(
            "        '{}') if [[ $cur == -* ]]; then words='{}'; else words={words}{files}; fi ;;\n",
            place(trail),
            flags.join(" "),
        );
    }
    text += &format!(
        "    esac
    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))
    [[ -z $files ]] || compopt -o default
}}

complete -F {function} {name}
"
    );
    text
}

/// The completion of `program` for zsh; as `_NAME` in a folder of `$fpath`, or read by `source`.
pub(super) fn zsh<D, A>(program: &'static Command<D, A>) -> String {
    let (name, function) = (program.name, identifier(program.name));
    let mut text = format!("#compdef {name}\n# zsh completion of {name}, made by `{name} --generate zsh`.\n");
    if Trail::new(program).all().iter().any(|trail| takes(trail, What::is_kernels)) {
        text += &format!("\n_llmspell_kernels() {{\n    compadd -- $({KERNELS})\n}}\n");
    }
    for trail in Trail::new(program).all() {
        let command = trail.last();
        let stop = if command.flags_end { " -A '-*'" } else { "" };
        text += &format!("\n{}() {{\n    local line state\n    _arguments -s -S{stop}", identifier(&trail.name()));
        for flag in shown(&trail) {
            text += &format!(" \\\n        {}", zsh_flag(flag));
        }
        if command.commands.is_empty() {
            for row in command.operands {
                let place = if row.repeated { "*" } else { "" };
                let action = zsh_action(row.metavar, &[]);
                text += &format!(" \\\n        '{place}:{}:{action}'", row.metavar.replace(':', "\\:"));
            }
            text += "\n}\n";
            continue;
        }
        let words = command.commands.iter().map(|sub| format!("{}\\:{}", sub.name, quoted(sub.summary, " ")));
        text += &format!(" \\\n        '1:command:(({}))' '*:: :->rest'\n", words.collect::<Vec<_>>().join(" "));
        text += "    case $state:$line[1] in\n";
        for sub in command.commands {
            let function = identifier(&format!("{} {}", trail.name(), sub.name));
            let names = [sub.name].into_iter().chain(sub.aliases.iter().map(|(alias, _)| *alias));
            let rest: Vec<String> = names.map(|name| format!("rest:{name}")).collect();
            text += &format!("        {}) {function} ;;\n", rest.join("|"));
        }
        text += "    esac\n}\n";
    }
    text += &format!(
        "\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n    {function} \"$@\"\nelse\n    compdef {function} {name}\nfi\n"
    );
    text
}

/// The completion of `program` for fish.
pub(super) fn fish<D, A>(program: &'static Command<D, A>) -> String {
    let (name, at) = (program.name, format!("_{}_at", identifier(program.name)));
    let mut text = format!(
        "# fish completion of {name}, made by `{name} --generate fish`.

# Whether the command line so far leads to the command $argv[1] and, where flags end there, to no operand.
function {at}
    set -l words (commandline -opc)
    set -e words[1]
    set -l place
    set -l skip
    for word in $words
        if test -n \"$skip\"
            set skip
            continue
        end
        if contains -- $word {valued}
            set skip 1
        else if string match -qr '^-.' -- $word
            continue
        else
            switch \"$place/$word\"
",
        valued = patterns(program, " "),
    );
    let all = Trail::new(program).all();
    for trail in all.iter().skip(1) {
        let (places, place) = (places(trail).join(" "), place(trail));
        text += &format!("                case {places}\n                    set place {place}\n");
    }
    let stop = if program.flags_end { "                case '*'\n                    return 1\n" } else { "" };
    text += &format!(
        "{stop}            end\n        end\n    end\n    test \"$place\" = \"$argv[1]\"\nend\n\ncomplete -c {name} -f\n"
    );
    if program.flags_end {
        text += &format!("complete -c {name} -n 'not {at} \"\"' -F\n");
    }
    for trail in &all {
        let rule = format!("complete -c {name} -n '{at} \"{}\"'", place(trail));
        for sub in trail.last().commands {
            text += &format!("{rule} -a {} -d '{}'\n", sub.name, quoted(sub.summary, "'\\"));
        }
        if takes(trail, What::is_files) {
            text += &format!("{rule} -F\n");
        }
        if takes(trail, What::is_kernels) {
            text += &format!("{rule} -a '({})'\n", quoted(KERNELS_FISH, "'\\"));
        }
        for flag in shown(trail) {
            let short = flag.short.map(|short| format!(" -s {short}")).unwrap_or_default();
            let value = match what(flag.metavar, flag.choices) {
                _ if !flag.takes_value() => String::new(),
                What::Choices(words) => format!(" -x -a '{}'", words.join(" ")),
                What::Files => " -r -F".to_owned(),
                What::Folders => " -x -a '(__fish_complete_directories)'".to_owned(),
                What::Kernels => format!(" -x -a '({})'", quoted(KERNELS_FISH, "'\\")),
                What::Nothing => " -x".to_owned(),
            };
            text += &format!("{rule}{short} -l {}{value} -d '{}'\n", flag.name, quoted(&brief(flag), "'\\"));
        }
    }
    text
}

/// What can stand for a metavariable.
enum What {
    Choices(&'static [&'static str]),
    Files,
    Folders,
    Kernels,
    Nothing,
}

impl What {
    fn is_files(&self) -> bool {
        matches!(self, What::Files)
    }

    fn is_kernels(&self) -> bool {
        matches!(self, What::Kernels)
    }
}

/// Prints the ids of the kernels there are, for any POSIX shell.
const KERNELS: &str = "ls \"${LLMSPELL_HOME:-$HOME/.llmspell}/kernel\" \"${LLMSPELL_HOME:-$HOME/.llmspell}/fleet/wanted\" \
                       2>/dev/null | sed -n 's/\\.json$//p' | sort -u";
/// The same for fish.
const KERNELS_FISH: &str = "set -l home $LLMSPELL_HOME; test -n \"$home\"; or set home ~/.llmspell; \
                            path basename $home/kernel/*.json $home/fleet/wanted/*.json | string replace .json \"\" | sort -u";

fn what(metavar: &str, choices: &'static [&'static str]) -> What {
    match metavar {
        _ if !choices.is_empty() => What::Choices(choices),
        "FILE" | "ARG" | "CONFIG" => What::Files,
        "DIR" => What::Folders,
        "KERNEL" => What::Kernels,
        _ => What::Nothing,
    }
}

fn takes<D, A>(trail: &Trail<D, A>, kind: fn(&What) -> bool) -> bool {
    trail.last().operands.iter().any(|row| kind(&what(row.metavar, &[])))
}

fn zsh_flag<D>(flag: &Flag<D>) -> String {
    let doc = quoted(&brief(flag), "[]:\\").replace('\'', "'\\''");
    let value = format!(":{}:{}", flag.metavar.replace(':', "\\:"), zsh_action(flag.metavar, flag.choices));
    let long = flag.long();
    match (&flag.action, flag.short) {
        (Action::Optional(_), _) => format!("'{long}=-[{doc}]:{value}'"),
        (_, Some(short)) if flag.takes_value() => format!("'(-{short} {long})'{{-{short}+,{long}=}}'[{doc}]{value}'"),
        (_, None) if flag.takes_value() => format!("'{long}=[{doc}]{value}'"),
        (_, Some(short)) => format!("'(-{short} {long})'{{-{short},{long}}}'[{doc}]'"),
        (_, None) => format!("'{long}[{doc}]'"),
    }
}

fn zsh_action(metavar: &str, choices: &'static [&'static str]) -> String {
    match what(metavar, choices) {
        What::Choices(words) => format!("({})", words.join(" ")),
        What::Files => "_files".to_owned(),
        What::Folders => "_files -/".to_owned(),
        What::Kernels => "_llmspell_kernels".to_owned(),
        What::Nothing => " ".to_owned(),
    }
}

/// The first sentence without markup and full stop.
fn brief<D>(flag: &Flag<D>) -> String {
    help::first_sentence(flag.doc).trim_end_matches('.').replace('`', "")
}

/// `text` with a backslash before each of `special`.
fn quoted(text: &str, special: &str) -> String {
    text.chars().flat_map(|c| special.contains(c).then_some('\\').into_iter().chain([c])).collect()
}

/// `-p`, `--port`.
fn spellings<D>(flag: &Flag<D>) -> Vec<String> {
    flag.short.map(|short| format!("-{short}")).into_iter().chain([flag.long()]).collect()
}

fn shown<D, A>(trail: &Trail<D, A>) -> impl Iterator<Item = &'static Flag<D>> + use<'_, D, A> {
    trail.flags().filter(|flag| !flag.hidden)
}

/// Every flag of any command once, hidden ones too.
fn distinct<D, A>(program: &'static Command<D, A>) -> Vec<&'static Flag<D>> {
    let mut flags: Vec<&Flag<D>> = Vec::new();
    for trail in Trail::new(program).all() {
        for flag in trail.flags() {
            if flags.iter().all(|known| known.name != flag.name) {
                flags.push(flag);
            }
        }
    }
    flags
}

/// Spellings of the flags whose value is the next word.
fn patterns<D, A>(program: &'static Command<D, A>, between: &str) -> String {
    let flags = distinct(program).into_iter().filter(|flag| flag.takes_value());
    flags.flat_map(spellings).collect::<Vec<_>>().join(between)
}

/// `/config/show`; empty for the program itself.
fn place<D, A>(trail: &Trail<D, A>) -> String {
    trail.0.iter().skip(1).map(|command| format!("/{}", command.name)).collect()
}

/// The same with each of its names.
fn places<D, A>(trail: &Trail<D, A>) -> Vec<String> {
    let place = place(trail);
    let parent = place.strip_suffix(trail.last().name).unwrap_or_default();
    let aliases = trail.last().aliases.iter().map(|(alias, _)| format!("{parent}{alias}"));
    [place.clone()].into_iter().chain(aliases).collect()
}

/// A function name of a shell: `_llmspell_kernel_config`.
fn identifier(name: &str) -> String {
    format!("_{}", name.replace([' ', '-'], "_"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command as Process, Stdio};

    use super::super::sample::{NESTED, PROGRAM};
    use super::*;

    /// What `shell` prints for `script`; nothing where the shell is not installed.
    fn run(shell: &[&str], script: &str) -> Option<String> {
        let child = Process::new(shell[0])
            .args(&shell[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.ok()?;
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaint.is_empty(), "{shell:?}: {complaint}\n{script}");
        Some(String::from_utf8(output.stdout).unwrap())
    }

    /// Completes the last of `words` in bash, without the files readline would add.
    fn in_bash<D, A>(program: &'static Command<D, A>, words: &[&str]) -> String {
        let words: Vec<_> = [program.name].iter().chain(words).map(|word| format!("'{word}'")).collect();
        let script = format!(
            "compopt() {{ echo \"$2\"; }}\n{}\nCOMP_WORDS=({}); COMP_CWORD={}; {}; echo \"${{COMPREPLY[*]}}\"",
            bash(program),
            words.join(" "),
            words.len() - 1,
            identifier(program.name)
        );
        run(&["bash"], &script).unwrap().trim().to_owned()
    }

    #[test]
    fn every_shell_can_read_them() {
        for (bash, zsh, fish) in
            [(bash(&PROGRAM), zsh(&PROGRAM), fish(&PROGRAM)), (bash(&NESTED), zsh(&NESTED), fish(&NESTED))]
        {
            run(&["bash", "-n"], &bash);
            run(&["zsh", "-n"], &zsh);
            run(&["fish", "--no-execute"], &fish);
        }
    }

    #[test]
    fn bash_completes() {
        assert_eq!(in_bash(&PROGRAM, &["--k"]), "--kind");
        assert_eq!(in_bash(&PROGRAM, &["--kind", ""]), "red green");
        assert_eq!(in_bash(&PROGRAM, &["--kind", "=", "g"]), "green");
        assert_eq!(in_bash(&PROGRAM, &["--kind", "="]), "red green");
        assert_eq!(in_bash(&PROGRAM, &["-i", ""]), "default");
        assert_eq!(in_bash(&PROGRAM, &["--port", ""]), "");
        assert_eq!(in_bash(&PROGRAM, &["word", "--k"]), "default");
        assert_eq!(in_bash(&PROGRAM, &["--allow", "=", "x", "--k"]), "--kind");
        assert_eq!(in_bash(&PROGRAM, &["--allow", "=", "x"]), "default");
        assert_eq!(in_bash(&NESTED, &["c"]), "config");
        assert_eq!(in_bash(&NESTED, &["--port", "=", "1", "config", ""]), "show");
        assert_eq!(in_bash(&NESTED, &["-q", "config", "show", "--j"]), "--json");
        assert_eq!(in_bash(&NESTED, &["config", "print", "--j"]), "--json");
    }

    #[test]
    fn fish_completes() {
        let complete =
            |program: &str, line: &str| run(&["fish", "--no-config"], &format!("{program}\ncomplete -C '{line}'\n"));
        let Some(commands) = complete(&fish(&NESTED), "nested -q config ") else { return };
        assert_eq!(commands, "show\tprint it\n");
        assert_eq!(
            complete(&fish(&PROGRAM), "sample --kind ").unwrap(),
            "green\tWhat kind [of: it's]\nred\tWhat kind [of: it's]\n"
        );
        assert_eq!(complete(&fish(&PROGRAM), "sample --ki").unwrap(), "--kind\tWhat kind [of: it's]\n");
        assert_eq!(complete(&fish(&PROGRAM), "sample x --ki").unwrap(), "");
    }
}
