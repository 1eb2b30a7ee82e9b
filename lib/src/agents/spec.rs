//! What an agent is made of.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Function;
use crate::error::{Class, Error, Result};
use crate::providers::ToolDef;

/// An agent before it lives.
#[derive(Clone)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// `provider/model`; empty for the default.
    pub model: String,
    /// Its instructions; made of name and description when absent.
    pub system_prompt: Option<String>,
    /// 0 is dull, 2 wild.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Most tokens of one answer of the model.
    pub max_tokens: Option<u64>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// For answers that repeat, as far as the service can.
    pub seed: Option<u64>,
    /// How much it thinks: `low`, `medium`, `high` …
    pub effort: Option<String>,
    /// The answer is JSON of this schema.
    pub schema: Option<Value>,
    /// More members of each request, as the service knows them.
    pub extra: Map<String, Value>,
    /// What it may call; nothing else is.
    pub tools: Vec<ToolUse>,
    /// Which calls need a person.
    pub approval: Approval,
    /// What a run may use.
    pub limits: Limits,
    /// Tokens of a request, from which on the conversation is made to fit.
    pub context_window: Option<u64>,
    /// How it is made to fit.
    pub overflow: Overflow,
    /// Most messages of the conversation that are kept.
    pub max_conversation_length: usize,
}

/// Something that an agent may call.
#[derive(Clone)]
pub enum ToolUse {
    /// A tool of the registry.
    Registry(String),
    /// Every tool of the registry.
    All,
    /// Another agent.
    Agent {
        /// As the model calls it.
        name: String,
        /// Which one.
        agent: String,
        /// What it is told of it.
        description: String,
    },
    /// A function of the script.
    Function {
        /// As the model sees it.
        def: ToolDef,
        /// The function.
        function: Function,
        /// Whether it is called again when nobody knows whether it was called: after a crash in the middle of it.
        repeatable: bool,
    },
}

/// Whether a call needs a person.
#[derive(Clone, Default)]
pub enum Rule {
    /// What writes files, runs programs or changes the system does.
    #[default]
    ByEffect,
    /// It does not.
    Never,
    /// It does.
    Always,
    /// It is refused.
    Deny,
    /// A function of the script says: true, false, or other parameters; nothing leaves it to a person.
    Ask(Function),
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Rule {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Rule::ByEffect => "by_effect",
            Rule::Never => "never",
            Rule::Always => "always",
            Rule::Deny => "deny",
            Rule::Ask(_) => "function",
        }
    }
}

/// What happens when a call needs a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The run ends, and goes on when it is taken up again.
    #[default]
    Pause,
    /// The run waits for a decision from anywhere.
    Wait,
    /// Who started it is asked at once; where nobody can be asked, it pauses.
    Ask,
}

/// Modes by name.
pub const MODES: [(&str, Mode); 3] = [("pause", Mode::Pause), ("wait", Mode::Wait), ("ask", Mode::Ask)];

/// Which calls need a person, and what happens then.
#[derive(Clone, Debug, Default)]
pub struct Approval {
    /// For tools without a rule of their own.
    pub rule: Rule,
    /// By tool.
    pub rules: BTreeMap<String, Rule>,
    /// What happens then.
    pub mode: Mode,
}

/// What a run may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time.
    pub time: Duration,
    /// Questions to the model.
    pub turns: usize,
    /// Calls of tools.
    pub tool_calls: usize,
    /// Calls at the same time.
    pub parallel: usize,
    /// Agents that call each other.
    pub depth: usize,
    /// Bytes of one result of a tool that the model gets to see.
    pub result_bytes: usize,
    /// Time of one call; that of the tool's configuration when absent.
    pub tool_time: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            time: Duration::from_secs(300),
            turns: 20,
            tool_calls: 100,
            parallel: 4,
            depth: 10,
            result_bytes: 16 << 10,
            tool_time: None,
        }
    }
}

/// What is done with a conversation that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest of it is left out.
    #[default]
    Trim,
    /// The model makes a summary of the oldest.
    Summarise,
    /// The run fails.
    Fail,
}

/// What to do by name.
pub const OVERFLOWS: [(&str, Overflow); 4] = [
    ("trim", Overflow::Trim),
    ("summarise", Overflow::Summarise),
    ("summarize", Overflow::Summarise),
    ("error", Overflow::Fail),
];

