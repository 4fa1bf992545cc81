//! Requests and lists of edits, drawn so that about as many lists are refused as not.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sluicegate_edits::{Change, Edit, Kind, MessageShape, PartShape, Reason, Rules, Shape};

/// A part that owns its text, from which a shape borrows.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Text(String),
    ToolResult(String),
    Fixed,
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    locked: bool,
    group: Option<u32>,
    user: bool,
    parts: Vec<Part>,
}

pub(crate) fn shape(messages: &[Message]) -> Shape<'_> {
    fn part(part: &Part) -> PartShape<'_> {
        match part {
            Part::Text(text) => PartShape::Text(text),
            Part::ToolResult(text) => PartShape::ToolResult(text),
            Part::Fixed => PartShape::Fixed,
        }
    }
    fn message(message: &Message) -> MessageShape<'_> {
        MessageShape {
            locked: message.locked,
            group: message.group,
            user: message.user,
            parts: message.parts.iter().map(part).collect(),
        }
    }
    Shape {
        messages: messages.iter().map(message).collect(),
    }
}

fn part() -> impl Strategy<Value = Part> {
    let text = || "[a-c \n\u{e9}\u{4f60}\u{1f600}]{0,12}";
    prop_oneof![
        5 => text().prop_map(Part::Text),
        2 => text().prop_map(Part::ToolResult),
        1 => Just(Part::Fixed),
    ]
}

pub(crate) fn messages() -> impl Strategy<Value = Vec<Message>> {
    let message = (
        prop::bool::weighted(0.1),
        prop::option::weighted(0.3, 0_u32..3),
        prop::bool::weighted(0.6),
        vec(part(), 0..4),
    );
    let message = message.prop_map(|(locked, group, user, parts)| Message {
        locked,
        group,
        user,
        parts,
    });
    vec(message, 1..7)
}

/// An edit drawn before the request is known.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    what: u8,
    place: Index,
    ends: (Index, Index),
    text: String,
    /// Now and then any place, not one that may be edited.
    is_wild: bool,
    /// Now and then a number takes the place of the one that would fit.
    number: Option<(usize, u32)>,
}

pub(crate) fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let number = prop_oneof![3 => 0_u32..14, 1 => any::<u32>()];
    let wish = (
        0_u8..8,
        any::<Index>(),
        any::<(Index, Index)>(),
        prop_oneof![9 => "[xy\t\n]{0,1}", 1 => "[xy\u{7}\u{e9}]{1,3}"],
        prop::bool::weighted(0.08),
        prop::option::weighted(0.08, (0_usize..4, number)),
    );
    let wish = wish.prop_map(|(what, place, ends, text, is_wild, number)| Wish {
        what,
        place,
        ends,
        text,
        is_wild,
        number,
    });
    vec(wish, 0..5)
}

/// The edits that wishes come to in a request: mostly such as fit.
pub(crate) fn edits(wishes: &[Wish], messages: &[Message]) -> Vec<Edit> {
    let changes = wishes.iter().flat_map(|wish| changes(wish, messages));
    let edit = |change| Edit {
        change,
        kind: Kind::Other,
        reason: Reason::Irrelevant,
    };
    changes.map(edit).collect()
}

fn changes(wish: &Wish, messages: &[Message]) -> Vec<Change> {
    let text_of = |part: &'_ Part| match part {
        Part::Text(text) | Part::ToolResult(text) => text.clone(),
        Part::Fixed => String::new(),
    };
    let places: Vec<(usize, usize, String)> = (0..)
        .zip(messages)
        .filter(|(_, message)| wish.is_wild || !message.locked)
        .flat_map(|(at, message)| {
            let parts = (0..).zip(&message.parts);
            parts.map(move |(part, content)| (at, part, text_of(content)))
        })
        .filter(|(_, _, text)| wish.is_wild || !text.is_empty())
        .collect();
    let (at, part, text) = match places.is_empty() {
        true => (wish.place.index(messages.len()), 0, String::new()),
        false => wish.place.get(&places).clone(),
    };
    let number = |number: usize| u32::try_from(number).expect("small requests");
    let group = messages[at].group;
    if wish.what == 0 && group.is_some() && !wish.is_wild {
        let mates = (0..messages.len()).filter(|mate| messages[*mate].group == group);
        return mates
            .map(|mate| Change::DropMessage(number(mate)))
            .collect();
    }
    let borders: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let start = if borders.is_empty() {
        0
    } else {
        *wish.ends.0.get(&borders)
    };
    let ends: Vec<usize> = borders
        .into_iter()
        .chain([text.len()])
        .filter(|end| *end > start)
        .collect();
    let end = if ends.is_empty() {
        start
    } else {
        *wish.ends.1.get(&ends)
    };
    let mut place = [at, part, start, end].map(number);
    if let Some((which, number)) = wish.number {
        place[which] = number;
    }
    let [message, part, start, end] = place;
    vec![match wish.what {
        0 => Change::DropMessage(message),
        1 => Change::DropPart { message, part },
        2..6 => Change::DropSpan {
            message,
            part,
            start,
            end,
        },
        _ => Change::ReplaceSpan {
            message,
            part,
            start,
            end,
            text: wish.text.clone(),
        },
    }]
}

pub(crate) fn rules() -> impl Strategy<Value = Rules> {
    (4_usize..9, 4_usize..12, prop::bool::weighted(0.7)).prop_map(
        |(max_edits, max_replacement_bytes, tool_results)| Rules {
            max_edits,
            max_replacement_bytes,
            tool_results,
        },
    )
}
