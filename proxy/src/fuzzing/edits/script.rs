//! What a script of edits and settings means in a request.

use sluicegate_edits::{Change, Edit, Kind, Reason, Rules};

use super::super::talk::Talk;
use super::super::{json, slot};
use crate::api::Endpoint;
use crate::api::request;
use crate::config::Slot;

/// What a script says.
pub(super) struct Script {
    lines: Vec<(char, [u32; 4], String)>,
    pub(super) slot: Slot,
    pub(super) endpoint: Endpoint,
    pub(super) changes: request::Changes,
}

impl Script {
    pub(super) fn read(text: &str) -> Self {
        let mut script = Self {
            lines: Vec::new(),
            slot: slot(),
            endpoint: Endpoint::Chat,
            changes: request::Changes::default(),
        };
        for line in text.lines() {
            let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
            script.line(command, rest);
        }
        script
    }

    fn line(&mut self, command: &str, rest: &str) {
        let number = |text: &str| text.parse::<u32>().unwrap_or_default();
        match command {
            "m" | "g" | "p" | "s" | "r" | "c" | "x" => {
                let mut words = rest.splitn(5, ' ');
                let numbers = [(); 4].map(|()| words.next().map_or(0, number));
                let text = words.next().unwrap_or_default().replace("\\n", "\n");
                self.lines.extend(
                    command
                        .chars()
                        .map(|command| (command, numbers, text.clone())),
                );
            }
            "results" => self.slot.edit_tool_results = true,
            "last-user" => self.slot.edit_last_user = true,
            "most" => {
                let (edits, bytes) = rest.split_once(' ').unwrap_or((rest, ""));
                self.slot.max_edits = edits.parse().unwrap_or_default();
                self.slot.max_output_bytes = bytes.parse().unwrap_or_default();
            }
            "endpoint" if rest == "completions" => self.endpoint = Endpoint::Completions,
            "endpoint" if rest == "embeddings" => self.endpoint = Endpoint::Embeddings,
            "model" => self.changes.model = Some(rest.to_owned()),
            "cap" => self.changes.max_tokens_cap = Some(number(rest)),
            // Routes write numbers and lists of texts.
            "default" if json::read(rest).is_some() => {
                let name = ["max_tokens", "stop"][self.changes.insert.len() % 2];
                self.changes.insert.push((name, rest.to_owned()));
            }
            _ => {}
        }
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            max_edits: self.slot.max_edits,
            max_replacement_bytes: self.slot.max_output_bytes,
            tool_results: self.slot.edit_tool_results,
        }
    }

    pub(super) fn edits(&self, talk: &Talk<'_>) -> Vec<Edit> {
        let changes = self.lines.iter().flat_map(|(command, numbers, text)| {
            let [message, part, start, end] = match command {
                'c' | 'x' => in_bytes(talk, *numbers),
                _ => *numbers,
            };
            let text = text.clone();
            match command {
                'm' => vec![Change::DropMessage(message)],
                'g' => talk
                    .mates(message)
                    .into_iter()
                    .map(Change::DropMessage)
                    .collect(),
                'p' => vec![Change::DropPart { message, part }],
                'r' | 'x' => vec![Change::ReplaceSpan {
                    message,
                    part,
                    start,
                    end,
                    text,
                }],
                _ => vec![Change::DropSpan {
                    message,
                    part,
                    start,
                    end,
                }],
            }
        });
        let edit = |change| Edit {
            change,
            kind: Kind::Other,
            reason: Reason::Irrelevant,
        };
        changes.map(edit).collect()
    }
}

/// The place of a piece of text by its characters. A place without a text stands for another, and a
/// piece that is not there for one that is, so that most scripts mean something.
fn in_bytes(talk: &Talk<'_>, numbers: [u32; 4]) -> [u32; 4] {
    let [message, part, start, end] = numbers;
    let texts: Vec<(u32, u32, &str)> = talk.texts().collect();
    let is_it = |(at, number, _): &&(u32, u32, &str)| (*at, *number) == (message, part);
    let Some(other) = message.wrapping_add(part).checked_rem(count(texts.len())) else {
        return numbers;
    };
    let (message, part, text) = *texts.iter().find(is_it).unwrap_or(&texts[index(other)]);
    let borders: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let start = index(start) % (borders.len() - 1);
    let end = index(end).clamp(start + 1, borders.len() - 1);
    [message, part, count(borders[start]), count(borders[end])]
}

pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
