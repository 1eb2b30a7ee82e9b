//! What is not in this build.

use super::{Section, row};

pub(super) const ABSENT: Section = Section {
    title: "NOT IN THIS BUILD",
    about: "What scripts of v0.10 knew besides. Their tables are there, so that whatever uses one gets an error of the class `absent` that names it and tells what to do instead; `pcall(function() return Session.create end)` finds out.",
    values: &[],
    rows: &[
        row("Session", "", "Sessions.").example("local ok, err = pcall(function() return Session.create {} end)\nprint(err.class, err)  --> absent\tSession.create is not in this build"),
        row("Artifact", "", "Artifacts of sessions."),
        row("RAG", "", "Retrieval from documents."),
        row("Event", "", "Events."),
        row("Hook", "", "Hooks."),
        row("Replay", "", "Replay of sessions."),
        row("Utils", "", "In v0.10 an empty table."),
    ],
};
