//! `graph_builder`: builds graphs and tells about them: paths, components, centrality, order.

mod algorithms;

use std::collections::HashMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Answer, Call, Level, Spelling, ToolSpec, example, required, timestamp, word};
use crate::error::{Class, Error, Result};
use algorithms::Net;

/// The graph builder.
pub(super) const SPEC: ToolSpec = ToolSpec {
    name: "graph_builder",
    aliases: &["graph"],
    category: "data",
    summary: "build graphs; shortest paths, components, cycles, centrality, topological order, spanning trees",
    level: Level::Safe,
    effects: &[],
    spellings: &[
        Spelling::Param("input", "graph"),
        Spelling::Param("graph_json", "graph"),
        Spelling::Param("id", "node_id"),
        Spelling::Param("source", "from"),
        Spelling::Param("target", "to"),
        Spelling::Value("operation", "create", "create_graph"),
        Spelling::Value("operation", "path", "shortest_path"),
        Spelling::Value("operation", "topological_sort", "topological_order"),
    ],
    examples: &[
        example(
            "a graph from its edges",
            r#"{"edges": [["a", "b"], ["b", "c", 2.5]]}"#,
            r#"{"nodes": [{"id": "a"}, {"id": "b"}, {"id": "c"}], "edges": [{"from": "a", "to": "b", "weight": null}, {"weight": 2.5}],
                "metadata": {"node_count": 3, "edge_count": 2}}"#,
        ),
        example(
            "the cheapest way",
            r#"{"operation": "shortest_path", "graph": {"nodes": ["a", "b", "c"], "edges": [["a", "c", 9], ["a", "b", 1], ["b", "c", 2]]}, "from": "a", "to": "c"}"#,
            r#"{"found": true, "path": ["a", "b", "c"], "distance": 3, "hops": 2}"#,
        ),
        example(
            "what must come first",
            r#"{"operation": "topological_order", "graph": {"edges": [["wall", "roof"], ["base", "wall"]]}}"#,
            r#"{"acyclic": true, "order": ["base", "wall", "roof"]}"#,
        ),
        example(
            "who stands between the others",
            r#"{"operation": "centrality", "graph": {"graph_type": "undirected", "edges": [["a", "b"], ["b", "c"]]}}"#,
            r#"{"ranking": {"betweenness": ["b", "a", "c"]}, "nodes": {"b": {"betweenness": 1, "degree": 1, "closeness": 1}}}"#,
        ),
    ],
};

/// Most nodes and edges.
const MAX_NODES: usize = 100_000;
const MAX_EDGES: usize = 500_000;
/// Centrality looks at every pair: most nodes times edges.
const MAX_PAIRS: usize = 500_000_000;

/// Builds a graph, step by step or at once, and answers questions about it. Nothing is kept: each call is given the graph the last one
/// returned, `{graph_type, nodes: [{id, label, data}], edges: [{from, to, label, weight, data}]}`. Short forms are
/// taken too: a node as its id, an edge as `[from, to, weight]`; nodes only edges name are added. An edge without a weight weighs 1.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do.
    #[serde(default)]
    operation: Operation,
    /// The graph, as an object or as its JSON text.
    graph: Option<Value>,
    /// `create_graph`, `import_json`: whether edges have a direction; what the graph says if not given, else directed.
    graph_type: Option<GraphType>,
    /// `create_graph`: its nodes.
    nodes: Option<Vec<Value>>,
    /// `create_graph`: its edges.
    edges: Option<Vec<Value>>,
    /// `add_node`, `remove_node`, `neighbors`: the node.
    node_id: Option<Id>,
    /// `add_edge`, `remove_edge`, paths: the first node.
    from: Option<Id>,
    /// `add_edge`, `remove_edge`, paths: the second node. `shortest_path` without it tells the distance to all.
    to: Option<Id>,
    /// `add_node`, `add_edge`: what to call it.
    label: Option<String>,
    /// `add_edge`: what it costs.
    weight: Option<f64>,
    /// `add_node`, `add_edge`: anything to keep with it.
    data: Option<Value>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Operation {
    #[default]
    CreateGraph,
    AddNode,
    AddEdge,
    RemoveNode,
    RemoveEdge,
    Analyze,
    ShortestPath,
    AllPaths,
    Neighbors,
    Components,
    Cycles,
    TopologicalOrder,
    Centrality,
    SpanningTree,
    ExportJson,
    ImportJson,
    ExportDot,
    ExportMermaid,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum GraphType {
    Directed,
    Undirected,
}

/// Ids are texts; numbers are taken for texts.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Id {
    Text(String),
    Number(i64),
}

