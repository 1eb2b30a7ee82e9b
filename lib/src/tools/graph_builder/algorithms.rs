//! Algorithms on a net of numbered nodes. All look at the clock, none calls itself.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use super::super::Call;
use crate::error::{Class, Error, Result};

/// Most paths that are listed, and most steps taken to find them.
const MAX_PATHS: usize = 1000;
const MAX_STEPS: usize = 5_000_000;

/// Nodes are numbers; of an undirected graph every edge leads both ways.
pub(super) struct Net {
    /// Of each node: where edges lead, their weight, their number.
    next: Vec<Vec<(usize, f64, usize)>>,
    edges: Vec<(usize, usize, f64)>,
}

impl Net {
    pub(super) fn new(nodes: usize, edges: impl Iterator<Item = (usize, usize, f64)>, directed: bool) -> Self {
        let mut net = Net { next: vec![Vec::new(); nodes], edges: edges.collect() };
        for (number, (from, to, weight)) in net.edges.iter().enumerate() {
            net.next[*from].push((*to, *weight, number));
            if !directed && from != to {
                net.next[*to].push((*from, *weight, number));
            }
        }
        net
    }

    fn len(&self) -> usize {
        self.next.len()
    }
}

/// The shortest paths from one node to all.
pub(super) struct Paths {
    /// Infinite where no path leads.
    pub(super) distance: Vec<f64>,
    before: Vec<Option<usize>>,
}

impl Paths {
    /// The nodes on the way to `end`.
    pub(super) fn to(&self, end: usize) -> Option<Vec<usize>> {
        if self.distance[end].is_infinite() {
            return None;
        }
        let mut path = vec![end];
        let mut at = end;
        while let Some(before) = self.before[at] {
            path.push(before);
            at = before;
        }
        path.reverse();
        Some(path)
    }
}

/// A node to be visited, the nearest first.
#[derive(PartialEq)]
struct Visit(f64, usize);

impl Eq for Visit {}

impl PartialOrd for Visit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Visit {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

/// Dijkstra; Bellman and Ford where a weight is negative.
pub(super) fn shortest(net: &Net, start: usize, call: &Call) -> Result<Paths> {
    let mut paths = Paths { distance: vec![f64::INFINITY; net.len()], before: vec![None; net.len()] };
    paths.distance[start] = 0.0;
    if net.edges.iter().any(|(_, _, weight)| *weight < 0.0) {
        return bellman_ford(net, paths, call);
    }
    let mut queue = BinaryHeap::from([Reverse(Visit(0.0, start))]);
    let mut count = 0_usize;
    while let Some(Reverse(Visit(distance, at))) = queue.pop() {
        count += 1;
        if count.is_multiple_of(4096) {
            call.check()?;
        }
        if distance > paths.distance[at] {
            continue;
        }
        for (to, weight, _) in &net.next[at] {
            let there = distance + weight;
            if there < paths.distance[*to] {
                paths.distance[*to] = there;
                paths.before[*to] = Some(at);
                queue.push(Reverse(Visit(there, *to)));
            }
        }
    }
    Ok(paths)
}

fn bellman_ford(net: &Net, mut paths: Paths, call: &Call) -> Result<Paths> {
    for _ in 0..net.len() {
        let mut changed = false;
        call.check()?;
        for (from, next) in net.next.iter().enumerate() {
            for (to, weight, _) in next {
                let there = paths.distance[from] + weight;
                if there < paths.distance[*to] {
                    paths.distance[*to] = there;
                    paths.before[*to] = Some(from);
                    changed = true;
                }
            }
        }
        if !changed {
            return Ok(paths);
        }
    }
    Err(Error::new(Class::Tool, "graph: a cycle of negative weight, so there is no shortest path"))
}

/// The simple paths from `start` to `end`, and whether there are more than were found.
pub(super) fn all_paths(net: &Net, start: usize, end: usize, call: &Call) -> Result<(Vec<Vec<usize>>, bool)> {
    let mut found = Vec::new();
    let mut path = vec![start];
    let mut on_path = vec![false; net.len()];
    on_path[start] = true;
    let mut tries = vec![0_usize];
    let mut steps = 0_usize;
    if start == end {
        return Ok((vec![path], false));
    }
    while let (Some(&at), Some(tried)) = (path.last(), tries.last_mut()) {
        steps += 1;
        if steps.is_multiple_of(4096) {
            call.check()?;
        }
        if steps > MAX_STEPS {
            return Ok((found, true));
        }
        let Some((to, _, _)) = net.next[at].get(*tried) else {
            on_path[at] = false;
            path.pop();
            tries.pop();
            continue;
        };
        *tried += 1;
        if *to == end {
            if found.len() == MAX_PATHS {
                return Ok((found, true));
            }
            let mut whole = path.clone();
            whole.push(end);
            found.push(whole);
        } else if !on_path[*to] {
            on_path[*to] = true;
            path.push(*to);
            tries.push(0);
        }
    }
    Ok((found, false))
}

/// Of each node the number of its component, whatever the directions.
pub(super) fn components(net: &Net, call: &Call) -> Result<Vec<usize>> {
    call.check()?;
    let mut sets = Sets::new(net.len());
    for (from, to, _) in &net.edges {
        sets.join(*from, *to);
    }
    let mut numbers = vec![usize::MAX; net.len()];
    let mut count = 0;
    let mut result = Vec::with_capacity(net.len());
    for node in 0..net.len() {
        let root = sets.root(node);
        if numbers[root] == usize::MAX {
            numbers[root] = count;
            count += 1;
        }
        result.push(numbers[root]);
    }
    Ok(result)
}

/// Sets that are joined.
struct Sets(Vec<usize>);

impl Sets {
    fn new(count: usize) -> Self {
        Sets((0..count).collect())
    }

