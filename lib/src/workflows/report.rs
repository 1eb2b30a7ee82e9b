//! What an execution answers: text for people, and the tables that scripts have read since v0.10.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::definition::{Definition, Over, Shape, Strategy};
use super::run::{Counts, Outcome};
use super::{Fault, Record};

/// The numbers of an execution by their names.
pub(super) fn numbers(definition: &Definition, records: &[Rc<Record>], counts: &Counts) -> Map<String, Value> {
    let goes_on = definition.strategy == Strategy::Continue;
    let (ran, failed) = (counts.steps, counts.failed);
    let succeeded = ran.saturating_sub(failed);
    let rate = if ran == 0 { 100.0 } else { succeeded as f64 * 100.0 / ran as f64 };
    let steps =
        json!({ "total_steps": ran, "successful_steps": succeeded, "failed_steps": failed, "success_rate": rate });
    let more = match &definition.shape {
        Shape::Sequential(_) => json!({}),
        Shape::Graph(..) => json!({ "skipped_steps": records.iter().filter(|record| record.skipped).count() }),
        Shape::Parallel(branches, most) => {
            let lost = |name: &&str| records.iter().any(|r| r.name == *name && !r.success);
            let failed =
                branches.iter().filter(|branch| branch.steps.iter().any(|step| lost(&step.name.as_str()))).count()
                    as u64;
            json!({
                "total_branches": branches.len(),
                "successful_branches": counts.succeeded.saturating_sub(if goes_on { failed } else { 0 }),
                "failed_branches": failed,
                "stopped_early": counts.succeeded < counts.planned,
                "max_concurrency": most,
                "fail_fast": !goes_on,
            })
        }
        Shape::Conditional { all, .. } => json!({
            "total_branches": counts.planned,
            "matched_branches": counts.kept,
            "executed_branches": counts.begun,
            "execute_all_matching": all,
            "short_circuit_evaluation": !all,
        }),
        Shape::Loop { over, most, .. } => {
            let mut more = json!({
                "total_iterations": if counts.planned > 0 { counts.planned } else { counts.begun },
                "completed_iterations": counts.succeeded,
                "aggregated_results_count": counts.kept,
                "continue_on_error": goes_on,
                "iterator_type": match over {
                    Over::Range(..) => "range",
                    Over::Count(_) => "count",
                    Over::Items(_) => "collection",
                    Over::While(_) => "while_condition",
                },
            });
            if let Some(reason) = &counts.broke {
                more["break_reason"] = reason.clone().into();
            }
            match over {
                Over::Range(start, end, step) => {
                    (more["range_start"], more["range_end"], more["range_step"]) =
                        (json!(start), json!(end), json!(step));
                }
                Over::Items(_) => more["collection_size"] = counts.planned.into(),
                Over::While(_) => more["max_iterations"] = json!(most),
                Over::Count(_) => {}
            }
            more
        }
    };
    let mut numbers = Map::new();
    for part in [steps, more] {
        if let Value::Object(part) = part {
            numbers.extend(part);
        }
    }
    numbers
}

impl Outcome {
    /// One sentence or two.
    #[must_use]
    pub fn text(&self, definition: &Definition) -> String {
        let number = |name: &str| self.numbers.get(name).and_then(Value::as_u64).unwrap_or_default();
        let kind = definition.kind();
        let kind = format!("{}{}", kind[..1].to_uppercase(), &kind[1..]);
        let failed = number("failed_steps");
        let how = match (&self.error, failed) {
            (Some(error), _) => format!("failed: {error}"),
            (None, 0) => "completed successfully".to_owned(),
            (None, 1) => "completed, but 1 step failed".to_owned(),
            (None, failed) => format!("completed, but {failed} steps failed"),
        };
        let counts = match &definition.shape {
            Shape::Sequential(_) | Shape::Graph(..) => format!("{} steps executed", number("total_steps")),
            Shape::Parallel(..) => format!(
                "{} branches executed, {} succeeded, {} failed",
                number("total_branches"),
                number("successful_branches"),
                number("failed_branches")
            ),
            Shape::Conditional { .. } => format!(
                "{} branches matched out of {}, {} executed. {} steps total, {} succeeded, {failed} failed",
                number("matched_branches"),
                number("total_branches"),
                number("executed_branches"),
                number("total_steps"),
                number("successful_steps"),
            ),
            Shape::Loop { .. } => {
                format!("{} of {} iterations completed", number("completed_iterations"), number("total_iterations"))
            }
        };
        format!("{kind} workflow '{}' {how}. {counts}. Duration: {:?}", definition.name, self.took)
    }

    /// What `execute` answers in every language: `{text, success, output, outputs, errors?, execution_id, media, tool_calls,
    /// metadata = {execution_time_ms, extra}}`.
    #[must_use]
    pub fn report(&self, definition: &Definition) -> Value {
        let mut extra = json!({
            "workflow_type": definition.kind(),
            "workflow_name": definition.name,
            "execution_id": self.execution,
            "workflow_id": definition.id,
            "resumed_steps": self.resumed,
        });
        if let Value::Object(extra) = &mut extra {
            extra.extend(self.numbers.clone());
            if !self.agents.is_empty() {
                extra.insert("agent_outputs".into(), self.agents.clone().into());
            }
        }
        let outputs: Map<String, Value> = self
            .records
            .iter()
            .filter(|record| record.success && !record.skipped)
            .map(|record| (record.name.clone(), record.output.clone()))
            .collect();
        let errors: Map<String, Value> = self
            .records
            .iter()
            .filter_map(|record| Some((record.name.clone(), json!(record.error.as_ref()?))))
            .collect();
        let failed = self.numbers.get("failed_steps").and_then(Value::as_u64).unwrap_or_default();
        let mut report = json!({
            "text": self.text(definition),
            "success": self.error.is_none() && failed == 0,
            "execution_id": self.execution,
            "output": self.output,
            "outputs": outputs,
            "media": [],
            "tool_calls": [],
            "metadata": {
                "execution_time_ms": (self.took.as_secs_f64() * 1e6).round() / 1e3,
                "extra": extra,
            },
        });
        if !errors.is_empty() {
            report["errors"] = errors.into();
        }
        report
    }

    /// What is kept in the state for scripts that look there, as keys of the scope `workflow`.
    #[must_use]
    pub fn kept(&self) -> Vec<(String, Value)> {
        let mut kept = Vec::new();
        for record in self.records.iter().filter(|record| !record.skipped) {
            let key = |rest: &str| format!("{}:{rest}", self.execution);
            let metadata = json!({
                "type": record.kind, "success": record.success, "attempts": record.attempts,
                "duration_ms": record.duration_ms, "error": record.error.as_ref().map(|fault: &Fault| &fault.message),
            });
            match record.kind.as_str() {
                "agent" if record.success => {
                    let text = self.agents.get(&record.of).cloned().unwrap_or_default();
                    kept.push((key(&format!("agent:{}:output", record.of)), text));
                    kept.push((key(&format!("agent:{}:metadata", record.of)), metadata.clone()));
                }
                "tool" if record.success => {
                    kept.push((key(&format!("step:{}:output", record.of)), record.output.clone()));
                }
                _ => {}
            }
            if record.success {
                kept.push((key(&record.name), record.output.clone()));
            }
            kept.push((key(&format!("{}:metadata", record.name)), metadata));
        }
        // Agents in workflows in it.
        for (agent, text) in &self.agents {
            let key = format!("{}:agent:{agent}:output", self.execution);
            if !kept.iter().any(|(other, _)| *other == key) {
                kept.push((key, text.clone()));
            }
        }
        kept
    }
}
