//! What a plugin sees of a request: chosen by the slot's settings and the plugin's wishes, borrowed
//! from the parsed prompt, so that a text is copied once, into the guest.
//!
//! Two steps, because the size decides where the call runs: [`select`] chooses messages and counts
//! the text that they show; [`with_request`] lends the record to a call.

use std::sync::Arc;

use http::HeaderMap;

use super::check::is_locked;
use super::host::v0_1::types as contract;
use super::types::PluginInfo;
use crate::api::prompt::{self, Prompt, Role};
use crate::api::text::cut;
use crate::config::{Slot, TextWindow};

/// Of a prompt with too many messages, so many of the first are shown.
const FIRST_MESSAGES: usize = 64;

const PARTS: usize = 1024;
const TOOLS: usize = 256;
const TOOL_NAME_BYTES: usize = 128;
const MODEL_BYTES: usize = 256;
const MEDIA_TYPE_BYTES: usize = 128;
const FILE_NAME_BYTES: usize = 256;
const ID_BYTES: usize = 128;
const PART_TYPE_BYTES: usize = 64;
const EFFORT_BYTES: usize = 32;
const HEADERS: usize = 32;
const HEADER_BYTES: usize = 1024;
const TENANT_BYTES: usize = 128;

/// What a call is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallContext<'a> {
    pub(crate) prompt: &'a Arc<Prompt>,
    pub(crate) request_id: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) session: Option<&'a str>,
    pub(crate) route_hint: Option<&'a str>,
    /// 0 <= x < 1, drawn once per request.
    pub(crate) draw: f64,
    /// Someone will read the reasons.
    pub(crate) explain: bool,
    /// The client's; only those that the slot grants are shown.
    pub(crate) headers: &'a HeaderMap,
}

/// A [`CallContext`] that can go to another thread.
#[derive(Debug)]
pub(super) struct OwnedContext {
    prompt: Arc<Prompt>,
    request_id: String,
    tenant: String,
    session: Option<String>,
    route_hint: Option<String>,
    draw: f64,
    explain: bool,
    headers: HeaderMap,
}

impl CallContext<'_> {
    /// Copies everything but the prompt.
    pub(super) fn detach(self) -> OwnedContext {
        OwnedContext {
            prompt: Arc::clone(self.prompt),
            request_id: self.request_id.to_owned(),
            tenant: self.tenant.to_owned(),
            session: self.session.map(str::to_owned),
            route_hint: self.route_hint.map(str::to_owned),
            draw: self.draw,
            explain: self.explain,
            headers: self.headers.clone(),
        }
    }
}

impl OwnedContext {
    /// Lends it.
    pub(super) fn lend(&self) -> CallContext<'_> {
        CallContext {
            prompt: &self.prompt,
            request_id: &self.request_id,
            tenant: &self.tenant,
            session: self.session.as_deref(),
            route_hint: self.route_hint.as_deref(),
            draw: self.draw,
            explain: self.explain,
            headers: &self.headers,
        }
    }
}

/// How a slot's plugin sees requests: the slot's word where it has one, else the plugin's wish.
#[derive(Debug)]
pub(super) struct ViewRules {
    slot: Arc<Slot>,
    last_messages: Option<usize>,
    max_messages: usize,
    text: TextWindow,
}

impl ViewRules {
    /// The rules for a plugin in a slot.
    pub(super) fn new(slot: Arc<Slot>, info: &PluginInfo) -> Self {
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            last_messages: slot.last_messages.or(info.last_messages).map(count),
            max_messages: count(slot.max_messages),
            text: slot.text.unwrap_or(info.text),
            slot,
        }
    }

    /// The slot.
    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }
}

/// The messages of a view.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// Positions in the prompt, ascending.
    messages: Vec<usize>,
    /// Bytes of text that they show.
    pub(super) shown_bytes: usize,
}

