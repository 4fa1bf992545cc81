//! Cuts what the question does not need: terms and passages beyond the best few, old turns,
//! sentences that the operator's instructions say twice.
//!
//! Nothing that is locked is touched, no message with media, no tool call without its results. What
//! a reader does not recognise stays. A message whose passage was kept is never dropped as history.
//! The work is linear in the text. Start at [`TopK::plan`].

mod choose;
mod config;
mod history;
mod items;
mod rank;
mod repetition;
#[cfg(test)]
mod tests;
mod tokens;

use std::borrow::Cow;

use choose::{Entry, Place, entries_of};
pub use config::Config;
use items::ItemKind;
use rank::Query;
use sluicegate_plugin::{
    Budget, Compressor, ConfigIssue, Edit, Failure, Host, Kind, Message, Origin, Part, Reason,
    Request, Role, Span, TextWish,
};
use tokens::{Token, stop_tokens};

/// What a word of the user's message before the last one counts, against 1 in the last one.
const EARLIER_WEIGHT: f32 = 0.25;
/// Characters at the beginning and at the end of a long question that are its query.
const QUERY_CHARS: usize = 1_200;

/// What it takes on, so that no request of a client makes it run into its slot's limits: beyond, it
/// says that it gave up, and the prompt stays as it is.
const MOST_BYTES: u64 = 4 * 1024 * 1024;
const MOST_ENTRIES: usize = 2_000;
/// The default of the slot's `max_edits`.
const MOST_EDITS: usize = 4_096;

/// The compressor of one slot.
pub struct TopK {
    config: Config,
    stop: Vec<Token>,
}

impl Compressor for TopK {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Vec<ConfigIssue>> {
        let issues = config.issues();
        if !issues.is_empty() {
            return Err(issues);
        }
        Ok(Self {
            config: config.folded(),
            stop: stop_tokens(),
        })
    }

    fn compress(
        &self,
        request: &Request,
        budget: &Budget,
        host: &dyn Host,
    ) -> Result<Vec<Edit>, Failure> {
        if u64::from(request.text_bytes) > MOST_BYTES {
            return Err(Failure::Exhausted(format!("more than {MOST_BYTES} bytes")));
        }
        let texts = read(request, host)?;
        let entries = self.entries(&texts);
        if entries.len() > MOST_ENTRIES {
            let detail = format!("more than {MOST_ENTRIES} terms and passages");
            return Err(Failure::Exhausted(detail));
        }
        let edits = self.plan(request, &texts, &entries, budget);
        if edits.len() > MOST_EDITS {
            return Err(Failure::Exhausted(format!("more than {MOST_EDITS} edits")));
        }
        edits
            .into_iter()
            .map(|planned| planned.edit())
            .collect::<Option<_>>()
            .ok_or_else(|| Failure::Exhausted("a text of 4 GiB or more".to_owned()))
    }
}

/// A whole text of the request.
pub(crate) struct Source<'a> {
    pub(crate) message: &'a Message,
    pub(crate) part: u32,
    pub(crate) text: Cow<'a, str>,
    pub(crate) origin: Origin,
}

/// An edit before its places are numbers of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) reason: Reason,
}

impl Planned {
    /// None for a place beyond 4 GiB.
    fn edit(&self) -> Option<Edit> {
        let (kind, reason) = (self.kind, self.reason);
        Some(match &self.place {
            Place::Message(message) => Edit::drop_message(*message, kind, reason),
            Place::Part { message, part } => Edit::drop_part(*message, *part, kind, reason),
            Place::Span {
                message,
                part,
                range,
            } => {
                let span = Span {
                    message: *message,
                    part: *part,
                    start: u32::try_from(range.start).ok()?,
                    end: u32::try_from(range.end).ok()?,
                };
                Edit::drop_span(span, kind, reason)
            }
        })
    }
}

