//! A jq program by jaq, which knows no limits of its own. On the way into every definition it passes a filter of ours, `tick`, that
//! looks at the clock and at the stack; all that can go on without end calls a definition, or `range`, which is ours too.

use std::cell::RefCell;
use std::cmp::Ordering;

use jaq_core::data::JustLut;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::load::{Arena, File, Loader, parse};
use jaq_core::native::{self, Fun};
use jaq_core::path::{Part, Path};
use jaq_core::{Compiler, Ctx, Exn, Native, Vars, unwrap_valr};
use jaq_json::{Val, read};
use serde_json::Value;

use super::super::Call;
use crate::error::{Class, Error, Result};

type Data = JustLut<Val>;

/// The stack a program runs on is only touched as far as it is used. Dropping what nests deep needs it too.
const STACK: usize = 1 << 30;
/// As deep as a program may call itself, bytes.
const DEEPEST: usize = STACK / 4;
/// Most bytes of a program.
const MAX_PROGRAM: usize = 1 << 20;
/// Most results.
const MAX_RESULTS: usize = 1_000_000;

/// What `tick` looks at.
struct Guard {
    call: Call,
    base: usize,
    count: u32,
    fault: Option<Error>,
}

thread_local! {
    static GUARD: RefCell<Option<Guard>> = const { RefCell::new(None) };
}

/// The results of `program` on the JSON in `text`, or on each value of it.
pub(super) fn run(program: &str, text: &str, many: bool, call: &Call) -> Result<Vec<Value>> {
    if program.len() > MAX_PROGRAM {
        return Err(Error::new(Class::Usage, "query: larger than 1 MiB"));
    }
    std::thread::scope(|scope| {
        let work = || {
            let here = 0_u8;
            let guard = Guard { call: call.clone(), base: &raw const here as usize, count: 0, fault: None };
            GUARD.set(Some(guard));
            let results = evaluate(program, text, many, call);
            // A limit explains more than what it made of the program.
            match GUARD.take().and_then(|guard| guard.fault) {
                Some(fault) => Err(fault),
                None => results,
            }
        };
        let thread = std::thread::Builder::new().name("jq".into()).stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| Error::system("thread", e))?;
        thread.join().unwrap_or_else(|_| Err(Error::new(Class::Tool, "query: the program cannot be run")))
    })
}

fn evaluate(program: &str, text: &str, many: bool, call: &Call) -> Result<Vec<Value>> {
    // The parsers call themselves for every bracket; what nests deeper than JSON parsers take is refused first.
    nested(program, 10_000).map_err(|()| Error::new(Class::Usage, "query: nested too deep"))?;
    nested(text, 10_000).map_err(|()| Error::new(Class::Tool, "input: nested too deep"))?;
    let arena = Arena::default();
    // As it stands, for the sake of what there is to say about it.
    Loader::new(defs()).load(&arena, File { code: program, path: () }).map_err(|errors| {
        let (_, error) = errors.into_iter().next().map_or((None, None), |(file, error)| (Some(file), Some(error)));
        let (what, rest) = match error {
            Some(jaq_core::load::Error::Lex(errors)) => {
                errors.into_iter().next().map_or(("", ""), |(expected, rest)| (expected.as_str(), rest))
            }
            Some(jaq_core::load::Error::Parse(errors)) => {
                errors.into_iter().next().map_or(("", ""), |(expected, rest)| (expected.as_str(), rest))
            }
            _ => ("no modules", ""),
        };
        let near: String = rest.chars().take(20).collect();
        let near = if near.is_empty() { "the end".into() } else { format!("{near:?}") };
        Error::new(Class::Usage, format!("query: at {near}: expected {what}"))
    })?;
    let main = parse(program, |p| p.term()).ok_or_else(|| Error::new(Class::Usage, "query: modules are not taken"))?;
    let main = Def { name: "llmspell_main", args: Vec::new(), body: main };
    let defs = defs().chain([main]).map(ticked);
    let modules = Loader::new(defs)
        .load(&arena, File { code: "llmspell_main", path: () })
        .map_err(|_| Error::new(Class::Bug, "query: not to be loaded"))?;
    let filter = Compiler::default().with_funs(funs()).compile(modules).map_err(|errors| {
        let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
        let what = first.map(|(name, kind)| format!("{} {name:?}: not defined", kind.as_str())).unwrap_or_default();
        Error::new(Class::Usage, format!("query: {what}"))
    })?;
    let wrong = |e: &dyn std::fmt::Display| Error::new(Class::Tool, format!("input: not JSON: {e}"));
    let inputs: Box<dyn Iterator<Item = Result<Val>>> = match many {
        true => Box::new(read::parse_many(text.as_bytes()).map(|value| value.map_err(|e| wrong(&e)))),
        false => Box::new(std::iter::once(read::parse_single(text.as_bytes()).map_err(|e| wrong(&e)))),
    };
    let mut results = Vec::new();
    for input in inputs {
        let context = Ctx::<Data>::new(&filter.lut, Vars::new([]));
        for output in filter.id.run((context, input?)).map(unwrap_valr) {
            call.check()?;
            let value = output.map_err(|error| Error::new(Class::Tool, error.to_string().replace('\n', " ")))?;
            if results.len() == MAX_RESULTS {
                return Err(Error::new(Class::Tool, format!("query: more than {MAX_RESULTS} results")));
            }
            results.push(json(&value)?);
        }
    }
    Ok(results)
}