impl Id {
    fn text(self) -> String {
        match self {
            Id::Text(text) => text,
            Id::Number(number) => number.to_string(),
        }
    }
}

#[derive(Clone, Serialize)]
struct Node {
    id: String,
    label: Option<String>,
    data: Value,
}

#[derive(Clone, Serialize)]
struct Edge {
    from: String,
    to: String,
    label: Option<String>,
    weight: Option<f64>,
    data: Value,
}

struct Graph {
    kind: GraphType,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    index: HashMap<String, usize>,
    created: String,
}

/// Does one operation.
pub(super) fn run(params: Params, call: &Call) -> Result<Answer> {
    call.check()?;
    let name = word(&params.operation);
    let answer = |result: Value| Answer::new(name.clone(), result);
    let mut graph = match (params.operation, params.graph) {
        (Operation::CreateGraph, given) => {
            let mut given = given.map_or_else(|| Ok(Value::Object(Map::new())), object)?;
            for (member, list) in [("nodes", params.nodes), ("edges", params.edges)] {
                if let Some(list) = list {
                    given[member] = list.into();
                }
            }
            Graph::read(&given, params.graph_type, call)?
        }
        (_, given) => Graph::read(&object(required(given, "graph")?)?, params.graph_type, call)?,
    };
    let node = || required(params.node_id.clone(), "node_id").map(Id::text);
    let from = || required(params.from.clone(), "from").map(Id::text);
    let to = || required(params.to.clone(), "to").map(Id::text);
    match params.operation {
        Operation::CreateGraph | Operation::ImportJson => Ok(answer(graph.write())),
        Operation::AddNode => {
            graph.add_node(Node { id: node()?, label: params.label, data: params.data.unwrap_or(json!({})) })?;
            Ok(answer(graph.write()))
        }
        Operation::AddEdge => {
            let data = params.data.unwrap_or(json!({}));
            let edge = Edge { from: from()?, to: to()?, label: params.label, weight: params.weight, data };
            graph.place(&edge.from, "from")?;
            graph.place(&edge.to, "to")?;
            graph.add_edge(edge)?;
            Ok(answer(graph.write()))
        }
        Operation::RemoveNode => {
            let id = node()?;
            graph.place(&id, "node_id")?;
            graph.nodes.retain(|node| node.id != id);
            graph.edges.retain(|edge| edge.from != id && edge.to != id);
            Ok(answer(graph.write()))
        }
        Operation::RemoveEdge => {
            let (from, to) = (from()?, to()?);
            let undirected = graph.kind == GraphType::Undirected;
            let before = graph.edges.len();
            graph.edges.retain(|edge| {
                !(edge.from == from && edge.to == to || undirected && edge.from == to && edge.to == from)
            });
            if graph.edges.len() == before {
                return Err(Error::new(Class::Tool, format!("edge from {from:?} to {to:?}: not in the graph")));
            }
            Ok(answer(graph.write()))
        }
        Operation::Analyze => analyze(&graph, call).map(answer),
        Operation::ShortestPath => {
            let net = graph.net();
            let start = graph.place(&from()?, "from")?;
            let paths = algorithms::shortest(&net, start, call)?;
            let Some(to) = params.to.clone().map(Id::text) else {
                let distances: Map<String, Value> = graph
                    .nodes
                    .iter()
                    .zip(&paths.distance)
                    .map(|(node, distance)| (node.id.clone(), number(*distance)))
                    .collect();
                return Ok(answer(json!({"from": graph.nodes[start].id, "distances": distances})));
            };
            let end = graph.place(&to, "to")?;
            Ok(answer(match paths.to(end) {
                Some(path) => json!({
                    "found": true, "path": graph.ids(&path), "distance": number(paths.distance[end]), "hops": path.len() - 1,
                }),
                None => json!({"found": false, "path": null, "distance": null}),
            }))
        }
        Operation::AllPaths => {
            let net = graph.net();
            let (start, end) = (graph.place(&from()?, "from")?, graph.place(&to()?, "to")?);
            let (paths, truncated) = algorithms::all_paths(&net, start, end, call)?;
            let paths: Vec<_> = paths.iter().map(|path| graph.ids(path)).collect();
            Ok(answer(json!({"count": paths.len(), "paths": paths, "truncated": truncated})))
        }
        Operation::Neighbors => {
            let id = node()?;
            graph.place(&id, "node_id")?;
            let list = |pick: &dyn Fn(&Edge) -> Option<&String>| {
                let mut ids: Vec<_> = graph.edges.iter().filter_map(pick).collect();
                ids.sort_unstable();
                ids.dedup();
                json!(ids)
            };
            let out = list(&|edge| (edge.from == id).then_some(&edge.to));
            let into = list(&|edge| (edge.to == id).then_some(&edge.from));
            let all = list(&|edge| match (edge.from == id, edge.to == id) {
                (true, _) => Some(&edge.to),
                (_, true) => Some(&edge.from),
                _ => None,
            });
            Ok(answer(match graph.kind {
                GraphType::Directed => json!({"neighbors": all, "successors": out, "predecessors": into}),
                GraphType::Undirected => json!({"neighbors": all}),
            }))
        }
        Operation::Components => {
            let net = graph.net();
            let weak = graph.groups(algorithms::components(&net, call)?);
            let mut result = json!({"count": weak.len(), "connected": weak.len() == 1, "components": weak});
            if graph.kind == GraphType::Directed {
                let strong = graph.groups(algorithms::strong_components(&net, call)?);
                result["strongly_connected_count"] = strong.len().into();
                result["strongly_connected"] = strong.into();
            }
            Ok(answer(result))
        }
        Operation::Cycles => {
            let cycle = algorithms::cycle(&graph.net(), graph.kind == GraphType::Directed, call)?;
            Ok(answer(json!({"acyclic": cycle.is_none(), "cycle": cycle.map(|cycle| graph.ids(&cycle))})))
        }
        Operation::TopologicalOrder => {
            if graph.kind == GraphType::Undirected {
                return Err(Error::new(Class::Usage, "graph: undirected, but an order needs directions"));
            }
            let net = graph.net();
            Ok(answer(match algorithms::topological(&net, call)? {
                Some(order) => json!({"acyclic": true, "order": graph.ids(&order)}),
                None => {
                    let cycle = algorithms::cycle(&net, true, call)?;
                    json!({"acyclic": false, "order": null, "cycle": cycle.map(|cycle| graph.ids(&cycle))})
                }
            }))
        }
        Operation::Centrality => centrality(&graph, call).map(answer),
        Operation::SpanningTree => {
            let (tree, total) = algorithms::spanning_tree(&graph.net(), call)?;
            let edges: Vec<_> = tree.iter().map(|at| json!(graph.edges[*at])).collect();
            Ok(answer(
                json!({"edges": edges, "total_weight": number(total), "spans": edges.len() + 1 >= graph.nodes.len()}),
            ))
        }
        Operation::ExportJson => {
            let text =
                serde_json::to_string_pretty(&graph.write()).map_err(|e| Error::new(Class::Bug, e.to_string()))?;
            let (nodes, edges) = (graph.nodes.len(), graph.edges.len());
            Ok(answer(json!({"json": text, "format": "json", "node_count": nodes, "edge_count": edges})).text(text))
        }
        Operation::ExportDot => {
            let text = dot(&graph);
            Ok(answer(json!({"dot": text, "format": "dot"})).text(text))
        }
        Operation::ExportMermaid => {
            let text = mermaid(&graph);
            Ok(answer(json!({"mermaid": text, "format": "mermaid"})).text(text))
        }
    }
}