/// Chooses the messages that a plugin sees.
pub(super) fn select(prompt: &Prompt, rules: &ViewRules) -> Selection {
    let count = prompt.messages.len();
    let first_of_last = rules
        .last_messages
        .map_or(0, |last| count.saturating_sub(last));
    let is_chosen = |(place, message): &(usize, &prompt::Message)| {
        *place >= first_of_last || matches!(message.role, Role::System | Role::Developer)
    };
    let mut messages: Vec<usize> = prompt
        .messages
        .iter()
        .enumerate()
        .filter(is_chosen)
        .map(|(place, _)| place)
        .collect();
    let first = FIRST_MESSAGES.min(rules.max_messages);
    if messages.len() > rules.max_messages {
        let last = messages.len() - (rules.max_messages - first);
        messages.drain(first..last);
    }
    let shown = messages
        .iter()
        .filter_map(|&place| prompt.messages.get(place));
    let shown_bytes = shown
        .flat_map(|message| message.parts.iter().take(PARTS))
        .filter_map(text_of)
        .map(|text| window(text, rules.text))
        .map(|(head, tail)| head.len() + tail.map_or(0, str::len))
        .sum();
    Selection {
        messages,
        shown_bytes,
    }
}

fn text_of(part: &prompt::Part) -> Option<&str> {
    match part {
        prompt::Part::Text(text) => Some(&text.text),
        prompt::Part::ToolResult(result) => Some(&result.content.text),
        prompt::Part::Image(_)
        | prompt::Part::Audio(_)
        | prompt::Part::Video(_)
        | prompt::Part::File(_)
        | prompt::Part::ToolCall(_)
        | prompt::Part::Other(_) => None,
    }
}

/// The beginning of a text and, when that is not all, its end.
fn window(text: &str, window: TextWindow) -> (&str, Option<&str>) {
    let (head, tail) = match window {
        TextWindow::All => return (text, None),
        TextWindow::Nothing => return ("", None),
        TextWindow::Window { head, tail } => (
            usize::try_from(head).unwrap_or(usize::MAX),
            usize::try_from(tail).unwrap_or(usize::MAX),
        ),
    };
    if text.len() <= head.saturating_add(tail) {
        return (text, None);
    }
    let end = text.ceil_char_boundary(text.len() - tail);
    (
        cut(text, head),
        (tail > 0).then(|| text.get(end..).unwrap_or_default()),
    )
}

/// Lends the request record of a selection to `call`.
pub(super) fn with_request<R>(
    cx: &CallContext<'_>,
    selection: &Selection,
    rules: &ViewRules,
    call: impl FnOnce(contract::Request<'_>) -> R,
) -> R {
    let prompt: &Prompt = cx.prompt;
    let chosen = || {
        selection
            .messages
            .iter()
            .filter_map(|&place| prompt.messages.get(place).map(|message| (place, message)))
    };
    let parts: Vec<Vec<contract::Part<'_>>> = chosen()
        .map(|(_, message)| {
            message
                .parts
                .iter()
                .take(PARTS)
                .map(|shown| part(shown, rules.text))
                .collect()
        })
        .collect();
    let messages: Vec<contract::Message<'_>> = chosen()
        .zip(&parts)
        .map(|((place, message), parts)| contract::Message {
            index: number(place),
            role: role(message.role),
            parts,
            tokens: message.tokens,
            locked: is_locked(prompt, &rules.slot, place),
            group: message.group,
        })
        .collect();
    let last_user = messages
        .iter()
        .rposition(|message| message.role == contract::Role::User);
    let tools: Vec<&str> = prompt
        .tools
        .iter()
        .take(TOOLS)
        .map(|name| cut(name, TOOL_NAME_BYTES))
        .collect();
    let headers = headers(cx.headers, &rules.slot);
    call(contract::Request {
        endpoint: match prompt.endpoint {
            prompt::Endpoint::Chat => contract::Endpoint::Chat,
            prompt::Endpoint::Completions => contract::Endpoint::Completions,
            prompt::Endpoint::Embeddings => contract::Endpoint::Embeddings,
        },
        model: cut(&prompt.model, MODEL_BYTES),
        messages: &messages,
        message_count: number(prompt.messages.len()),
        last_user: last_user.map(number),
        tools: &tools,
        parameters: parameters(&prompt.parameters),
        prompt_tokens: prompt.prompt_tokens,
        text_bytes: number(prompt.text_bytes),
        headers: &headers,
        tenant: cut(cx.tenant, TENANT_BYTES),
        session: cx.session.map(|session| cut(session, TENANT_BYTES)),
        route_hint: cx.route_hint,
        draw: cx.draw,
        explain: cx.explain,
    })
}

/// Sizes past `u32` cannot come in: bodies are bounded far below.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn role(role: Role) -> contract::Role {
    match role {
        Role::System => contract::Role::System,
        Role::Developer => contract::Role::Developer,
        Role::User => contract::Role::User,
        Role::Assistant => contract::Role::Assistant,
        Role::Tool => contract::Role::Tool,
        Role::Other => contract::Role::Other,
    }
}