impl Default for Spec {
    fn default() -> Self {
        Spec {
            name: String::new(),
            description: String::new(),
            model: String::new(),
            system_prompt: None,
            temperature: None,
            top_p: None,
            max_tokens: None,
            stop: Vec::new(),
            seed: None,
            effort: None,
            schema: None,
            extra: Map::new(),
            tools: Vec::new(),
            approval: Approval::default(),
            limits: Limits::default(),
            context_window: None,
            overflow: Overflow::default(),
            max_conversation_length: 100,
        }
    }
}

impl Spec {
    /// Whether it can be.
    ///
    /// # Errors
    /// `Usage`, naming what is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::new(Class::Usage, text));
        let name = self.name.trim();
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return wrong("name: 1 to 128 characters, none of control".into());
        }
        if let Some(heat) = self.temperature.filter(|heat| !(0.0..=2.0).contains(heat)) {
            return wrong(format!("temperature: {heat} is not from 0 to 2"));
        }
        if let Some(top) = self.top_p.filter(|top| !(0.0..=1.0).contains(top)) {
            return wrong(format!("top_p: {top} is not from 0 to 1"));
        }
        let limits = &self.limits;
        for (what, number) in [
            ("max_tokens", self.max_tokens.map_or(1, |number| number as usize)),
            ("max_turns", limits.turns),
            ("max_parallel_tools", limits.parallel),
            ("max_result_bytes", limits.result_bytes),
            ("max_execution_time", usize::from(!limits.time.is_zero())),
        ] {
            if number == 0 {
                return wrong(format!("{what}: 0 leaves nothing to do"));
            }
        }
        let mut names: Vec<&str> = self.tools.iter().filter_map(ToolUse::name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return wrong(format!("tool {}: twice", twice[0]));
        }
        for name in names {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if !(1..=64).contains(&name.len()) || !name.bytes().all(fits) {
                return wrong(format!(
                    "tool {name:?}: not 1 to 64 letters, digits, '_' and '-', as services want them"
                ));
            }
        }
        Ok(())
    }

    /// Its instructions.
    #[must_use]
    pub fn instructions(&self) -> Option<String> {
        let made = || (!self.description.is_empty()).then(|| format!("You are {}. {}", self.name, self.description));
        self.system_prompt.clone().filter(|text| !text.trim().is_empty()).or_else(made)
    }

    /// What scripts may see of it.
    #[must_use]
    pub fn shown(&self) -> Value {
        let rules: Map<_, _> =
            self.approval.rules.iter().map(|(tool, rule)| (tool.clone(), rule.name().into())).collect();
        let mode = MODES.iter().find(|(_, mode)| *mode == self.approval.mode).map(|(name, _)| *name);
        let overflow = OVERFLOWS.iter().find(|(_, one)| *one == self.overflow).map(|(name, _)| *name);
        json!({
            "name": self.name, "description": self.description, "model": self.model,
            "system_prompt": self.system_prompt, "temperature": self.temperature, "top_p": self.top_p,
            "max_tokens": self.max_tokens, "stop": self.stop, "seed": self.seed, "effort": self.effort,
            "schema": self.schema,
            "allowed_tools": self.tools.iter().map(|tool| tool.name().unwrap_or("*")).collect::<Vec<_>>(),
            "approval": { "rule": self.approval.rule.name(), "rules": rules, "mode": mode },
            "resource_limits": {
                "max_execution_time_secs": self.limits.time.as_secs_f64(), "max_turns": self.limits.turns,
                "max_tool_calls": self.limits.tool_calls, "max_parallel_tools": self.limits.parallel,
                "max_recursion_depth": self.limits.depth, "max_result_bytes": self.limits.result_bytes,
            },
            "context_window": self.context_window, "overflow": overflow,
            "max_conversation_length": self.max_conversation_length,
        })
    }
}

impl ToolUse {
    /// As the model calls it; nothing for all.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            ToolUse::Registry(name) | ToolUse::Agent { name, .. } => Some(name),
            ToolUse::Function { def, .. } => Some(&def.name),
            ToolUse::All => None,
        }
    }
}
