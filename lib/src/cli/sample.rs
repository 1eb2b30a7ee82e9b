//! Two small tables the tests of this module share.

use super::{Command, Example, Flag, Group, Operand};

#[derive(Debug, Default)]
pub(super) struct Did {
    pub(super) port: Option<u16>,
    pub(super) quiet: bool,
    pub(super) allow: Option<Option<String>>,
    pub(super) words: Vec<String>,
}

const QUIET: Flag<Did> =
    Flag::switch("quiet", |did: &mut Did| did.quiet = true).short('q').excludes(&["loud"]).doc("Say less.");

const PORT: Flag<Did> = Flag::value("port", "PORT", |did: &mut Did, value| {
    did.port = Some(value.parse("a port number")?);
    Ok(())
})
.short('p')
.doc("Listen on PORT. Zero is any.");

const WORD: Operand<Did> = Operand::new("WORD", |did: &mut Did, value| {
    did.words.push(value.into_text()?);
    Ok(())
})
.doc("Any word.");

pub(super) const PROGRAM: Command<Did, Did> = Command::new("sample", "do what samples do")
    .about(&["It does `very` little. And\\that well."])
    .flags(&[Group::new(
        "Flags",
        &[
            PORT,
            QUIET,
            Flag::switch("loud", |_| ()).doc("Say more."),
            Flag::value("kind", "KIND", |_, _| Ok(())).choices(&["red", "green"]).doc("What kind [of: it's]."),
            Flag::value("input", "FILE", |_, _| Ok(())).short('i').doc("Read FILE."),
            Flag::optional("allow", "LIST", |did: &mut Did, value| {
                did.allow = Some(value.map(|value| value.text().map(str::to_owned)).transpose()?);
                Ok(())
            })
            .doc("Allow LIST, or everything."),
            Flag::absent("later", "Wait."),
        ],
    )])
    .operands(&[WORD, WORD.optional().repeated()])
    .flags_end_at_operands()
    .examples(&[Example::new("Say x.", "sample -q x").prints("x\n"), Example::new("Read.", "sample - <f")])
    .make(Ok);

pub(super) const NESTED: Command<Did, Did> = Command::new("nested", "have commands")
    .common(&[Group::new(
        "Common",
        &[Flag::switch("quiet", |did: &mut Did| did.quiet = true).short('q').doc("Say less.")],
    )])
    .flags(&[Group::new("Own", &[PORT])])
    .commands(&[Command::new("config", "work on the configuration").commands(&[Command::new("show", "print it")
        .aliases(&[("print", &[]), ("whisper", &["quiet"])])
        .flags(&[Group::new("Output", &[Flag::switch("json", |_| ()).doc("Print JSON.")])])
        .operands(&[WORD.optional()])
        .make(|mut did| {
            did.words.insert(0, "show".to_owned());
            Ok(did)
        })])])
    .make(|mut did| {
        did.words.push("root".to_owned());
        Ok(did)
    });
