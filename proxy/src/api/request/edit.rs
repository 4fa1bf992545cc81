//! The cuts of a compressor, made in the client's own bytes.
//!
//! A plan speaks of decoded text; here its offsets become places inside of string literals, so that
//! every other escape, space and spelling stays. Messages, parts and entries that go take one of
//! the commas beside them along. The result parses, and its texts are the texts that the plan meant.

use std::iter::Peekable;
use std::ops::Range;

use sluicegate_edits::{Cut, MessagePlan, PartPlan, Plan};

use super::extension;
use super::{Request, RequestError, parse};
use crate::api::json::{self, Kind, Unit, Units};
use crate::api::prompt::{Message, Origin, Part, Text};
use crate::api::splice::Splices;

impl Request {
    /// The request with the plan's cuts made, parsed anew. A plan that cuts nothing gives the same
    /// body, not a copy.
    ///
    /// # Errors
    /// When the plan is not about this request, or asks for what cannot be done to it: a prompt of a
    /// completion or an input of an embedding cannot be dropped, since each has an answer.
    pub(crate) fn apply(&self, plan: &Plan) -> Result<Self, RequestError> {
        if plan
            .messages
            .iter()
            .all(|message| *message == MessagePlan::Keep)
        {
            return Ok(self.clone());
        }
        if plan.messages.len() != self.prompt.messages.len() {
            return Err(refused("another number of messages"));
        }
        let mut splices = Splices::default();
        let mut places = Vec::with_capacity(plan.messages.len());
        for (index, (message, plan)) in self.prompt.messages.iter().zip(&plan.messages).enumerate()
        {
            if self.prompt.inserted == Some(index) {
                self.edit_extension(&mut splices, message, plan)?;
                continue;
            }
            let drops = is_dropped(plan);
            match (&message.source, drops, plan) {
                (None, true, _) => return Err(refused("a prompt that has an answer")),
                (_, false, MessagePlan::Edit(parts)) => {
                    self.edit_message(&mut splices, message, parts)?;
                }
                (_, _, MessagePlan::Keep | MessagePlan::Drop | MessagePlan::Edit(_)) => {}
            }
            if let Some(source) = &message.source {
                places.push((source.clone(), drops));
            }
        }
        splices.remove(places);
        parse(self.prompt.endpoint, splices.apply(&self.body))
    }

    /// Drops and cuts parts of a message that stays.
    fn edit_message<'a>(
        &'a self,
        splices: &mut Splices<'a>,
        message: &Message,
        parts: &[PartPlan],
    ) -> Result<(), RequestError> {
        if parts.len() != message.parts.len() {
            return Err(refused("another number of parts"));
        }
        for (part, plan) in message.parts.iter().zip(parts) {
            match (part, plan) {
                (_, PartPlan::Keep) | (Part::Text(_) | Part::ToolResult(_), PartPlan::Drop) => {}
                (Part::Text(text), PartPlan::Cut(cuts)) => self.cut(splices, text, cuts)?,
                (Part::ToolResult(result), PartPlan::Cut(cuts)) => {
                    self.cut(splices, &result.content, cuts)?;
                }
                (
                    Part::Image(_)
                    | Part::Audio(_)
                    | Part::Video(_)
                    | Part::File(_)
                    | Part::ToolCall(_)
                    | Part::Other(_),
                    PartPlan::Drop | PartPlan::Cut(_),
                ) => return Err(refused("a part that is not text")),
            }
        }
        if !parts.contains(&PartPlan::Drop) {
            return Ok(());
        }
        let source = message
            .source
            .as_ref()
            .ok_or_else(|| refused("a prompt with an answer"))?;
        let members = json::members(self.slice(source)).unwrap_or_default();
        let content = json::last(&members, "content").ok_or_else(|| refused("no content"))?;
        let elements = match Kind::of(content) {
            Kind::Array => json::elements(content).unwrap_or_default(),
            _ => vec![content],
        };
        let is_gone = |index: usize| parts.get(index) == Some(&PartPlan::Drop);
        if (0..elements.len()).all(is_gone) {
            // What stays is tool calls: those go without content, which is written as null.
            splices.replace(self.place(content), "null");
        } else {
            let places = elements.iter().map(|element| self.place(element));
            splices.remove(places.zip((0..).map(is_gone)));
        }
        Ok(())
    }

    /// Drops and cuts entries of the `sluicegate` field.
    fn edit_extension<'a>(
        &'a self,
        splices: &mut Splices<'a>,
        message: &'a Message,
        plan: &MessagePlan,
    ) -> Result<(), RequestError> {
        let plans = match plan {
            MessagePlan::Keep => return Ok(()),
            MessagePlan::Drop => vec![PartPlan::Drop; message.parts.len()],
            MessagePlan::Edit(parts) if parts.len() == message.parts.len() => parts.clone(),
            MessagePlan::Edit(_) => return Err(refused("another number of parts")),
        };
        for (list, origin) in extension::LISTS
            .into_iter()
            .zip([Origin::Term, Origin::Chunk])
        {
            let mut places = Vec::new();
            for (part, plan) in message.parts.iter().zip(&plans) {
                let Part::Text(text) = part else { continue };
                let Some(source) = text.source.clone().filter(|_| text.origin == origin) else {
                    continue;
                };
                match plan {
                    PartPlan::Cut(cuts) if text.literal.is_some() => {
                        self.cut(splices, text, cuts)?
                    }
                    // An entry of two literals becomes one string.
                    PartPlan::Cut(cuts) => {
                        let cut = cut_natively(&text.text, cuts).ok_or_else(|| refused(list))?;
                        splices.replace(source.clone(), json::quote(&cut));
                    }
                    PartPlan::Keep | PartPlan::Drop => {}
                }
                places.push((source, *plan == PartPlan::Drop));
            }
            splices.remove(places);
        }
        Ok(())
    }

    /// Makes cuts in a text's literal.
    fn cut<'a>(
        &'a self,
        splices: &mut Splices<'a>,
        text: &Text,
        cuts: &[Cut],
    ) -> Result<(), RequestError> {
        let literal = text
            .literal
            .as_ref()
            .ok_or_else(|| refused("a text without a literal"))?;
        let places = raw_cuts(self.slice(literal), cuts)
            .ok_or_else(|| refused("a span that is not within a text"))?;
        for RawCut {
            range, replacement, ..
        } in places
        {
            splices.replace(
                literal.start + range.start..literal.start + range.end,
                replacement,
            );
        }
        Ok(())
    }

    /// Where a slice of [`Self::body`] stands.
    fn place(&self, slice: &str) -> Range<usize> {
        let start = slice
            .as_ptr()
            .addr()
            .saturating_sub(self.body.as_ptr().addr());
        start..start + slice.len()
    }
}

