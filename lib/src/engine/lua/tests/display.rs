//! `display`, `Display`, `Progress`, values in their forms, and the lines of errors.

use serde_json::{Value, json};

use super::*;

/// What `code` shows, with ids taken out.
fn shows(code: &str) -> Vec<(String, Value)> {
    let kept = Arc::new(Kept::default());
    let outcome = engine().execute(&script(code), &(Arc::clone(&kept) as Arc<dyn Output>));
    assert!(outcome.error.is_none(), "{code}: {:?}", outcome.error);
    assert!(outcome.value.is_none(), "{code}: {:?}", outcome.value);
    let shown = kept.shown.lock().unwrap();
    shown
        .iter()
        .map(|line| {
            let (kind, rest) = line.split_once(' ').unwrap();
            (kind.to_owned(), serde_json::from_str(rest).unwrap())
        })
        .collect()
}

fn data(code: &str) -> Value {
    shows(code)[0].1["data"].clone()
}

#[test]
fn kinds_of_content() {
    for (code, expected) in [
        ("display('a')", json!({"text/plain": "a"})),
        ("display({x = 1})", json!({"text/plain": "{x = 1}", "application/json": {"x": 1}})),
        ("display({['text/x'] = 'a'})", json!({"text/x": "a"})),
        (
            "Display.html('<p>a &lt; <b>b</b></p>')",
            json!({"text/html": "<p>a &lt; <b>b</b></p>", "text/plain": "a < b"}),
        ),
        ("Display.markdown('*a*')", json!({"text/markdown": "*a*", "text/plain": "*a*"})),
        ("Display.latex('$a$')", json!({"text/latex": "$a$", "text/plain": "$a$"})),
        ("Display.text(1.5)", json!({"text/plain": "1.5"})),
        (
            "Display.json({a = {1}})",
            json!({"application/json": {"a": [1]}, "text/plain": "{\n  \"a\": [\n    1\n  ]\n}"}),
        ),
        ("Display.svg('<svg/>')", json!({"image/svg+xml": "<svg/>", "text/plain": "<svg, 6 bytes>"})),
    ] {
        assert_eq!(data(code), expected, "{code}");
    }
}

#[test]
fn tables_of_records() {
    let bundle = data("Display.table({{n = 1, s = '<a>'}, {n = 22}})");
    assert_eq!(bundle["text/plain"], "n   s\n--  ---\n 1  <a>\n22");
    let html = "<table>\n<thead><tr><th>n</th><th>s</th></tr></thead>\n<tbody>\n<tr><td>1</td><td>&lt;a&gt;</td></tr>\n<tr><td>22</td><td></td></tr>\n</tbody>\n</table>";
    assert_eq!(bundle["text/html"], html);
    assert!(
        data("Display.table({{a = 1, b = 2}}, {columns = {'b'}})")["text/html"]
            .as_str()
            .unwrap()
            .contains("<th>b</th></tr>")
    );
    let (outcome, _) = run(&mut engine(), "return {{n = 1, s = '<a>'}, {n = 22}}");
    let bundle = outcome.value.unwrap().bundle();
    assert_eq!(bundle["text/html"], html);
    assert_eq!(bundle[crate::engine::TABLE_JSON], json!([{"n": 1, "s": "<a>"}, {"n": 22}]));
    // JupyterLab would prefer its tree to the table.
    assert!(!bundle.contains_key("application/json"));
    for code in
        ["return {1, 2}", "return {{1}}", "return {{a = 1}, 2}", "return {{[1.5] = 1}}", "return {{}}", "return {}"]
    {
        assert_eq!(run(&mut engine(), code).0.value.unwrap().html, None, "{code}");
    }
    assert_eq!(failure("Display.table({1})").class, Class::Usage);
}

#[test]
fn images() {
    let dir = tempfile::tempdir().unwrap();
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x04";
    std::fs::write(dir.path().join("a.png"), png).unwrap();
    std::fs::write(dir.path().join("b.png"), b"GIF89a").unwrap();
    let run = |code: &str| {
        let kept = Arc::new(Kept::default());
        let read = dir.path().to_path_buf();
        let mut engine = Lua::new(runtime(dir.path(), |_, grants| grants.read.push(read))).unwrap();
        let outcome = engine.execute(&script(code), &(Arc::clone(&kept) as Arc<dyn Output>));
        (outcome.error.map(|error| error.class), kept.shown.lock().unwrap().first().cloned())
    };
    let bytes = r"Display.png('\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x04', {width = 30})";
    for code in ["Display.png('a.png', {width = 30})", bytes] {
        let (class, shown) = run(code);
        assert_eq!(class, None, "{code}");
        let shown: Value = serde_json::from_str(shown.unwrap().strip_prefix("display ").unwrap()).unwrap();
        assert_eq!(shown["data"]["image/png"], "iVBORw0KGgoAAAANSUhEUgAAAAMAAAAE");
        assert_eq!(shown["data"]["text/plain"], "<png 3x4, 24 bytes>");
        assert_eq!(shown["metadata"], json!({"image/png": {"width": 30}}));
    }
    assert_eq!(run("Display.png('/etc/hostname')").0, Some(Class::Denied));
    assert_eq!(run("Display.png('none.png')").0, Some(Class::NotFound));
    assert_eq!(run("Display.png('b.png')").0, Some(Class::Usage));
}