fn object(given: Value) -> Result<Value> {
    let value = match given {
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|e| Error::new(Class::Usage, format!("graph: not JSON: {e}")))?
        }
        value => value,
    };
    if value.is_object() { Ok(value) } else { Err(Error::new(Class::Usage, "graph: not an object")) }
}

/// Infinity has no number in JSON; whole numbers are written as such.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { (value as i64).into() } else { value.into() }
}

fn id_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Graph {
    fn read(given: &Value, kind: Option<GraphType>, call: &Call) -> Result<Self> {
        let kind = match (kind, given["graph_type"].as_str()) {
            (Some(kind), _) => kind,
            (None, None | Some("directed")) => GraphType::Directed,
            (None, Some("undirected")) => GraphType::Undirected,
            (None, Some(other)) => {
                return Err(Error::new(
                    Class::Usage,
                    format!("graph.graph_type: {other:?} is not directed or undirected"),
                ));
            }
        };
        let created = given["metadata"]["created_at"].as_str().map(str::to_owned);
        let created = created.unwrap_or_else(|| timestamp(std::time::SystemTime::now()));
        let mut graph = Graph { kind, nodes: Vec::new(), edges: Vec::new(), index: HashMap::new(), created };
        for (member, most) in [("nodes", MAX_NODES), ("edges", MAX_EDGES)] {
            match &given[member] {
                Value::Null => {}
                Value::Array(list) if list.len() <= most => {}
                Value::Array(_) => return Err(Error::new(Class::Usage, format!("graph.{member}: more than {most}"))),
                _ => return Err(Error::new(Class::Usage, format!("graph.{member}: not an array"))),
            }
        }
        let list = |member: &str| given[member].as_array().into_iter().flatten().enumerate();
        for (at, node) in list("nodes") {
            let id = if node.is_object() { &node["id"] } else { node };
            let id = id_of(id).ok_or_else(|| Error::new(Class::Usage, format!("graph.nodes[{at}]: no id")))?;
            let label = node["label"].as_str().map(str::to_owned);
            let data = node.get("data").filter(|data| !data.is_null()).cloned().unwrap_or(json!({}));
            graph.add_node(Node { id, label, data }).map_err(|e| e.within(format!("graph.nodes[{at}]")))?;
        }
        for (at, edge) in list("edges") {
            if at % 4096 == 0 {
                call.check()?;
            }
            let wrong = |what: &str| Error::new(Class::Usage, format!("graph.edges[{at}]: {what}"));
            let (from, to, weight) = match edge {
                Value::Array(parts) if (2..=3).contains(&parts.len()) => {
                    (&parts[0], &parts[1], parts.get(2).unwrap_or(&Value::Null))
                }
                Value::Object(_) => (&edge["from"], &edge["to"], &edge["weight"]),
                _ => return Err(wrong("neither [from, to, weight] nor an object")),
            };
            let (from, to) = (id_of(from).ok_or_else(|| wrong("no from"))?, id_of(to).ok_or_else(|| wrong("no to"))?);
            if !weight.is_null() && !weight.is_number() {
                return Err(wrong("weight is not a number"));
            }
            let label = edge["label"].as_str().map(str::to_owned);
            let data = edge.get("data").filter(|data| !data.is_null()).cloned().unwrap_or(json!({}));
            for id in [&from, &to] {
                if !graph.index.contains_key(id) {
                    graph.add_node(Node { id: id.clone(), label: None, data: json!({}) })?;
                }
            }
            graph.add_edge(Edge { from, to, label, weight: weight.as_f64(), data })?;
        }
        Ok(graph)
    }

    fn add_node(&mut self, node: Node) -> Result<()> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Error::new(Class::Tool, format!("graph: more than {MAX_NODES} nodes")));
        }
        if self.index.insert(node.id.clone(), self.nodes.len()).is_some() {
            return Err(Error::new(Class::Tool, format!("node {:?}: already in the graph", node.id)));
        }
        self.nodes.push(node);
        Ok(())
    }

    fn add_edge(&mut self, edge: Edge) -> Result<()> {
        if self.edges.len() >= MAX_EDGES {
            return Err(Error::new(Class::Tool, format!("graph: more than {MAX_EDGES} edges")));
        }
        self.edges.push(edge);
        Ok(())
    }

    fn place(&self, id: &str, parameter: &str) -> Result<usize> {
        self.index.get(id).copied().ok_or_else(|| {
            let error = Error::new(Class::Tool, format!("{parameter}: node {id:?}: not in the graph"));
            match crate::error::nearest(id, self.nodes.iter().map(|node| node.id.as_str())) {
                Some(near) => error.hint(format!("Did you mean {near}?")),
                None => error.hint("Add it with add_node."),
            }
        })
    }

    fn ids(&self, path: &[usize]) -> Vec<&str> {
        path.iter().map(|at| self.nodes[*at].id.as_str()).collect()
    }

    /// Nodes of the same number together, the largest group first.
    fn groups(&self, number: Vec<usize>) -> Vec<Vec<&str>> {
        let mut groups: Vec<Vec<&str>> = vec![Vec::new(); number.iter().max().map_or(0, |max| max + 1)];
        for (node, number) in self.nodes.iter().zip(number) {
            groups[number].push(&node.id);
        }
        groups.retain(|group| !group.is_empty());
        groups.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        groups
    }

    fn net(&self) -> Net {
        let edges =
            self.edges.iter().map(|edge| (self.index[&edge.from], self.index[&edge.to], edge.weight.unwrap_or(1.0)));
        Net::new(self.nodes.len(), edges, self.kind == GraphType::Directed)
    }

    fn write(&self) -> Value {
        json!({
            "graph_type": self.kind, "nodes": self.nodes, "edges": self.edges,
            "metadata": {
                "created_at": self.created, "last_modified": timestamp(std::time::SystemTime::now()),
                "node_count": self.nodes.len(), "edge_count": self.edges.len(),
            },
        })
    }
}