fn part(part: &prompt::Part, rule: TextWindow) -> contract::Part<'_> {
    match part {
        prompt::Part::Text(shown) => contract::Part::Text(text(shown, rule)),
        prompt::Part::Image(shown) => contract::Part::Image(media(shown)),
        prompt::Part::Audio(shown) => contract::Part::Audio(media(shown)),
        prompt::Part::Video(shown) => contract::Part::Video(media(shown)),
        prompt::Part::File(shown) => contract::Part::File(media(shown)),
        prompt::Part::ToolCall(call) => contract::Part::ToolCall(contract::ToolCall {
            id: cut(&call.id, ID_BYTES),
            name: cut(&call.name, TOOL_NAME_BYTES),
            size: call.size,
        }),
        prompt::Part::ToolResult(result) => contract::Part::ToolResult(contract::ToolResult {
            id: cut(&result.id, ID_BYTES),
            name: cut(&result.name, TOOL_NAME_BYTES),
            // The endpoints served so far have no such mark.
            failed: false,
            content: text(&result.content, rule),
        }),
        prompt::Part::Other(name) => contract::Part::Other(cut(name, PART_TYPE_BYTES)),
    }
}

fn text(text: &prompt::Text, rule: TextWindow) -> contract::Text<'_> {
    let (head, tail) = window(&text.text, rule);
    contract::Text {
        head,
        tail,
        size: number(text.text.len()),
        origin: match text.origin {
            prompt::Origin::Message => contract::Origin::Message,
            prompt::Origin::Term => contract::Origin::Term,
            prompt::Origin::Chunk => contract::Origin::Chunk,
        },
    }
}

fn media(media: &prompt::Media) -> contract::Media<'_> {
    contract::Media {
        media_type: media
            .media_type
            .as_deref()
            .map(|name| cut(name, MEDIA_TYPE_BYTES)),
        name: media.name.as_deref().map(|name| cut(name, FILE_NAME_BYTES)),
        size: media.size,
    }
}

fn parameters(parameters: &prompt::Parameters) -> contract::Parameters<'_> {
    // Whether a number beyond the API's range is an error is for the upstream to say.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a sampling parameter needs no f64"
    )]
    let within = |value: f64, most: f64| value.clamp(0.0, most) as f32;
    contract::Parameters {
        temperature: parameters.temperature.map(|value| within(value, 2.0)),
        top_p: parameters.top_p.map(|value| within(value, 1.0)),
        max_tokens: parameters.max_tokens,
        choices: parameters.choices,
        seeded: parameters.seeded,
        streaming: parameters.streaming,
        format: match parameters.format {
            prompt::AnswerFormat::Text => contract::AnswerFormat::Text,
            prompt::AnswerFormat::JsonObject => contract::AnswerFormat::JsonObject,
            prompt::AnswerFormat::JsonSchema => contract::AnswerFormat::JsonSchema,
        },
        tool_choice: match parameters.tool_choice {
            prompt::ToolChoice::Auto => contract::ToolChoice::Auto,
            prompt::ToolChoice::None => contract::ToolChoice::None,
            prompt::ToolChoice::Required => contract::ToolChoice::Required,
            prompt::ToolChoice::Named => contract::ToolChoice::Named,
        },
        reasoning_effort: parameters
            .reasoning_effort
            .as_deref()
            .map(|effort| cut(effort, EFFORT_BYTES)),
        stored: parameters.stored,
        audio_output: parameters.audio_output,
    }
}

