//! Files, programs, environment and modules, as the policy has it.

use std::fs;

use super::interrupt::interrupted;
use super::*;
use crate::protocol::content::Display;
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
fn a_size_that_fits_nowhere_is_an_error() {
    for call in ["io.tmpfile():read(math.maxinteger - 100)", "io.tmpfile():lines(2^62)", "io.tmpfile():read('l', 1e18)"]
    {
        let error = failure(call);
        assert!(error.evalue.ends_with("(more than 1 GiB at once)"), "{call}: {}", error.evalue);
    }
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

#[test]
fn files_are_opened_once_and_never_wait() {
    let folder = folder();
    rustix::fs::mknodat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let code = "for _, mode in ipairs{'r', 'r+', 'w', 'a+'} do local f, e = io.open('pipe', mode) print(f, e and e.class or e) end
        print(io.open('.', 'r'):read())
        local f = io.open('a', 'w+b') f:write('longer') f:close() f = io.open('a', 'w') f:write('x') f:close()
        f = io.open('a', 'a+') f:write('y') f:seek('set') print(f:read('a')) print(f:close()) print(pcall(f.read, f))
        print(pcall(io.open, 'a', 'rw')) print(io.tmpfile():write('t'):seek('cur'))";
    let (outcome, text) = in_folder(folder.path(), code, |grants| grants.read.push("/dev/null".into()));
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0] == "nil\tdenied" && lines[1] == "nil\tdenied" && lines[3] == "nil\tdenied", "{text}");
    assert!(lines[2].starts_with("nil\t"), "{text}");
    assert_eq!(
        lines[4..],
        [
            "nil\tIs a directory\t21",
            "xy",
            "true",
            "false\tattempt to use a closed file",
            "false\tbad argument #2 to 'open' (invalid mode)",
            "1"
        ]
    );
    // Files are made as of the policy, which keeps the umask in mind; not as `fopen` would.
    assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"xy");
}

fn with_shell(folder: &Path) -> Lua {
    Lua::new(runtime(folder, |_, grants| grants.run = vec!["sh".into()])).unwrap()
}

#[test]
fn a_pipe_ends_with_its_script() {
    let folder = folder();
    let mut engine = with_shell(folder.path());
    for code in [
        "io.popen('sleep 60'):read('a')",
        "io.popen('sleep 60'):close()",
        "for _ in io.popen('sleep 60 & wait'):lines() do end",
        "while true do pcall(function() io.popen('sleep 60'):read('a') end) end",
        "local p = io.popen('sleep 60', 'w') p:write(('x'):rep(1 << 20)) p:flush()",
        "local p = io.popen('yes') while true do p:read('l') end",
        "coroutine.wrap(function() io.popen('echo $$ > pid; exec sleep 60'):read('a') end)()",
    ] {
        interrupted(&mut engine, code);
    }
    let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    soon(Duration::from_secs(5), gone);
    let mut script = script("io.popen('sleep 60'):read('a')");
    script.deadline = Some(Instant::now() + Duration::from_millis(50));
    let output = Arc::new(Kept::default()) as Arc<dyn Output>;
    assert_eq!(engine.execute(&script, &output).error.unwrap().class, Class::Timeout);
}

#[test]
fn pipes_tell_how_the_program_ended() {
    let folder = folder();
    let code = "print(io.popen('exit 3'):close()) print(io.popen('kill -9 $$'):close()) print(io.popen('true'):close())
        local p = io.popen('cat > out', 'w') p:write('text') print(p:close()) print(io.open('out'):read('a'))
        print(pcall(io.popen, 'true', 'rw')) print(io.type(p), io.popen('cat'):read('a') == '')";
    let (outcome, text) = run(&mut with_shell(folder.path()), code);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(
        text,
        "nil\texit\t3\nnil\tsignal\t9\ntrue\texit\t0\ntrue\texit\t0\ntext\nfalse\tbad argument #2 to 'popen' (invalid mode)\nclosed file\ttrue\n"
    );
}

#[test]
fn programs_see_of_the_environment_what_the_script_may() {
    let folder = folder();
    // Cargo sets this one for the tests; nothing allows it.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let code = "os.execute('echo ${CARGO_MANIFEST_DIR-none} ${PATH:+path}') print(io.popen('echo ${CARGO_MANIFEST_DIR-none} ${PATH:+path}'):read('a'))";
    assert_eq!(run(&mut with_shell(folder.path()), code).1, "none path\nnone path\n\n");
}

/// Takes its time, and counts.
#[derive(Default)]
struct Slow(std::sync::atomic::AtomicUsize);

impl Output for Slow {
    fn write(&self, _: Stream, bytes: &[u8]) -> Result<()> {
        std::thread::sleep(Duration::from_millis(5));
        self.0.fetch_add(bytes.len(), std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn display(&self, _: &Display, _: bool) -> Result<()> {
        Ok(())
    }

    fn clear(&self, _: bool) -> Result<()> {
        Ok(())
    }

    fn input(&self, _: &str, _: bool) -> Result<Option<String>> {
        Ok(None)
    }
}

#[test]
fn a_command_writes_no_faster_than_it_is_read() {
    let folder = folder();
    let mut engine = with_shell(folder.path());
    let slow = Arc::new(Slow::default());
    let output = Arc::clone(&slow) as Arc<dyn Output>;
    let code = "os.execute('head -c 3000000 /dev/zero; echo $$ > done')";
    let writer = |path: std::path::PathBuf| move || path.exists();
    let done = writer(folder.path().join("done"));
    let written = Arc::clone(&slow);
    let watch = std::thread::spawn(move || {
        soon(Duration::from_secs(20), done);
        written.0.load(std::sync::atomic::Ordering::SeqCst)
    });
    assert!(engine.execute(&script(code), &output).error.is_none());
    // What is on its way is in the queue and in the pipe.
    assert!(watch.join().unwrap() > 2_000_000);
    assert_eq!(slow.0.load(std::sync::atomic::Ordering::SeqCst), 3_000_000, "nothing gets lost");
    interrupted(&mut engine, "os.execute('yes')");
    let began = Instant::now();
    assert!(engine.execute(&script("os.execute('yes & echo $! > pid')"), &output).error.is_none());
    assert!(began.elapsed() < Duration::from_secs(5), "what runs in the background is not waited for");
    run(&mut engine, "os.execute('kill $(cat pid)')");
}

#[test]
fn a_pipe_that_is_collected_between_scripts_is_not_waited_for() {
    let folder = folder();
    let mut engine = with_shell(folder.path());
    assert!(run(&mut engine, "io.popen('sleep 20') io.popen('sleep 20', 'w'):write('x')").0.error.is_none());
    let began = Instant::now();
    engine.state().gc_collect().unwrap();
    engine.state().gc_collect().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
