//! A compressor: turns without content go, for example "Thanks!" and "You're welcome.".

use sluicegate_plugin::{
    Budget, Compressor, ConfigIssue, Edit, Failure, Host, Kind, NoConfig, Reason, Request, Role,
};

/// Longest message, in bytes, that is looked at.
const SHORT_BYTES: usize = 40;

struct Greetings;

impl Compressor for Greetings {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, Vec<ConfigIssue>> {
        Ok(Self)
    }

    fn compress(&self, request: &Request, _: &Budget, _: &dyn Host) -> Result<Vec<Edit>, Failure> {
        let is_idle = |text: &str| {
            let text = text.to_lowercase();
            text.len() <= SHORT_BYTES
                && ["thanks", "thank you", "you're welcome", "hello"]
                    .iter()
                    .any(|w| text.starts_with(w))
        };
        let open = request.messages.iter().filter(|message| {
            // A group of tool calls goes whole or not at all; the host refuses what is locked.
            !message.locked && message.group.is_none() && message.role != Role::System
        });
        let idle = open.filter(|message| message.parts.len() == 1 && is_idle(&message.text()));
        let drop = |index| Edit::drop_message(index, Kind::Filler, Reason::Irrelevant);
        Ok(idle.map(|message| drop(message.index)).collect())
    }
}

sluicegate_plugin::compressor!(Greetings, description: "Cuts turns without content.");

/// An example has an entry point; a plugin has none.
fn main() {}