/// The granted headers that the client sent; values that are not UTF-8 are left out.
fn headers<'a>(headers: &'a HeaderMap, slot: &'a Slot) -> Vec<contract::Header<'a>> {
    slot.headers
        .iter()
        .flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)))
        .filter_map(|(name, value)| {
            let value = std::str::from_utf8(value.as_bytes()).ok()?.trim();
            Some(contract::Header {
                name: name.as_str(),
                value: cut(value, HEADER_BYTES),
            })
        })
        .take(HEADERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::tests::{message, prompt, slot};

    fn rules(change: impl FnOnce(&mut Slot)) -> ViewRules {
        let mut slot = slot(std::path::Path::new("unused"));
        slot.text = Some(TextWindow::All);
        change(&mut slot);
        let last = |count: u32| usize::try_from(count).unwrap();
        ViewRules {
            last_messages: slot.last_messages.map(last),
            max_messages: last(slot.max_messages),
            text: slot.text.unwrap(),
            slot: Arc::new(slot),
        }
    }

    fn dialogue() -> Arc<Prompt> {
        let turns = [
            (Role::System, "rules"),
            (Role::User, "one"),
            (Role::Assistant, "two"),
            (Role::Developer, "more rules"),
            (Role::User, "three"),
            (Role::Assistant, "four"),
        ];
        prompt("auto", turns.map(|(role, text)| message(role, text)).into())
    }

    #[test]
    fn last_messages_keep_all_instructions() {
        let chosen = select(&dialogue(), &rules(|slot| slot.last_messages = Some(2)));
        assert_eq!(chosen.messages, [0, 3, 4, 5]);
        assert_eq!(chosen.shown_bytes, 5 + 10 + 5 + 4);
        let all = select(&dialogue(), &rules(|_| ()));
        assert_eq!(all.messages, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn too_many_messages_show_the_first_and_the_last() {
        let many = prompt("auto", (0..200).map(|_| message(Role::User, "x")).collect());
        let chosen = select(&many, &rules(|slot| slot.max_messages = 70)).messages;
        assert_eq!(chosen.len(), 70);
        assert_eq!((chosen[63], chosen[64], chosen[69]), (63, 194, 199));
        let few = select(&many, &rules(|slot| slot.max_messages = 3)).messages;
        assert_eq!(few, [0, 1, 2]);
    }

    #[test]
    fn windows_cut_between_characters_and_never_overlap() {
        let ends = TextWindow::Window { head: 2, tail: 2 };
        assert_eq!(window("aéb", ends), ("aéb", None));
        assert_eq!(window("aébcéd", ends), ("a", Some("d")));
        assert_eq!(
            window("abcdef", TextWindow::Window { head: 2, tail: 0 }),
            ("ab", None)
        );
        assert_eq!(window("abcdef", TextWindow::Nothing), ("", None));
        assert_eq!(window("abcdef", TextWindow::All), ("abcdef", None));
    }

    #[test]
    fn record_addresses_messages_by_their_place_in_the_request() {
        let prompt = dialogue();
        let mut client = HeaderMap::new();
        client.insert("x-team", " blue ".parse().unwrap());
        client.insert("authorization", "secret".parse().unwrap());
        let rules = rules(|slot| {
            slot.last_messages = Some(1);
            slot.headers = vec!["x-team".parse().unwrap()];
        });
        let cx = CallContext {
            prompt: &prompt,
            request_id: "r",
            tenant: "acme",
            session: None,
            route_hint: None,
            draw: 0.0,
            explain: false,
            headers: &client,
        };
        with_request(&cx, &select(&prompt, &rules), &rules, |request| {
            let places: Vec<u32> = request
                .messages
                .iter()
                .map(|message| message.index)
                .collect();
            assert_eq!(places, [0, 3, 5]);
            assert_eq!(request.message_count, 6);
            assert_eq!(request.last_user, None, "it is not in the view");
            let headers: Vec<_> = request.headers.iter().map(|h| (h.name, h.value)).collect();
            assert_eq!(headers, [("x-team", "blue")]);
        });
    }

    #[test]
    fn last_user_message_is_locked_unless_the_slot_says() {
        let prompt = dialogue();
        let headers = HeaderMap::new();
        let cx = crate::plugin::tests::context(&prompt, &headers);
        let locked = |rules: &ViewRules| {
            with_request(&cx, &select(&prompt, rules), rules, |request| {
                request
                    .messages
                    .iter()
                    .filter(|m| m.locked)
                    .map(|m| m.index)
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(locked(&rules(|_| ())), [4]);
        assert!(locked(&rules(|slot| slot.edit_last_user = true)).is_empty());
    }
}