/// A plan that does not fit the request; a fault of ours or of a plugin, never of the client.
fn refused(what: &str) -> RequestError {
    RequestError {
        message: format!("The edits do not fit the request: {what}."),
        param: None,
        code: "edits_refused",
    }
}

/// Whether nothing of the message stays.
fn is_dropped(plan: &MessagePlan) -> bool {
    match plan {
        MessagePlan::Keep => false,
        MessagePlan::Drop => true,
        MessagePlan::Edit(parts) => {
            !parts.is_empty() && parts.iter().all(|part| *part == PartPlan::Drop)
        }
    }
}

/// A decoded text with cuts made; none when they do not lie within it, in order.
pub(super) fn cut_natively(text: &str, cuts: &[Cut]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut kept = 0;
    for cut in cuts {
        out.push_str(text.get(kept..cut.range.start)?);
        text.get(cut.range.clone())?;
        out.push_str(&cut.replacement);
        kept = cut.range.end;
    }
    out.push_str(text.get(kept..)?);
    Some(out)
}

/// A change of a literal, in bytes from its opening quote on.
struct RawCut {
    range: Range<usize>,
    replacement: String,
    /// A first half of a surrogate pair ends where it begins.
    after_half: bool,
    /// A second half begins where it ends.
    before_half: bool,
}

/// Turns cuts of a decoded text into changes of its literal. None when they do not lie within the
/// text, in order and on borders of characters.
fn raw_cuts(literal: &str, cuts: &[Cut]) -> Option<Vec<RawCut>> {
    let mut walk = Walk {
        units: json::units(literal).peekable(),
        decoded: 0,
        raw: 1,
        before: None,
    };
    let mut changes: Vec<RawCut> = Vec::with_capacity(cuts.len());
    for cut in cuts {
        let start = walk.to(cut.range.start)?;
        let after_half = walk.is_after_first_half(cut.range.start);
        let end = walk.to(cut.range.end)?;
        let before_half = walk.is_before_second_half(cut.range.end);
        let mut replacement = String::new();
        json::escape_into(&mut replacement, &cut.replacement);
        match changes.last_mut() {
            // Touching cuts are one, so that something stays between any two.
            Some(last) if last.range.end == start => {
                last.range.end = end;
                last.before_half = before_half;
                last.replacement.push_str(&replacement);
            }
            _ => changes.push(RawCut {
                range: start..end,
                replacement,
                after_half,
                before_half,
            }),
        }
    }
    for change in &mut changes {
        // Two halves that stood apart must not become a pair: the first one is written as the
        // replacement character that it reads as.
        if change.after_half && change.before_half && change.replacement.is_empty() {
            change.range.start -= "\\ud800".len();
            change.replacement.push_str("\\ufffd");
        }
    }
    Some(changes)
}

/// Goes through a literal, border by border.
struct Walk<'a> {
    units: Peekable<Units<'a>>,
    /// Bytes of decoded text so far.
    decoded: usize,
    /// Bytes of the literal so far, the opening quote included.
    raw: usize,
    /// The unit that ends here.
    before: Option<Unit<'a>>,
}

impl Walk<'_> {
    /// Goes on to a border of the decoded text, and says where it is in the literal.
    fn to(&mut self, border: usize) -> Option<usize> {
        while let Some((unit, raw)) = self.units.peek().copied() {
            if self.decoded + unit.decoded_len() > border {
                break;
            }
            self.decoded += unit.decoded_len();
            self.raw += raw;
            self.before = Some(unit);
            self.units.next();
        }
        let within = border.checked_sub(self.decoded)?;
        if within == 0 {
            return Some(self.raw);
        }
        match self.units.peek() {
            Some((Unit::Run(run), _)) if run.is_char_boundary(within) => Some(self.raw + within),
            _ => None,
        }
    }

    fn is_after_first_half(&self, border: usize) -> bool {
        border == self.decoded && matches!(self.before, Some(Unit::Lone(half)) if half < 0xDC00)
    }

    fn is_before_second_half(&mut self, border: usize) -> bool {
        border == self.decoded
            && matches!(self.units.peek(), Some((Unit::Lone(half), _)) if *half >= 0xDC00)
    }
}
