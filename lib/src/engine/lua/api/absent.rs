//! What is not in this build.

use super::{Section, row};

pub(super) const ABSENT: Section = Section {
    title: "NOT IN THIS BUILD",
    about: "What scripts of v0.10 knew besides. Their tables are there, so that whatever uses one gets an error of the class `absent` that names it and tells what to do instead; `pcall(function() return Session.create end)` finds out.",
    values: &[],
    rows: &[
        row("Session", "", "Sessions: not in this build.").example("local ok, err = pcall(function() return Session.create {} end)\nprint(err.class, err)  --> absent\tSession.create is not in this build"),
        row("Artifact", "", "Artifacts of sessions: not in this build."),
        row("RAG", "", "Retrieval from documents: not in this build."),
        row("Event", "", "Events: not in this build."),
        row("Hook", "", "Hooks: not in this build."),
        row("Replay", "", "Replay of sessions: not in this build."),
        row("Utils", "", "In v0.10 an empty table."),
    ],
};