/// Whether brackets nest deeper than `most`; those in texts are counted too.
fn nested(text: &str, most: i64) -> Result<(), ()> {
    let mut depth = 0_i64;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth -= 1,
            _ => {}
        }
        if depth > most {
            return Err(());
        }
    }
    Ok(())
}

/// A value of jaq as JSON, which has neither infinities nor bytes.
fn json(value: &Val) -> Result<Value> {
    json_at(value, 0)
}

fn json_at(value: &Val, depth: usize) -> Result<Value> {
    if depth > 500 {
        return Err(Error::new(Class::Tool, "query: a result nested deeper than 500"));
    }
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(value) => (*value).into(),
        Val::Num(number) => {
            let text = number.to_string();
            match serde_json::from_str(&text) {
                Ok(number @ Value::Number(_)) => number,
                // As jq does: the nearest number there is.
                _ if text.starts_with("-I") => f64::MIN.into(),
                _ if text.starts_with('-') => f64::MIN.into(),
                _ if text.starts_with('I') || text.bytes().any(|byte| byte.is_ascii_digit()) => f64::MAX.into(),
                _ => Value::Null,
            }
        }
        Val::TStr(bytes) | Val::BStr(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
        Val::Arr(items) => Value::Array(items.iter().map(|item| json_at(item, depth + 1)).collect::<Result<_>>()?),
        Val::Obj(members) => {
            let name = |name: &Val| match name {
                Val::TStr(bytes) | Val::BStr(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                name => name.to_string(),
            };
            let member = |(key, value): (&Val, &Val)| Ok((name(key), json_at(value, depth + 1)?));
            Value::Object(members.iter().map(member).collect::<Result<_>>()?)
        }
    })
}

fn defs<'s>() -> impl Iterator<Item = Def<&'s str>> {
    let shorter = |def: Def<&'static str>| -> Def<&'s str> { def };
    let ours = OURS
        .iter()
        .filter_map(|(name, body)| Some(Def { name: *name, args: Vec::new(), body: parse(body, |p| p.term())? }));
    jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(ours).map(shorter)
}

/// Filters of jq that jaq leaves out.
const OURS: &[(&str, &str)] = &[
    (
        "@csv",
        r#"[.[] | if type == "string" then "\"" + (split("\"") | join("\"\"")) + "\"" elif . == null then ""
            elif type == "array" or type == "object" then error("\(type) is not valid in a csv row") else tostring end] | join(",")"#,
    ),
    (
        "@tsv",
        r#"[.[] | if type == "string" then (split("\\") | join("\\\\") | split("\t") | join("\\t") | split("\n") | join("\\n") | split("\r") | join("\\r"))
            elif . == null then "" elif type == "array" or type == "object" then error("\(type) cannot be tsv-formatted") else tostring end] | join("\t")"#,
    ),
];

/// All filters but those that reach out, and ours.
fn funs() -> impl Iterator<Item = Fun<Data>> {
    fn refused(what: &str) -> jaq_core::Error<Val> {
        jaq_core::Error::str(format_args!("{what}: not available here"))
    }
    let ours: [Fun<Data>; 6] = [
        (
            "tick",
            native::v(0),
            Native::new(|cv| passed(cv.1)).with_paths(|cv| passed(cv.1)).with_update(|cv, update| match tick() {
                Ok(()) => update(cv.1),
                Err(error) => Box::new(std::iter::once(Err(error))),
            }),
        ),
        (
            "range",
            native::v(3),
            Native::new(|mut cv| {
                let by = cv.0.pop_var();
                let to = cv.0.pop_var();
                let from = cv.0.pop_var();
                Box::new(range(from, to, by))
            }),
        ),
        ("halt", native::v(1), Native::new(|_| native::bome(Err(refused("halt"))))),
        ("env", native::v(0), Native::new(|_| native::bome(Err(refused("env"))))),
        ("debug_empty", native::v(0), Native::new(|_| Box::new(std::iter::empty()))),
        ("stderr_empty", native::v(0), Native::new(|_| Box::new(std::iter::empty()))),
    ];
    let names = ours.each_ref().map(|(name, args, _)| (*name, args.len()));
    let others = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    others.filter(move |(name, args, _)| !names.contains(&(*name, args.len()))).chain(ours)
}

