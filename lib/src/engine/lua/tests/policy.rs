//! Files, programs, environment and modules, as the policy has it.

use std::fs;

use super::interrupt::interrupted;
use super::*;
use crate::security::Profile;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn in_folder(folder: &Path, code: &str, change: impl FnOnce(&mut Grants)) -> (Outcome, String) {
    let mut engine = Lua::new(runtime(folder, |_, grants| change(grants))).unwrap();
    let kept = Arc::new(Kept::default());
    let script = Script { name: "@main.lua".into(), ..script(code) };
    let outcome = engine.execute(&script, &(Arc::clone(&kept) as Arc<dyn Output>));
    (outcome, kept.text())
}

#[test]
fn files_below_the_working_folder() {
    let folder = folder();
    let code = "local f = assert(io.open('a.txt', 'w')) f:write('one\\ntwo\\n') f:close()
        f = io.open('a.txt', 'a') f:write('three') f:close()
        for line in io.lines('a.txt') do print(line) end
        io.output('b.txt') io.write('b') io.close() io.output(io.stdout)
        io.input('b.txt') print(io.read('a')) io.input(io.stdin)
        print(io.open('none.txt'))
        print(os.rename('b.txt', 'c.txt'), os.remove('c.txt'), select('#', os.remove('c.txt')))
        f = io.open('a.txt', 'r+') f:seek('end') f:write('!') f:seek('set') print(#f:read('a')) f:close()
        print(io.type(f))";
    let (outcome, text) = in_folder(folder.path(), code, |_| ());
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(
        text,
        "one\ntwo\nthree\nb\nnil\tnone.txt: No such file or directory\t2\ntrue\ttrue\t3\n14\nclosed file\n"
    );
}

#[test]
fn denied_files_keep_their_class() {
    let folder = folder();
    let (outcome, text) = in_folder(
        folder.path(),
        "local f, e = io.open('/etc/passwd') print(f, e.class) assert(io.open('/etc/passwd'))",
        |_| (),
    );
    assert_eq!(text, "nil\tdenied\n");
    assert_eq!(outcome.error.unwrap().class, Class::Denied);
    for code in [
        "io.lines('/etc/passwd')",
        "dofile('/etc/passwd')",
        "assert(loadfile('/etc/passwd'))",
        "assert(os.remove('/etc/passwd'))",
    ] {
        assert_eq!(in_folder(folder.path(), code, |_| ()).0.error.expect(code).class, Class::Denied, "{code}");
    }
    let (outcome, _) = in_folder(folder.path(), "io.open('a.txt', 'w')", |grants| grants.profile = Profile::Safe);
    assert!(outcome.error.is_none());
    assert!(!folder.path().join("a.txt").exists());
}

#[test]
fn environment_and_programs() {
    let folder = folder();
    assert_eq!(in_folder(folder.path(), "print(os.getenv('CARGO_MANIFEST_DIR'))", |_| ()).1, "nil\n");
    assert_ne!(
        in_folder(folder.path(), "print(os.getenv('CARGO_MANIFEST_DIR'))", |grants| grants.env =
            vec!["CARGO_MANIFEST_DIR".into()])
        .1,
        "nil\n"
    );
    for code in ["os.execute('true')", "io.popen('true')"] {
        let error = in_folder(folder.path(), code, |_| ()).0.error.expect(code);
        assert_eq!(error.class, Class::Denied);
        assert!(error.hint.is_some_and(|hint| hint.contains("--allow-run")), "{code}");
    }
    let allow = |grants: &mut Grants| grants.run = vec!["sh".into()];
    let code = "print(os.execute('echo out; exit 3')) print(os.execute('kill -9 $$')) print(os.execute()) print(io.popen('pwd'):read('a'))";
    let (outcome, text) = in_folder(folder.path(), code, allow);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let real = folder.path().canonicalize().unwrap();
    assert_eq!(text, format!("out\nnil\texit\t3\nnil\tsignal\t9\ntrue\n{}\n\n", real.display()));
}

#[test]
fn modules() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("lib/deep")).unwrap();
    fs::write(folder.path().join("one.lua"), "return {name = ..., file = select(2, ...)}").unwrap();
    fs::write(folder.path().join("lib/deep/init.lua"), "return 'deep'").unwrap();
    fs::write(folder.path().join("broken.lua"), "local x = 1\nreturn x.y.z").unwrap();
    fs::write(folder.path().join("syntax.lua"), "x = = 1").unwrap();
    let (outcome, text) = in_folder(
        folder.path(),
        "local one, at = require('one') print(one.name, one.file, at, require('one') == one, require('lib.deep'), dofile('lib/deep/init.lua'))",
        |_| (),
    );
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(text, "one\tone.lua\tone.lua\ttrue\tdeep\tdeep\n");
    let error = in_folder(folder.path(), "\nrequire('broken')", |_| ()).0.error.unwrap();
    assert!(error.evalue.starts_with("broken.lua:2: attempt to index"), "{}", error.evalue);
    assert!(error.traceback.iter().any(|line| line.contains("main.lua:2:")), "{:?}", error.traceback);
    let error = in_folder(folder.path(), "require('syntax')", |_| ()).0.error.unwrap();
    assert!(error.evalue.contains("syntax.lua:1: unexpected symbol"), "{}", error.evalue);
    let error = in_folder(folder.path(), "require('missing.one')", |_| ()).0.error.unwrap();
    assert!(error.evalue.contains("no file 'missing/one.lua'"), "{}", error.evalue);
}

#[test]
fn configured_folders_of_modules_may_be_read() {
    let modules = folder();
    let folder = folder();
    fs::write(modules.path().join("far.lua"), "return 'far'").unwrap();
    let path = modules.path().to_path_buf();
    let runtime = runtime(folder.path(), |config, grants| {
        config.engines.lua.package_paths.push(path);
        grants.profile = Profile::Safe;
    });
    let outcome = run(&mut Lua::new(runtime).unwrap(), "return (require('far'))").0;
    assert_eq!(outcome.value.map(|value| value.text).as_deref(), Some("far"), "{:?}", outcome.error);
}

#[test]
fn a_command_ends_with_its_script() {
    let folder = folder();
    let mut engine = Lua::new(runtime(folder.path(), |_, grants| grants.run = vec!["sh".into()])).unwrap();
    interrupted(&mut engine, "os.execute('sleep 60 & wait')");
    let began = Instant::now();
    let outcome = run(&mut engine, "return os.execute('sleep 60 >/dev/null 2>&1 & echo $! > pid')").0;
    assert_eq!(outcome.value.unwrap().text, "true\texit\t0");
    assert!(began.elapsed() < Duration::from_secs(5), "what runs in the background is not waited for");
    run(&mut engine, "os.execute('kill $(cat pid)')");
}

#[test]
fn only_a_script_its_user_named_opens_its_folder_to_require() {
    let modules = folder();
    let folder = folder();
    fs::write(modules.path().join("m.lua"), "return 'read'").unwrap();
    let name = format!("@{}/main.lua", modules.path().display());
    // The temporary folder itself is allowed under `standard`, so that one would prove nothing.
    let mut engine = Lua::new(runtime(folder.path(), |_, grants| grants.profile = Profile::Safe)).unwrap();
    let output = Arc::new(Kept::default()) as Arc<dyn Output>;
    let mut run = |own_folder| {
        let script = Script { name: name.clone(), own_folder, ..script("return (require('m'))") };
        engine.execute(&script, &output)
    };
    assert!(run(false).error.unwrap().evalue.contains("outside the folders allowed to read"));
    assert_eq!(run(true).value.unwrap().text, "read");
}