#[test]
fn what_is_shown_is_updated_and_cleared() {
    let shown = shows(
        "local h = Display.html('a') h:update('b') display(1, {id = 'x'}) Display.update('x', 2) Display.clear(true) h:update('c')",
    );
    let kinds: Vec<_> = shown.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["display", "update", "display", "update", "clear", "update"]);
    assert_eq!(shown[0].1["transient"], shown[1].1["transient"]);
    assert_eq!(shown[0].1["transient"], shown[5].1["transient"]);
    assert_eq!(shown[1].1["data"]["text/html"], "b");
    assert_eq!(shown[3].1, json!({"data": {"text/plain": "2"}, "metadata": {}, "transient": {"display_id": "x"}}));
    assert_eq!(prints("print(1) display(2) io.write(3)"), "1\n<display>3");
}

#[test]
fn progress_is_one_display() {
    let shown = shows("local p = Progress(4, 'a<b') for i = 1, 4 do p:update(i) end p:done() p:done()");
    assert_eq!(shown[0].0, "display");
    assert!(shown.len() == 2 && shown[1].0 == "update", "{shown:?}");
    assert_eq!(shown[0].1["transient"]["progress_ended"], false);
    assert_eq!(shown[1].1["transient"]["progress_ended"], true);
    assert_eq!(shown[0].1["data"]["text/plain"], "a<b  [........................]   0 %  0/4");
    assert!(
        shown[1].1["data"]["text/plain"].as_str().unwrap().starts_with("a<b  [########################] 100 %  4/4  ")
    );
    assert!(shown[0].1["data"]["text/html"].as_str().unwrap().contains("a&lt;b <progress max=\"4\" value=\"0\">"));
    assert_eq!(failure("Progress('a')").class, Class::Usage);
}

#[test]
fn what_cannot_be_shown_is_said() {
    for (code, text) in [
        ("display({['text/html'] = 1})", "display: text/html: text expected"),
        ("Display.html({})", "Display.html: text expected, got table"),
        ("display(1, 2)", "display: options: table expected, got number"),
        ("Display.update(nil, 2)", "Display.update: id: text expected, got nil"),
        ("Display.html('\\xff')", "invalid utf-8"),
    ] {
        let error = failure(code);
        assert!(error.class == Class::Usage && error.evalue.contains(text), "{code}: {}", error.evalue);
    }
}

#[test]
fn long_tables_have_lines() {
    let text = value("return {list = {1, 2}, name = ('x'):rep(60), other = {a = ('y'):rep(60), b = ('z'):rep(60)}}");
    let expected = format!(
        "{{\n  list = {{1, 2}},\n  name = \"{}\",\n  other = {{\n    a = \"{}\",\n    b = \"{}\",\n  }},\n}}",
        "x".repeat(60),
        "y".repeat(60),
        "z".repeat(60)
    );
    assert_eq!(text, expected);
}

#[test]
fn errors_show_their_line() {
    let mut engine = engine();
    let named = |engine: &mut Lua, name: &str, code: &str| {
        let output: Arc<dyn Output> = Arc::new(Kept::default());
        engine.execute(&Script { name: name.into(), ..script(code) }, &output).error
    };
    assert!(named(&mut engine, "=[1]", "function f(x)\n  return x.y\nend").is_none());
    let error = named(&mut engine, "=[2]", "f()").unwrap();
    assert_eq!(error.evalue, "[1]:2: attempt to index a nil value (local 'x')");
    assert_eq!(
        error.report(false),
        [
            "[1]:2: attempt to index a nil value (local 'x')",
            "       1 | function f(x)",
            "-->    2 |   return x.y",
            "       3 | end",
            "stack traceback:",
            "\t[1]:2: in function 'f'",
            "\t[2]:1: in main chunk",
        ]
    );
    let coloured = error.report(true);
    assert_eq!(coloured[0], "\x1b[1;31mLuaError\x1b[0m: [1]:2: attempt to index a nil value (local 'x')");
    assert_eq!(coloured[2], "\x1b[1;32m-->    2 | \x1b[0m  return x.y");
    let error = named(&mut engine, "=[3]", "x = 1\nx = = 2").unwrap();
    assert_eq!((error.ename.as_str(), error.excerpt.unwrap().line), ("SyntaxError", 2));
    let error = named(&mut engine, "=[4]", "\nerror({class = 'denied', message = 'no', hint = 'Ask.'})").unwrap();
    assert_eq!(
        (error.report(true)[0].as_str(), error.excerpt.unwrap().line),
        ("\x1b[1;31mDeniedError\x1b[0m: [4]:2: no\n\x1b[33mhint\x1b[0m: Ask.", 2)
    );
}
