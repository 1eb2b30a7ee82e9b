//! `calculator`: expressions over 64-bit floating-point numbers, by a Pratt parser of our own.
//!
//! From weakest to strongest: `||`, `&&`, `== !=`, `< > <= >=`, `+ -`, `* / %`, unary `- + !`, `^` (right to left, so
//! `-2^2` is -4). True is 1, false is 0; angles are radians. Nothing loops, so the length of the input bounds the time.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Call, Level, Spelling, ToolSpec, example, required};
use crate::error::{Class, Error, Result, nearest};

/// The calculator.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "calculator",
    aliases: &["calc"],
    category: "utility",
    summary: "evaluate arithmetic expressions with variables and functions",
    level: Level::Safe,
    effects: &[],
    spellings: &[
        Spelling::Param("expression", "input"),
        Spelling::Value("operation", "calculate", "evaluate"),
        Spelling::Value("operation", "eval", "evaluate"),
    ],
    examples: &[
        example("precedence", r#"{"input": "2 + 3 * 2"}"#, r#"{"result": 8, "result_type": "integer"}"#),
        example("variables", r#"{"input": "r^2 * pi", "variables": {"r": 0.5}}"#, r#"{"result": 0.7853981633974483}"#),
        example("nested functions", r#"{"input": "sqrt(sqrt(16)) + max(1, 2, 3)"}"#, r#"{"result": 5}"#),
        example(
            "check without evaluating",
            r#"{"operation": "validate", "input": "2 * (x + 1"}"#,
            r#"{"valid": false, "error": "expected ')' at 11"}"#,
        ),
    ],
};

/// Longest expression, characters.
const MAX_LENGTH: usize = 4096;
/// Deepest nesting.
const MAX_DEPTH: usize = 100;
/// Integers up to here are exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Evaluates expressions like `2 * sin(pi / 4) ^ 2`. Operators: + - * / % ^ == != < > <= >= && || !
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do: the value, whether it is well-formed, or what there is to use.
    #[serde(default)]
    operation: Operation,
    /// The expression; needed unless the operation is `functions`.
    input: Option<String>,
    /// Values of names used in the expression.
    #[serde(default)]
    variables: BTreeMap<String, f64>,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    Evaluate,
    Validate,
    Functions,
}

/// Evaluates, validates, or lists what there is.
pub(super) fn run(params: Params, _: &Call) -> Result<Answer> {
    match params.operation {
        Operation::Evaluate => {
            let input = required(params.input, "input")?;
            let value = parse(&input, &params.variables)?.value(&params.variables)?;
            let (result, kind) = number(value);
            let result = json!({"input": input, "result": result, "result_type": kind, "variables": params.variables});
            let text = text(&result["result"]);
            Ok(Answer::new("evaluate", result).message("Expression evaluated successfully").text(text))
        }
        Operation::Validate => {
            let input = required(params.input, "input")?;
            Ok(match parse(&input, &params.variables) {
                Ok(expression) => {
                    let mut names = BTreeSet::new();
                    expression.names(&mut names);
                    let unset: Vec<_> =
                        names.into_iter().filter(|name| !params.variables.contains_key(*name)).collect();
                    Answer::new("validate", json!({"input": input, "valid": true, "unset_variables": unset}))
                        .message("Expression is valid")
                }
                Err(error) => {
                    let fault = error.text().trim_start_matches("expression: ");
                    Answer::new("validate", json!({"input": input, "valid": false, "error": fault}))
                        .message("Expression validation failed")
                }
            })
        }
        Operation::Functions => {
            let functions: Vec<_> =
                FUNCTIONS.iter().map(|row| json!({"name": row.name, "description": row.doc})).collect();
            let constants: BTreeMap<_, _> = CONSTANTS.iter().copied().collect();
            let result = json!({"functions": functions, "constants": constants, "operators": OPERATORS});
            Ok(Answer::new("functions", result).message(format!("{} functions", FUNCTIONS.len())))
        }
    }
}

/// The value of an expression; what `csv_analyzer` calculates columns with.
#[cfg(feature = "tool-csv")]
pub(super) fn evaluate(input: &str, variables: &BTreeMap<String, f64>) -> Result<f64> {
    parse(input, variables)?.value(variables)
}

/// A value as people write it: a string without its quotes.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `value` as JSON, which has no infinities, and what it is.
fn number(value: f64) -> (Value, &'static str) {
    if value.is_nan() {
        (json!("NaN"), "special")
    } else if value.is_infinite() {
        (json!(if value > 0.0 { "Infinity" } else { "-Infinity" }), "special")
    } else if value.fract() == 0.0 && value.abs() < MAX_EXACT {
        (json!(value as i64), "integer")
    } else {
        (json!(value), "float")
    }
}

const OPERATORS: &[&str] = &["||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "^", "!"];

const CONSTANTS: &[(&str, f64)] =
    &[("pi", std::f64::consts::PI), ("e", std::f64::consts::E), ("tau", std::f64::consts::TAU)];

/// A function: its fewest and most arguments, what it does.
struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    doc: &'static str,
    apply: fn(&[f64]) -> f64,
}

const fn function(
    name: &'static str,
    least: usize,
    most: usize,
    doc: &'static str,
    apply: fn(&[f64]) -> f64,
) -> Function {
    Function { name, least, most, doc, apply }
}

const MANY: usize = usize::MAX;

const FUNCTIONS: &[Function] = &[
    function("abs", 1, 1, "abs(x): without its sign", |x| x[0].abs()),
    function("acos", 1, 1, "acos(x)", |x| x[0].acos()),
    function("acosh", 1, 1, "acosh(x)", |x| x[0].acosh()),
    function("asin", 1, 1, "asin(x)", |x| x[0].asin()),
    function("asinh", 1, 1, "asinh(x)", |x| x[0].asinh()),
    function("atan", 1, 1, "atan(x)", |x| x[0].atan()),
    function("atan2", 2, 2, "atan2(y, x)", |x| x[0].atan2(x[1])),
    function("atanh", 1, 1, "atanh(x)", |x| x[0].atanh()),
    function("avg", 1, MANY, "avg(x, …): arithmetic mean", |x| x.iter().sum::<f64>() / x.len() as f64),
    function("cbrt", 1, 1, "cbrt(x): cube root", |x| x[0].cbrt()),
    function("ceil", 1, 1, "ceil(x): next integer not below", |x| x[0].ceil()),
    function("cos", 1, 1, "cos(x)", |x| x[0].cos()),
    function("cosh", 1, 1, "cosh(x)", |x| x[0].cosh()),
    function("exp", 1, 1, "exp(x): e^x", |x| x[0].exp()),
    function("floor", 1, 1, "floor(x): next integer not above", |x| x[0].floor()),
    function("hypot", 2, 2, "hypot(x, y): sqrt(x^2 + y^2)", |x| x[0].hypot(x[1])),
    function("int", 1, 1, "int(x): integer part", |x| x[0].trunc()),
    function("ln", 1, 1, "ln(x): natural logarithm", |x| x[0].ln()),
    function("log", 1, 2, "log(x): base 10; log(base, x)", |x| match x {
        [x] => x.log10(),
        [base, x, ..] => log(*base, *x),
        [] => f64::NAN,
    }),
    function("log10", 1, 1, "log10(x)", |x| x[0].log10()),
    function("log2", 1, 1, "log2(x)", |x| x[0].log2()),
    function("max", 1, MANY, "max(x, …)", |x| x.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
    function("min", 1, MANY, "min(x, …)", |x| x.iter().copied().fold(f64::INFINITY, f64::min)),
    function("pow", 2, 2, "pow(x, y): x^y", |x| x[0].powf(x[1])),
    function("round", 1, 1, "round(x): nearest integer, halves away from zero", |x| x[0].round()),
    function("sign", 1, 1, "sign(x): -1, 0 or 1", |x| if x[0] == 0.0 { 0.0 } else { x[0].signum() }),
    function("sin", 1, 1, "sin(x)", |x| x[0].sin()),
    function("sinh", 1, 1, "sinh(x)", |x| x[0].sinh()),
    function("sqrt", 1, 1, "sqrt(x)", |x| x[0].sqrt()),
    function("sum", 1, MANY, "sum(x, …)", |x| x.iter().sum()),
    function("tan", 1, 1, "tan(x)", |x| x[0].tan()),
    function("tanh", 1, 1, "tanh(x)", |x| x[0].tanh()),
    function("trunc", 1, 1, "trunc(x): integer part", |x| x[0].trunc()),
];

/// Bases with a function of their own are exact.
fn log(base: f64, x: f64) -> f64 {
    if base == 10.0 {
        x.log10()
    } else if base == 2.0 {
        x.log2()
    } else {
        x.log(base)
    }
}

/// A parsed expression.
enum Expr {
    Number(f64),
    Name(String, usize),
    Negate(Box<Expr>),
    Not(Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    Call(&'static Function, Vec<Expr>),
}

impl Expr {
    fn value(&self, variables: &BTreeMap<String, f64>) -> Result<f64> {
        let truth = |value: bool| f64::from(u8::from(value));
        Ok(match self {
            Expr::Number(value) => *value,
            Expr::Name(name, at) => match variables.get(name) {
                Some(value) => *value,
                None => return Err(unknown(name, *at, variables)),
            },
            Expr::Negate(inner) => -inner.value(variables)?,
            Expr::Not(inner) => truth(inner.value(variables)? == 0.0),
            Expr::Call(function, arguments) => {
                let values: Vec<_> =
                    arguments.iter().map(|argument| argument.value(variables)).collect::<Result<_>>()?;
                (function.apply)(&values)
            }
            Expr::Binary(operator, left, right) => {
                let left = left.value(variables)?;
                match *operator {
                    "&&" if left == 0.0 => return Ok(0.0),
                    "||" if left != 0.0 => return Ok(1.0),
                    _ => {}
                }
                let right = right.value(variables)?;
                match *operator {
                    "+" => left + right,
                    "-" => left - right,
                    "*" => left * right,
                    "/" => left / right,
                    "%" => left % right,
                    "^" => left.powf(right),
                    "==" => truth(left == right),
                    "!=" => truth(left != right),
                    "<" => truth(left < right),
                    ">" => truth(left > right),
                    "<=" => truth(left <= right),
                    ">=" => truth(left >= right),
                    // The left side of `&&` and `||` has already said it depends on the right one.
                    _ => truth(right != 0.0),
                }
            }
        })
    }

    /// The variables it uses.
    fn names<'a>(&'a self, names: &mut BTreeSet<&'a str>) {
        match self {
            Expr::Number(_) => {}
            Expr::Name(name, _) => _ = names.insert(name),
            Expr::Negate(inner) | Expr::Not(inner) => inner.names(names),
            Expr::Binary(_, left, right) => {
                left.names(names);
                right.names(names);
            }
            Expr::Call(_, arguments) => arguments.iter().for_each(|argument| argument.names(names)),
        }
    }
}

fn fault(text: impl std::fmt::Display) -> Error {
    Error::new(Class::Tool, format!("expression: {text}"))
}

fn unknown(name: &str, at: usize, variables: &BTreeMap<String, f64>) -> Error {
    let known = variables.keys().map(String::as_str).chain(CONSTANTS.iter().map(|(name, _)| *name));
    let error = fault(format!("unknown variable '{name}' at {at}"));
    match nearest(name, known) {
        Some(near) => error.hint(format!("Did you mean {near}?")),
        None => error.hint("Give its value in variables."),
    }
}

/// One piece of the input and the place it starts, in characters from 1.
struct Token {
    kind: Kind,
    at: usize,
}

#[derive(Clone, PartialEq)]
enum Kind {
    Number(f64),
    Name(String),
    Operator(&'static str),
    Open,
    Close,
    Comma,
    End,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Number(value) => write!(f, "number {value}"),
            Kind::Name(name) => write!(f, "'{name}'"),
            Kind::Operator(operator) => write!(f, "'{operator}'"),
            Kind::Open => f.write_str("'('"),
            Kind::Close => f.write_str("')'"),
            Kind::Comma => f.write_str("','"),
            Kind::End => f.write_str("end"),
        }
    }
}

fn tokens(input: &str) -> Result<Vec<Token>> {
    let chars: Vec<char> = input.chars().collect();
    if chars.len() > MAX_LENGTH {
        return Err(fault(format!("longer than {MAX_LENGTH} characters")));
    }
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let start = i;
        let rest = &chars[i..];
        let run = |is: &dyn Fn(char) -> bool| rest.iter().take_while(|c| is(**c)).count();
        let kind = match chars[i] {
            c if c.is_whitespace() => {
                i += 1;
                continue;
            }
            c if c.is_ascii_digit() || c == '.' => {
                i += number_length(rest);
                let text: String = chars[start..i].iter().collect();
                Kind::Number(text.parse().map_err(|_| fault(format!("'{text}' at {} is not a number", start + 1)))?)
            }
            c if c.is_alphabetic() || c == '_' => {
                i += run(&|c| c.is_alphanumeric() || c == '_');
                Kind::Name(chars[start..i].iter().collect())
            }
            '(' => Kind::Open,
            ')' => Kind::Close,
            ',' => Kind::Comma,
            c => {
                let fits = |operator: &&&str| {
                    rest.iter().copied().zip(operator.chars()).filter(|(a, b)| a == b).count() == operator.len()
                };
                match OPERATORS.iter().find(fits) {
                    Some(operator) => {
                        i += operator.len();
                        Kind::Operator(operator)
                    }
                    None => return Err(fault(format!("unexpected '{c}' at {}", i + 1))),
                }
            }
        };
        if i == start {
            i += 1;
        }
        tokens.push(Token { kind, at: start + 1 });
    }
    tokens.push(Token { kind: Kind::End, at: chars.len() + 1 });
    Ok(tokens)
}

/// How many characters of `rest` are a number: digits, a point, and an exponent if digits follow its `e`.
fn number_length(rest: &[char]) -> usize {
    let digits = |from: usize| rest[from..].iter().take_while(|c| c.is_ascii_digit() || **c == '.').count();
    let mantissa = digits(0);
    if !matches!(rest.get(mantissa), Some('e' | 'E')) {
        return mantissa;
    }
    let sign = usize::from(matches!(rest.get(mantissa + 1), Some('+' | '-')));
    match rest.get(mantissa + 1 + sign) {
        Some(c) if c.is_ascii_digit() => mantissa + 1 + sign + digits(mantissa + 1 + sign),
        _ => mantissa,
    }
}

/// How strongly a binary operator binds.
fn strength(operator: &str) -> Option<u8> {
    Some(match operator {
        "||" => 1,
        "&&" => 2,
        "==" | "!=" => 3,
        "<" | ">" | "<=" | ">=" => 4,
        "+" | "-" => 5,
        "*" | "/" | "%" => 6,
        "^" => 8,
        _ => return None,
    })
}

/// Between `*` and `^`.
const UNARY: u8 = 7;

fn parse(input: &str, variables: &BTreeMap<String, f64>) -> Result<Expr> {
    let mut parser = Parser { tokens: tokens(input)?, next: 0, depth: 0, variables };
    if parser.peek().kind == Kind::End {
        return Err(fault("empty"));
    }
    let expression = parser.expression(0)?;
    match parser.peek().kind {
        Kind::End => Ok(expression),
        _ => Err(parser.unexpected()),
    }
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    variables: &'a BTreeMap<String, f64>,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        // `End` is last and never passed.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn unexpected(&self) -> Error {
        let token = self.peek();
        match token.kind {
            Kind::End => fault("unexpected end"),
            _ => fault(format!("unexpected {} at {}", token.kind, token.at)),
        }
    }

    fn expect(&mut self, kind: &Kind) -> Result<()> {
        let token = self.peek();
        if token.kind != *kind {
            return Err(fault(format!("expected {kind} at {}", token.at)));
        }
        self.next += 1;
        Ok(())
    }

    /// An expression of operators that bind at least as strongly as `least`.
    fn expression(&mut self, least: u8) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(fault(format!("nested deeper than {MAX_DEPTH} at {}", self.peek().at)));
        }
        let mut left = self.operand()?;
        // A chain of operators grows the tree to the left, one level each.
        let mut chain = 0;
        while let Kind::Operator(operator) = self.peek().kind {
            let Some(strength) = strength(operator).filter(|strength| *strength >= least) else { break };
            chain += 1;
            if chain > MAX_LENGTH / 2 {
                return Err(fault("too many operators"));
            }
            self.next += 1;
            let right = if operator == "^" { self.expression(UNARY)? } else { self.expression(strength + 1)? };
            left = Expr::Binary(operator, left.into(), right.into());
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr> {
        let Token { kind, at } = self.peek();
        let (kind, at) = (kind.clone(), *at);
        match kind {
            Kind::Number(value) => {
                self.next += 1;
                Ok(Expr::Number(value))
            }
            Kind::Open => {
                self.next += 1;
                let inner = self.expression(0)?;
                self.expect(&Kind::Close)?;
                Ok(inner)
            }
            Kind::Operator(operator @ ("-" | "+" | "!")) => {
                self.next += 1;
                let inner = self.expression(UNARY)?;
                Ok(match operator {
                    "-" => Expr::Negate(inner.into()),
                    "!" => Expr::Not(inner.into()),
                    _ => inner,
                })
            }
            Kind::Name(name) => {
                self.next += 1;
                if self.peek().kind == Kind::Open {
                    self.next += 1;
                    self.call(&name, at)
                } else {
                    // A variable hides the constant of the same name.
                    let constant =
                        CONSTANTS.iter().find(|(known, _)| *known == name && !self.variables.contains_key(*known));
                    Ok(constant.map_or(Expr::Name(name, at), |(_, value)| Expr::Number(*value)))
                }
            }
            _ => Err(self.unexpected()),
        }
    }

    /// The arguments of `name`, after the opening parenthesis.
    fn call(&mut self, name: &str, at: usize) -> Result<Expr> {
        let mut arguments = Vec::new();
        while self.peek().kind != Kind::Close {
            if !arguments.is_empty() {
                self.expect(&Kind::Comma)?;
            }
            arguments.push(self.expression(0)?);
            if !matches!(self.peek().kind, Kind::Comma | Kind::Close) {
                self.expect(&Kind::Close)?;
            }
        }
        self.next += 1;
        if let (Some((_, value)), []) = (CONSTANTS.iter().find(|(known, _)| *known == name), &arguments[..]) {
            return Ok(Expr::Number(*value));
        }
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
            let error = fault(format!("unknown function '{name}' at {at}"));
            return Err(match nearest(name, FUNCTIONS.iter().map(|function| function.name)) {
                Some(near) => error.hint(format!("Did you mean {near}?")),
                None => error.hint("The operation functions lists them."),
            });
        };
        if arguments.len() < function.least || arguments.len() > function.most {
            let wanted = match (function.least, function.most) {
                (least, MANY) => format!("at least {least}"),
                (least, most) if least == most => least.to_string(),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(fault(format!("{name} at {at}: {} arguments instead of {wanted}", arguments.len())));
        }
        Ok(Expr::Call(function, arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(input: &str) -> Result<f64> {
        let variables = BTreeMap::from([("x".to_owned(), 3.0), ("force".to_owned(), 2.0)]);
        parse(input, &variables)?.value(&variables)
    }

    #[test]
    fn precedence_and_association_are_those_of_mathematics() {
        for (input, value) in [
            ("2+3*4", 14.0),
            ("(2+3)*4", 20.0),
            ("2^3^2", 512.0),
            ("-2^2", -4.0),
            ("2^-1", 0.5),
            ("(-2)^2", 4.0),
            ("10-4-3", 3.0),
            ("7%4*2", 6.0),
            ("1+2 == 3 && 2 < 1 || !0", 1.0),
            ("--3", 3.0),
            ("3 > 2", 1.0),
            ("0 && y", 0.0),
            ("1e3 + .5 + 2e-1", 1000.7),
            ("2*e", 2.0 * std::f64::consts::E),
            ("pi() - pi", 0.0),
            ("x * force", 6.0),
            ("log(10, 100) + log(100) + log(2, 8) + ln(e) + log2(8)", 11.0),
            ("sqrt((1+2)*3) + sqrt(sqrt(16)) + cbrt(27) + hypot(3,4)", 13.0),
            ("min(3,1,2) + max(1) + sum(1,2,3) + avg(1,2,3)", 10.0),
            ("round(-2.5) + trunc(2.7) + int(-2.7) + sign(-9)", -4.0),
            ("atan2(1, 1) * 4 == pi", 1.0),
        ] {
            assert_eq!(eval(input).unwrap(), value, "{input}");
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (input, text) in [
            ("(1 + 2))", "expression: unexpected ')' at 8"),
            ("1 +", "expression: unexpected end"),
            ("", "expression: empty"),
            ("(1", "expression: expected ')' at 3"),
            ("1 2", "expression: unexpected number 2 at 3"),
            ("2 $ 3", "expression: unexpected '$' at 3"),
            ("1.2.3", "expression: '1.2.3' at 1 is not a number"),
            ("ä + zz", "expression: unknown variable 'ä' at 1"),
            ("sqrt()", "expression: sqrt at 1: 0 arguments instead of 1"),
            ("squirt(4)", "expression: unknown function 'squirt' at 1"),
            ("max(1,)", "expression: unexpected ')' at 7"),
        ] {
            let error = eval(input).unwrap_err();
            assert_eq!((error.text(), error.class()), (text, Class::Tool), "{input}");
        }
    }

    #[test]
    fn neither_depth_nor_length_nor_time_runs_away() {
        assert!(eval(&"(".repeat(4000)).unwrap_err().text().contains("nested deeper"));
        assert!(eval(&"-".repeat(4000)).unwrap_err().text().contains("nested deeper"));
        assert!(eval(&"2^".repeat(2000)).unwrap_err().text().contains("nested deeper"));
        assert!(eval(&"1+".repeat(3000)).unwrap_err().text().contains("longer than"));
        assert_eq!(eval(&format!("{}1", "1+".repeat(2000))).unwrap(), 2001.0);
        assert_eq!(eval("9^9^9^9").unwrap(), f64::INFINITY);
    }

    #[test]
    fn numbers_that_json_cannot_say_are_words() {
        assert_eq!(number(eval("1/0").unwrap()), (json!("Infinity"), "special"));
        assert_eq!(number(eval("-1e400").unwrap()), (json!("-Infinity"), "special"));
        assert_eq!(number(eval("0/0").unwrap()), (json!("NaN"), "special"));
        assert_eq!(number(8.0), (json!(8), "integer"));
        assert_eq!(number(0.1), (json!(0.1), "float"));
        assert_eq!(number(1e300), (json!(1e300), "float"));
    }
}