impl TopK {
    /// Ranks all entries against the question, and says what goes.
    fn plan(
        &self,
        request: &Request,
        texts: &[Source<'_>],
        entries: &[Entry],
        budget: &Budget,
    ) -> Vec<Planned> {
        let (query, question) = match entries.is_empty() {
            true => Default::default(),
            false => self.query(request, texts, entries),
        };
        let target = budget
            .target_tokens
            .filter(|target| *target < request.prompt_tokens);
        let mut chosen = choose::run(
            &self.config,
            &self.stop,
            &query,
            &question,
            texts,
            entries,
            target,
        );
        let mut planned = std::mem::take(&mut chosen.planned);
        if self.config.drop_repetitions {
            planned.extend(repetition::find(texts, entries));
        }
        history::keep_question(request, texts, &mut planned);
        let dropped = history::find(&self.config, request, texts, &planned, &chosen.kept_in);
        // What goes as a whole needs no cuts inside.
        planned.retain(|cut| !dropped.contains(&cut.place.message()));
        planned.extend(dropped.into_iter().map(|message| Planned {
            place: Place::Message(message),
            kind: Kind::History,
            reason: Reason::Outdated,
        }));
        planned
    }

    /// All terms and passages of the request, those of locked messages too: they are not the
    /// question.
    fn entries(&self, texts: &[Source<'_>]) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (source, text) in texts.iter().enumerate() {
            let kind = match text.origin {
                Origin::Term => ItemKind::Term,
                Origin::Chunk => ItemKind::Chunk,
                Origin::Message => {
                    let found = items::find(&text.text, &self.config);
                    entries.extend(found.into_iter().map(|item| Entry::in_text(source, item)));
                    continue;
                }
            };
            entries.push(Entry::whole(source, kind, &text.text));
        }
        entries
    }

    /// The words of the last user message without the entries in it, and, for less, of the user's
    /// message before it; and the last one's text.
    fn query(&self, request: &Request, texts: &[Source<'_>], entries: &[Entry]) -> (Query, String) {
        let (mut query, mut question) = (Query::default(), String::new());
        let mut users = request
            .messages
            .iter()
            .rev()
            .filter(|message| message.role == Role::User);
        let last = users.next().map(|message| message.index);
        let before = users.next().map(|message| message.index);
        for (at, source) in texts.iter().enumerate() {
            let weight = match Some(source.message.index) {
                index if index == last => 1.0,
                index if index == before => EARLIER_WEIGHT,
                _ => continue,
            };
            let mut from = 0;
            let mut asked = String::new();
            for entry in entries_of(entries, at) {
                asked.push_str(
                    source
                        .text
                        .get(from..entry.item.cut.start)
                        .unwrap_or_default(),
                );
                from = entry.item.cut.end;
            }
            asked.push_str(source.text.get(from..).unwrap_or_default());
            let asked = edges(&asked);
            query.add(&asked, weight, &self.stop);
            if Some(source.message.index) == last {
                question.push_str(&asked);
                question.push('\n');
            }
        }
        (query, question)
    }
}

/// A text, or beginning and end of a long one.
fn edges(text: &str) -> Cow<'_, str> {
    if text.len() <= 2 * QUERY_CHARS {
        return Cow::Borrowed(text);
    }
    let head = text
        .get(..text.floor_char_boundary(QUERY_CHARS))
        .unwrap_or_default();
    let tail = text
        .get(text.ceil_char_boundary(text.len() - QUERY_CHARS)..)
        .unwrap_or_default();
    Cow::Owned(format!("{head} {tail}"))
}

/// All texts, whole; tool results are left as they are.
fn read<'a>(request: &'a Request, host: &dyn Host) -> Result<Vec<Source<'a>>, Failure> {
    let mut texts = Vec::new();
    for message in &request.messages {
        for (number, part) in (0_u32..).zip(&message.parts) {
            if let Part::Text(text) = part {
                texts.push(Source {
                    message,
                    part: number,
                    text: host.whole(message.index, number, text)?,
                    origin: text.origin,
                });
            }
        }
    }
    Ok(texts)
}

sluicegate_plugin::compressor!(
    TopK,
    config_schema: include_str!("config.schema.json"),
    text: TextWish::All,
);