fn analyze(graph: &Graph, call: &Call) -> Result<Value> {
    let net = graph.net();
    let (n, m) = (graph.nodes.len(), graph.edges.len());
    let directed = graph.kind == GraphType::Directed;
    let (mut degrees, mut loops, mut pairs) = (vec![0_usize; n], 0, std::collections::HashSet::new());
    for edge in &graph.edges {
        let (a, b) = (graph.index[&edge.from], graph.index[&edge.to]);
        degrees[a] += 1;
        degrees[b] += 1;
        if a == b {
            loops += 1;
        } else {
            pairs.insert(if directed { (a, b) } else { (a.min(b), a.max(b)) });
        }
    }
    let possible = n * n.saturating_sub(1) / if directed { 1 } else { 2 };
    let components = algorithms::components(&net, call)?.into_iter().max().map_or(0, |max| max + 1);
    let mut result = json!({
        "node_count": n, "edge_count": m, "graph_type": graph.kind,
        "density": if possible == 0 { 0.0 } else { pairs.len() as f64 / possible as f64 },
        "degree_statistics": {
            "max": degrees.iter().max().unwrap_or(&0), "min": degrees.iter().min().unwrap_or(&0),
            "average": if n == 0 { 0.0 } else { degrees.iter().sum::<usize>() as f64 / n as f64 },
        },
        "properties": {
            "is_empty": n == 0, "is_complete": n > 0 && pairs.len() == possible, "has_self_loops": loops > 0,
            "has_parallel_edges": pairs.len() + loops < m, "is_connected": components == 1,
            "is_acyclic": algorithms::cycle(&net, directed, call)?.is_none(), "self_loops": loops,
        },
        "component_count": components,
        "total_weight": number(graph.edges.iter().map(|edge| edge.weight.unwrap_or(1.0)).sum()),
    });
    result["node_ids"] = graph.nodes.iter().map(|node| node.id.as_str()).collect();
    if directed {
        result["sources"] = ends(graph, |edge| &edge.to).into();
        result["sinks"] = ends(graph, |edge| &edge.from).into();
    }
    Ok(result)
}