    fn root(&mut self, mut node: usize) -> usize {
        while self.0[node] != node {
            self.0[node] = self.0[self.0[node]];
            node = self.0[node];
        }
        node
    }

    /// Whether they were two.
    fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a] = b;
        a != b
    }
}

/// Of each node the number of its strongly connected component (Tarjan, without calling itself).
pub(super) fn strong_components(net: &Net, call: &Call) -> Result<Vec<usize>> {
    const NONE: usize = usize::MAX;
    let n = net.len();
    let (mut index, mut low, mut on_stack, mut number) = (vec![NONE; n], vec![0; n], vec![false; n], vec![NONE; n]);
    let (mut counter, mut groups, mut stack) = (0, 0, Vec::new());
    for root in 0..n {
        if index[root] != NONE {
            continue;
        }
        let mut work = vec![(root, 0_usize)];
        while let Some((at, tried)) = work.last_mut() {
            let at = *at;
            if *tried == 0 {
                if counter % 4096 == 0 {
                    call.check()?;
                }
                index[at] = counter;
                low[at] = counter;
                counter += 1;
                stack.push(at);
                on_stack[at] = true;
            }
            if let Some((to, _, _)) = net.next[at].get(*tried) {
                *tried += 1;
                if index[*to] == NONE {
                    work.push((*to, 0));
                } else if on_stack[*to] {
                    low[at] = low[at].min(index[*to]);
                }
                continue;
            }
            work.pop();
            if let Some((above, _)) = work.last() {
                low[*above] = low[*above].min(low[at]);
            }
            if low[at] == index[at] {
                while let Some(node) = stack.pop() {
                    on_stack[node] = false;
                    number[node] = groups;
                    if node == at {
                        break;
                    }
                }
                groups += 1;
            }
        }
    }
    Ok(number)
}

/// A cycle, its first node again at the end.
pub(super) fn cycle(net: &Net, directed: bool, call: &Call) -> Result<Option<Vec<usize>>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut mark = vec![Mark::New; net.len()];
    for root in 0..net.len() {
        call.check()?;
        if mark[root] != Mark::New {
            continue;
        }
        // The node, the edge that led there, how many of its edges were looked at.
        let mut path = vec![(root, usize::MAX, 0_usize)];
        mark[root] = Mark::Open;
        while let Some((at, by, tried)) = path.last_mut() {
            let Some((to, _, edge)) = net.next[*at].get(*tried) else {
                mark[*at] = Mark::Done;
                path.pop();
                continue;
            };
            *tried += 1;
            if !directed && edge == by {
                continue;
            }
            match mark[*to] {
                Mark::New => {
                    mark[*to] = Mark::Open;
                    path.push((*to, *edge, 0));
                }
                Mark::Open => {
                    let first = path.iter().position(|(node, _, _)| node == to).unwrap_or(0);
                    return Ok(Some(path[first..].iter().map(|(node, _, _)| *node).chain([*to]).collect()));
                }
                Mark::Done => {}
            }
        }
    }
    Ok(None)
}

