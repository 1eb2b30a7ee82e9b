//! Scripts in this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llmspell::config::{Config, Sources};
use llmspell::engine::{self, Completeness, Completions, Engine, Outcome, Output};
use llmspell::error::Result;
use llmspell::log;
use llmspell::runtime::Runtime;
use llmspell::security::Policy;
use serde_json::Value;

use crate::cli::Args;
use crate::local::{self, Local};
use crate::session::{End, Session, Source};
use crate::{Talk, eprint_line};

/// An engine, and our streams.
pub(crate) struct Here {
    engine: Box<dyn Engine>,
    engine_name: String,
    runtime: Arc<Runtime>,
    local: Arc<Local>,
    workdir: PathBuf,
    /// Time for each script; zero is as much as it takes.
    limit: Duration,
    /// Inputs so far.
    count: u64,
    json: bool,
    watched: bool,
    _log: log::Handle,
}

impl Here {
    /// Makes the engine; `console`: for somebody who sits there.
    pub(crate) fn open(args: &Args, console: bool) -> Result<Self> {
        let mut sources = Sources::of_process()?;
        sources.file.clone_from(&args.config);
        if let Some(dir) = &args.workdir {
            sources.flag("kernel.workdir", sources.dir.join(dir).display().to_string(), "--workdir");
        }
        sources.permissions(&args.permissions);
        let models = &args.models;
        if let Some(model) = models.default_model() {
            sources.flag("models.default", model, if models.model.is_some() { "--model" } else { "--provider" });
        }
        if let Some(cost) = models.max_cost.as_deref().and_then(|cost| cost.parse::<f64>().ok()) {
            sources.flag("models.max_cost", cost, "--max-cost");
        }
        for (key, path, flag) in
            [("models.record", &models.record, "--record"), ("models.replay", &models.replay, "--replay")]
        {
            if let Some(path) = path {
                sources.flag(key, sources.dir.join(path).display().to_string(), flag);
            }
        }
        let loaded = Config::load(&sources)?;
        if args.talk != Talk::Quiet {
            loaded.warnings.iter().for_each(|warning| eprint_line(&format!("warning: {warning}")));
        }
        let config = loaded.config;
        let log = log::start(&config.log, log::Sinks::stderr())?;
        config.secrets().for_each(log::hide);
        let workdir = config.kernel.workdir.clone().unwrap_or(loaded.dir);
        let policy = Policy::new(config.grants(&workdir, &sources.home));
        let limit = args.timeout.unwrap_or(config.engines.lua.timeout);
        let engine_name = args.engine.map_or_else(|| config.default_engine.clone(), |engine| engine.name().into());
        let runtime = Runtime::new(config, policy);
        runtime.remember(&sources.home, Some("default"));
        let local = Local::new(args.json, console)?;
        if console {
            local::stop_on_signal(Arc::clone(&local))?;
        }
        Ok(Here {
            engine: engine::make(&engine_name, Arc::clone(&runtime))?,
            engine_name,
            runtime,
            local,
            workdir,
            limit,
            count: 0,
            json: args.json,
            watched: console,
            _log: log,
        })
    }
}

impl Session for Here {
    fn run(&mut self, source: &Source) -> Result<End> {
        let limit = Some(self.limit).filter(|limit| !limit.is_zero());
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        self.local.begin(self.engine.interrupter(), deadline);
        if !std::mem::replace(&mut self.watched, true) {
            local::stop_on_signal(Arc::clone(&self.local))?;
        }
        let name = match &source.name {
            Some(name) => name.clone(),
            None => {
                self.count += 1;
                format!("=[{}]", self.count)
            }
        };
        let output: Arc<dyn Output> = Arc::clone(&self.local) as _;
        let outcome = self.engine.execute(
            &engine::Script {
                code: &source.code,
                name,
                args: source.args.clone(),
                deadline,
                allow_stdin: true,
                cwd: Some(self.workdir.clone()),
                own_folder: true,
            },
            &output,
        );
        let open_line = self.local.end();
        let flushed = self.local.flush();
        let closed = self.local.is_closed();
        if !closed && outcome.error.is_none() {
            flushed?;
        }
        let [stdout, stderr] = self.local.kept();
        let Outcome { value, error, exit } = outcome;
        let (value, text) = value.map_or((None, None), |shown| (shown.json, Some(shown.text)));
        Ok(End {
            value,
            text,
            error: error.map(|error| error.content(!self.json && local::colours())),
            exit,
            stdout,
            stderr,
            next_input: self.local.next_input(),
            open_line,
            closed,
        })
    }

    fn number(&self) -> u64 {
        self.count + 1
    }

    fn is_complete(&mut self, code: &str) -> Completeness {
        self.engine.is_complete(code)
    }

    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        self.engine.complete(code, cursor)
    }

    fn inspect(&mut self, code: &str, source: bool) -> Result<Option<String>> {
        Ok(self.engine.inspect(code, code.len(), source).map(|found| found.text))
    }

    fn tools(&mut self, words: &[String]) -> Result<Vec<Value>> {
        match words {
            [] => self.runtime.registry.list(None),
            words => self.runtime.registry.search(words, None),
        }
    }

    fn reset(&mut self) -> Result<()> {
        self.engine = engine::make(&self.engine_name, Arc::clone(&self.runtime))?;
        Ok(())
    }

    fn place(&self) -> String {
        let language = self.engine.language();
        format!("llmspell {}, Lua {}", env!("CARGO_PKG_VERSION"), language.version)
    }
}