/// Nodes no edge names at that end.
fn ends(graph: &Graph, end: impl Fn(&Edge) -> &String) -> Vec<&str> {
    let named: std::collections::HashSet<_> = graph.edges.iter().map(end).collect();
    graph.nodes.iter().filter(|node| !named.contains(&node.id)).map(|node| node.id.as_str()).collect()
}

fn centrality(graph: &Graph, call: &Call) -> Result<Value> {
    let n = graph.nodes.len();
    if n.saturating_mul(n + graph.edges.len()) > MAX_PAIRS {
        return Err(Error::new(Class::Tool, "graph: too large for centrality")
            .hint("Take a component of it: operation = \"components\"."));
    }
    let measures = algorithms::centrality(&graph.net(), call)?;
    let round = |value: f64| number((value * 1e6).round() / 1e6);
    let mut nodes = Map::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let values = measures.iter().map(|(name, values)| ((*name).to_owned(), round(values[at])));
        nodes.insert(node.id.clone(), values.collect::<Map<_, _>>().into());
    }
    let mut ranking = Map::new();
    for (name, values) in &measures {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(graph.nodes[*a].id.cmp(&graph.nodes[*b].id)));
        order.truncate(100);
        ranking.insert((*name).to_owned(), json!(graph.ids(&order)));
    }
    Ok(json!({"nodes": nodes, "ranking": ranking}))
}