/// An order in which every edge leads forward, of two free ones the earlier first; `None` for a graph with cycles.
pub(super) fn topological(net: &Net, call: &Call) -> Result<Option<Vec<usize>>> {
    call.check()?;
    let mut waits = vec![0_usize; net.len()];
    for (_, to, _) in &net.edges {
        waits[*to] += 1;
    }
    let mut free: BinaryHeap<_> = (0..net.len()).filter(|node| waits[*node] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(net.len());
    while let Some(Reverse(at)) = free.pop() {
        order.push(at);
        for (to, _, _) in &net.next[at] {
            waits[*to] -= 1;
            if waits[*to] == 0 {
                free.push(Reverse(*to));
            }
        }
    }
    Ok((order.len() == net.len()).then_some(order))
}

/// The numbers of the edges of a cheapest spanning forest (Kruskal), directions left aside, and its weight.
pub(super) fn spanning_tree(net: &Net, call: &Call) -> Result<(Vec<usize>, f64)> {
    call.check()?;
    let mut order: Vec<usize> = (0..net.edges.len()).collect();
    order.sort_by(|a, b| net.edges[*a].2.total_cmp(&net.edges[*b].2));
    let mut sets = Sets::new(net.len());
    let tree: Vec<usize> = order.into_iter().filter(|at| sets.join(net.edges[*at].0, net.edges[*at].1)).collect();
    let total = tree.iter().map(|at| net.edges[*at].2).sum();
    Ok((tree, total))
}

/// Degree, closeness and betweenness (Brandes; edges count one each), and PageRank, of each node; normalised as networkx does.
pub(super) fn centrality(net: &Net, call: &Call) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let n = net.len();
    let mut degree = vec![0.0; n];
    let mut into: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (from, next) in net.next.iter().enumerate() {
        for (to, _, _) in next {
            into[*to].push(from);
        }
    }
    for (from, to, _) in &net.edges {
        degree[*from] += 1.0;
        degree[*to] += 1.0;
    }
    let others = n.saturating_sub(1).max(1) as f64;
    degree.iter_mut().for_each(|degree| *degree /= others);
    let mut closeness = vec![0.0; n];
    let mut betweenness = vec![0.0; n];
    for (start, near) in closeness.iter_mut().enumerate() {
        call.check()?;
        // How near the others are, on the ways that lead here.
        let (order, distance, _) = breadth(n, start, |at| into[at].iter().copied());
        let total: usize = order.iter().map(|at| distance[*at]).sum();
        if total > 0 {
            let reached = (order.len() - 1) as f64;
            *near = reached / total as f64 * reached / others;
        }
        let (order, distance, ways) = breadth(n, start, |at| net.next[at].iter().map(|(to, _, _)| *to));
        let mut share = vec![0.0; n];
        for at in order.iter().rev() {
            for (to, _, _) in &net.next[*at] {
                if distance[*to] == distance[*at] + 1 {
                    share[*at] += ways[*at] / ways[*to] * (1.0 + share[*to]);
                }
            }
            if *at != start {
                betweenness[*at] += share[*at];
            }
        }
    }
    let pairs = (n.saturating_sub(1) * n.saturating_sub(2)).max(1) as f64;
    betweenness.iter_mut().for_each(|value| *value /= pairs);
    let rank = page_rank(net, call)?;
    Ok(vec![("degree", degree), ("closeness", closeness), ("betweenness", betweenness), ("pagerank", rank)])
}

/// The nodes in the order they are reached, how many steps away each is, and on how many shortest ways.
fn breadth<I: Iterator<Item = usize>>(
    n: usize,
    start: usize,
    next: impl Fn(usize) -> I,
) -> (Vec<usize>, Vec<usize>, Vec<f64>) {
    let (mut distance, mut ways, mut order) = (vec![usize::MAX; n], vec![0.0; n], Vec::new());
    distance[start] = 0;
    ways[start] = 1.0;
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        order.push(at);
        for to in next(at) {
            if distance[to] == usize::MAX {
                distance[to] = distance[at] + 1;
                queue.push_back(to);
            }
            if distance[to] == distance[at] + 1 {
                ways[to] += ways[at];
            }
        }
    }
    (order, distance, ways)
}

fn page_rank(net: &Net, call: &Call) -> Result<Vec<f64>> {
    const DAMPING: f64 = 0.85;
    let n = net.len() as f64;
    let mut rank = vec![1.0 / n; net.len()];
    for _ in 0..100 {
        call.check()?;
        let lost: f64 = (0..net.len()).filter(|at| net.next[*at].is_empty()).map(|at| rank[at]).sum();
        let mut new = vec![(1.0 - DAMPING + DAMPING * lost) / n; net.len()];
        for (from, next) in net.next.iter().enumerate() {
            for (to, _, _) in next {
                new[*to] += DAMPING * rank[from] / next.len() as f64;
            }
        }
        let change: f64 = rank.iter().zip(&new).map(|(old, new)| (old - new).abs()).sum();
        rank = new;
        if change < 1e-9 {
            break;
        }
    }
    Ok(rank)
}
