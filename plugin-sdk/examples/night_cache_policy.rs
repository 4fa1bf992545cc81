//! A cache policy that needs the time: answers given at night live until the next morning.

use sluicegate_plugin::{
    Answer, CachePolicy, Capability, ConfigIssue, Decision, Failure, Finish, Host, NoConfig,
    Request, Scope, Summary, TextWish,
};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

struct Night;

impl CachePolicy for Night {
    type Config = NoConfig;

    fn new(_: NoConfig) -> Result<Self, Vec<ConfigIssue>> {
        Ok(Self)
    }

    fn decide(&self, request: &Request, _: &Summary, host: &dyn Host) -> Result<Decision, Failure> {
        if request.parameters.choices > 1 {
            return Ok(Decision::bypass("several choices are asked for"));
        }
        let now = host
            .unix_seconds()
            .map_err(|refusal| Failure::Unavailable(refusal.to_string()))?;
        let morning = 6 * HOUR;
        let left = match now % DAY {
            second if second < morning => morning - second,
            _ => HOUR,
        };
        Ok(Decision::cache(
            u32::try_from(left).unwrap_or(1),
            Scope::Tenant,
        ))
    }

    fn admit(&self, answer: &Answer, _: &dyn Host) -> Result<bool, Failure> {
        Ok(answer.finish == Finish::Stop)
    }
}

sluicegate_plugin::cache_policy!(
    Night,
    description: "Keeps the night's answers until the morning.",
    wants: [Capability::Clock],
    last_messages: 1,
    text: TextWish::Nothing,
);

/// An example has an entry point; a plugin has none.
fn main() {}