fn passed<'a, T: 'a>(value: T) -> jaq_core::ValXs<'a, T, Val> {
    Box::new(std::iter::once(tick().map(|()| value)))
}

/// Whether to go on. Once not, never again.
fn tick<'a>() -> Result<(), Exn<'a, Val>> {
    let here = 0_u8;
    let stop = || Exn::from(jaq_core::Error::str("stopped"));
    GUARD.with_borrow_mut(|guard| {
        let Some(guard) = guard else { return Ok(()) };
        guard.count = guard.count.wrapping_add(1);
        if guard.fault.is_none() {
            if guard.base.abs_diff(&raw const here as usize) > DEEPEST {
                guard.fault = Some(Error::new(Class::Tool, "query: calls itself too deep"));
            } else if guard.count % 256 == 0 {
                guard.fault = guard.call.check().err();
            }
        }
        if guard.fault.is_some() { Err(stop()) } else { Ok(()) }
    })
}

fn range<'a>(from: Val, to: Val, by: Val) -> impl Iterator<Item = Result<Val, Exn<'a, Val>>> {
    let direction = by.partial_cmp(&Val::from(0_isize)).unwrap_or(Ordering::Equal);
    let mut next = Some(Ok(from));
    std::iter::from_fn(move || {
        let value = match next.take()? {
            Ok(value) => value,
            Err(error) => return Some(Err(error)),
        };
        let inside = match direction {
            Ordering::Greater => value < to,
            Ordering::Less => value > to,
            Ordering::Equal => value != to,
        };
        if !inside {
            return None;
        }
        if let Err(error) = tick() {
            return Some(Err(error));
        }
        next = Some((value.clone() + by.clone()).map_err(Exn::from));
        Some(Ok(value))
    })
}

/// `def` with `tick |` in front of its body, and so all definitions in it.
fn ticked(def: Def<&str>) -> Def<&str> {
    let body = Term::BinOp(Box::new(Term::Call("tick", Vec::new())), BinaryOp::Pipe(None), Box::new(inner(def.body)));
    Def { name: def.name, args: def.args, body }
}

fn inner<'s>(term: Term<&'s str>) -> Term<&'s str> {
    let boxed = |term: Box<Term<&'s str>>| Box::new(inner(*term));
    let list = |terms: Vec<Term<&'s str>>| terms.into_iter().map(inner).collect::<Vec<_>>();
    match term {
        Term::Str(format, parts) => {
            let part = |part| match part {
                StrPart::Term(term) => StrPart::Term(inner(term)),
                part => part,
            };
            Term::Str(format, parts.into_iter().map(part).collect())
        }
        Term::Arr(items) => Term::Arr(items.map(boxed)),
        Term::Obj(members) => {
            Term::Obj(members.into_iter().map(|(key, value)| (inner(key), value.map(inner))).collect())
        }
        Term::Neg(term) => Term::Neg(boxed(term)),
        Term::BinOp(left, op, right) => {
            let op = match op {
                BinaryOp::Pipe(Some(bound)) => BinaryOp::Pipe(Some(pattern(bound))),
                op => op,
            };
            Term::BinOp(boxed(left), op, boxed(right))
        }
        Term::Label(name, term) => Term::Label(name, boxed(term)),
        Term::Fold(name, over, bound, args) => Term::Fold(name, boxed(over), pattern(bound), list(args)),
        Term::TryCatch(term, catch) => Term::TryCatch(boxed(term), catch.map(boxed)),
        Term::IfThenElse(cases, other) => {
            let case = |(test, then)| (inner(test), inner(then));
            Term::IfThenElse(cases.into_iter().map(case).collect(), other.map(boxed))
        }
        Term::Def(defs, term) => Term::Def(defs.into_iter().map(ticked).collect(), boxed(term)),
        Term::Call(name, args) => Term::Call(name, list(args)),
        Term::Path(term, Path(parts)) => {
            let part = |(part, opt)| match part {
                Part::Index(index) => (Part::Index(inner(index)), opt),
                Part::Range(from, to) => (Part::Range(from.map(inner), to.map(inner)), opt),
            };
            Term::Path(boxed(term), Path(parts.into_iter().map(part).collect()))
        }
        term @ (Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_)) => term,
    }
}

fn pattern(bound: Pattern<&str>) -> Pattern<&str> {
    match bound {
        Pattern::Var(name) => Pattern::Var(name),
        Pattern::Arr(items) => Pattern::Arr(items.into_iter().map(pattern).collect()),
        Pattern::Obj(members) => {
            Pattern::Obj(members.into_iter().map(|(key, bound)| (inner(key), pattern(bound))).collect())
        }
    }
}