/// For Graphviz.
fn dot(graph: &Graph) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let (word, arrow) = match graph.kind {
        GraphType::Directed => ("digraph", "->"),
        GraphType::Undirected => ("graph", "--"),
    };
    let mut out = format!("{word} {{\n");
    for node in &graph.nodes {
        let label = node.label.as_ref().map(|label| format!(" [label={}]", quote(label))).unwrap_or_default();
        _ = writeln!(out, "  {}{label};", quote(&node.id));
    }
    for edge in &graph.edges {
        let label = edge.label.clone().or_else(|| edge.weight.map(|weight| weight.to_string()));
        let label = label.map(|label| format!(" [label={}]", quote(&label))).unwrap_or_default();
        _ = writeln!(out, "  {} {arrow} {}{label};", quote(&edge.from), quote(&edge.to));
    }
    out + "}\n"
}

/// For Mermaid, as Markdown pages show it.
fn mermaid(graph: &Graph) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('"', "#quot;").replace('\n', "<br>"));
    let arrow = if graph.kind == GraphType::Directed { "-->" } else { "---" };
    let mut out = "graph LR\n".to_owned();
    for (at, node) in graph.nodes.iter().enumerate() {
        _ = writeln!(out, "  n{at}[{}]", quote(node.label.as_ref().unwrap_or(&node.id)));
    }
    for edge in &graph.edges {
        let label = edge.label.clone().or_else(|| edge.weight.map(|weight| weight.to_string()));
        let label = label.map(|label| format!("|{}|", quote(&label))).unwrap_or_default();
        _ = writeln!(out, "  n{} {arrow}{label} n{}", graph.index[&edge.from], graph.index[&edge.to]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bad, result};
    use super::*;

    fn ask(operation: &str, graph: Value, more: Value) -> Value {
        let mut params = json!({"operation": operation, "graph": graph});
        for (name, value) in more.as_object().unwrap() {
            params[name] = value.clone();
        }
        result("graph_builder", params)
    }

    #[test]
    fn a_graph_is_built_step_by_step() {
        let mut graph = result("graph-builder", json!({"graph_type": "undirected"}));
        for (params, nodes, edges) in [
            (json!({"operation": "add_node", "node_id": "a", "label": "A", "data": {"x": 1}}), 1, 0),
            (json!({"operation": "add_node", "node_id": 7}), 2, 0),
            (json!({"operation": "add_edge", "from": "a", "to": 7, "weight": 2}), 2, 1),
            (json!({"operation": "add_edge", "from": "a", "to": "a"}), 2, 2),
            (json!({"operation": "remove_edge", "from": "7", "to": "a"}), 2, 1),
            (json!({"operation": "remove_node", "node_id": "a"}), 1, 0),
        ] {
            let mut params = params;
            // As an object and as text, as the predecessor wanted it.
            params["graph"] = if edges == 1 { graph.clone() } else { graph.to_string().into() };
            graph = result("graph_builder", params);
            assert_eq!(
                (&graph["metadata"]["node_count"], &graph["metadata"]["edge_count"]),
                (&json!(nodes), &json!(edges))
            );
            assert_eq!(graph["graph_type"], "undirected");
        }
    }

    #[test]
    fn questions_are_answered() {
        let ring = json!({"edges": [["a", "b"], ["b", "c"], ["c", "a"], ["c", "d"]]});
        assert_eq!(ask("cycles", ring.clone(), json!({}))["cycle"], json!(["a", "b", "c", "a"]));
        assert_eq!(ask("topological_sort", ring.clone(), json!({}))["acyclic"], false);
        let parts = ask("components", ring.clone(), json!({}));
        assert_eq!((&parts["count"], &parts["strongly_connected"]), (&json!(1), &json!([["a", "b", "c"], ["d"]])));
        let facts = ask("analyze", ring.clone(), json!({}));
        assert_eq!((&facts["sinks"], &facts["properties"]["is_acyclic"]), (&json!(["d"]), &json!(false)));
        assert!((facts["density"].as_f64().unwrap() - 4.0 / 12.0).abs() < 1e-9);
        assert_eq!(ask("neighbors", ring.clone(), json!({"node_id": "c"}))["successors"], json!(["a", "d"]));
        assert_eq!(ask("shortest_path", ring.clone(), json!({"from": "d", "to": "a"}))["found"], false);
        assert_eq!(
            ask("shortest_path", ring.clone(), json!({"from": "a"}))["distances"],
            json!({"a": 0, "b": 1, "c": 2, "d": 3})
        );
        assert_eq!(ask("all_paths", ring, json!({"from": "a", "to": "d"}))["paths"], json!([["a", "b", "c", "d"]]));
        let tree = json!({"graph_type": "undirected", "edges": [["a", "b", 3], ["b", "c", 1], ["a", "c", 1]]});
        assert_eq!(ask("spanning_tree", tree.clone(), json!({}))["total_weight"], 2);
        assert_eq!(ask("cycles", tree, json!({}))["acyclic"], false);
        let line = json!({"graph_type": "undirected", "edges": [["a", "b"], ["b", "c"]]});
        assert_eq!(ask("cycles", line, json!({}))["acyclic"], true);
        let quoted = json!({"edges": [["a\"b", "c"]]});
        assert!(ask("export_dot", quoted, json!({}))["dot"].as_str().unwrap().contains(r#""a\"b" -> "c";"#));
    }

    #[test]
    fn negative_weights_are_dealt_with() {
        let net = json!({"edges": [["a", "b", 4], ["a", "c", 2], ["b", "c", -3], ["c", "d", 1]]});
        let path = ask("shortest_path", net, json!({"from": "a", "to": "d"}));
        assert_eq!((&path["path"], &path["distance"]), (&json!(["a", "b", "c", "d"]), &json!(2)));
    }

    #[test]
    fn bad_input() {
        let with = |operation: &str, graph: Value| json!({"operation": operation, "graph": graph, "from": "a", "to": "b", "node_id": "x"});
        bad(
            "graph_builder",
            &[
                (json!({"operation": "analyze"}), Class::Usage),
                (with("analyze", json!(5)), Class::Usage),
                (with("analyze", json!("{")), Class::Usage),
                (with("analyze", json!({"nodes": 1})), Class::Usage),
                (with("analyze", json!({"nodes": [{}]})), Class::Usage),
                (with("analyze", json!({"nodes": ["a", "a"]})), Class::Tool),
                (with("analyze", json!({"edges": [["a"]]})), Class::Usage),
                (with("analyze", json!({"edges": [["a", "b", "c"]]})), Class::Usage),
                (with("analyze", json!({"graph_type": "round"})), Class::Usage),
                (with("shortest_path", json!({"nodes": ["a"]})), Class::Tool),
                (with("shortest_path", json!({"edges": [["a", "b", -1], ["b", "a", -1]]})), Class::Tool),
                (with("topological_order", json!({"graph_type": "undirected"})), Class::Usage),
                (with("remove_node", json!({})), Class::Tool),
                (with("remove_edge", json!({"nodes": ["a", "b"]})), Class::Tool),
                (with("add_edge", json!({"nodes": ["a"]})), Class::Tool),
            ],
        );
    }
}
