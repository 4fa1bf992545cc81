//! What a parsed request must keep to besides, so that no upstream has to trip over it.

use super::{Request, RequestError};
use crate::api::json::{self, Kind};
use crate::api::prompt::{Endpoint, Role};
use crate::api::text::cut;

/// Longest role that an error repeats.
const MAX_ROLE_BYTES: usize = 32;
/// A shorter number without an exponent is finite.
const MAX_DIGITS: usize = 300;

/// Fields that routes, caps and the cache go by.
const DECIDING: [&str; 12] = [
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "prompt",
    "seed",
    "stop",
    "stream",
    "temperature",
    "tools",
    "top_p",
];

/// A name without the case of its letters: `K` (Kelvin) and `ſ` are letters of ASCII then, too.
fn folded(name: &str) -> String {
    let upper = name.chars().flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}

/// What the config says about requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Roles besides those of the API.
    pub(crate) extra_roles: &'a [String],
    /// Largest `n`.
    pub(crate) max_choices: u32,
}

impl Request {
    /// Checks what can be read and makes no sense.
    ///
    /// # Errors
    /// The first problem, with the field's name.
    pub(crate) fn check(&self, rules: Rules<'_>) -> Result<(), RequestError> {
        if let Some(repeated) = &self.places.repeated {
            return Err(RequestError::repeated(repeated));
        }
        self.check_names()?;
        self.check_numbers()?;
        if self.prompt.parameters.choices > rules.max_choices {
            let most = format!("is larger than {}", rules.max_choices);
            return Err(RequestError::wrong_value("n", &most));
        }
        if self.prompt.endpoint == Endpoint::Chat {
            return self.check_messages(rules.extra_roles);
        }
        Ok(())
    }

    /// A field that is one of those that decide something, but for the case of its letters: some
    /// servers read it as that one, and caps would not hold there.
    fn check_names(&self) -> Result<(), RequestError> {
        for (key, _) in self.members() {
            let name = json::decode(key);
            let folded = folded(&name);
            if folded != *name && DECIDING.contains(&folded.as_str()) {
                let problem =
                    format!("is not written `{folded}`, and some servers take it for that");
                return Err(RequestError::wrong_value(
                    cut(&name, MAX_ROLE_BYTES),
                    &problem,
                ));
            }
        }
        Ok(())
    }

    /// A number such as `1e999` is JSON, and no number to anyone who reads it. Fewer tokens than none
    /// are no limit to some servers, and would pass by a cap.
    fn check_numbers(&self) -> Result<(), RequestError> {
        for (key, value) in self.members() {
            if key.starts_with("\"max_") && key.ends_with("tokens\"") && value.starts_with('-') {
                return Err(RequestError::wrong_value(
                    &json::decode(key),
                    "is less than 0",
                ));
            }
            let is_plain = value.len() < MAX_DIGITS && !value.contains(['e', 'E']);
            if Kind::of(value) == Kind::Number && !is_plain && json::number(value).is_none() {
                let name = json::decode(key);
                return Err(RequestError::wrong_value(&name, "is out of range"));
            }
        }
        Ok(())
    }

    fn check_messages(&self, extra_roles: &[String]) -> Result<(), RequestError> {
        // One that was inserted has no place in the body, and so no number there.
        let written = self.prompt.messages.iter().filter_map(|message| {
            let source = message.source.as_ref()?;
            Some((message.role, source))
        });
        let mut written = written.peekable();
        if written.peek().is_none() {
            return Err(RequestError::wrong_value("messages", "is empty"));
        }
        for (index, (role, source)) in written.enumerate() {
            if role != Role::Other {
                continue;
            }
            let param = format!("messages[{index}].role");
            let members = json::members(self.slice(source)).unwrap_or_default();
            let Some(role) = json::last(&members, "role").and_then(json::text) else {
                return Err(RequestError::missing(&param));
            };
            if !extra_roles.iter().any(|extra| *extra == role) {
                let role = cut(&role, MAX_ROLE_BYTES);
                let problem = format!("is `{role}`, which is no role");
                return Err(RequestError::wrong_value(&param, &problem));
            }
        }
        Ok(())
    }
}
