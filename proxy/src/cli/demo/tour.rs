//! The tour: five things that the proxy does, each done for real and checked.
//!
//! A step asks over the data port, reads what the headers say, and compares that with what the
//! backends received. Invariants: a step states its expectations as [`Check`]s, and the tour is
//! successful only when all hold; nothing is printed here.

mod swap;

use anyhow::Context as _;
use serde_json::Value;

use super::backend::Backend;
use super::client::{Client, Reply};
use super::questions::{self, Asked};
use super::setup::Folder;

/// A stream shorter than this may have left in one piece.
const FEW_EVENTS: usize = 5;

/// What the steps work with.
pub(super) struct Tour<'a> {
    pub(super) client: &'a Client,
    pub(super) backends: &'a [Backend],
    pub(super) folder: &'a Folder,
    /// The component that is dropped in.
    pub(super) classifier: &'static [u8],
    /// The coding question's answer, for the repeat.
    first_answer: Option<String>,
}

/// What a step did.
#[derive(Default)]
pub(super) struct Step {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) checks: Vec<Check>,
}

/// One question and its answer.
pub(super) struct Exchange {
    pub(super) heading: Option<&'static str>,
    pub(super) question: &'static str,
    pub(super) reply: Reply,
}

/// One expectation.
pub(super) struct Check {
    /// What is expected; where it does not hold, also what was seen.
    pub(super) claim: String,
    pub(super) holds: bool,
}

impl Step {
    /// True when everything that the step expected has happened.
    pub(super) fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    fn check(&mut self, holds: bool, claim: impl Into<String>) {
        self.checks.push(Check {
            claim: claim.into(),
            holds,
        });
    }

    /// Expects `seen` to be `expected`.
    fn expect(&mut self, what: &str, seen: &str, expected: &str) {
        let holds = seen == expected;
        let mut claim = format!("{what} is {expected}");
        if !holds {
            claim.push_str(&format!(
                ", but was {}",
                if seen.is_empty() { "absent" } else { seen }
            ));
        }
        self.check(holds, claim);
    }

    fn expect_success(&mut self, reply: &Reply) {
        self.expect("the status", reply.status.as_str(), "200");
    }

    fn push(&mut self, heading: Option<&'static str>, asked: &Asked, reply: Reply) {
        self.exchanges.push(Exchange {
            heading,
            question: asked.question,
            reply,
        });
    }
}

impl<'a> Tour<'a> {
    pub(super) fn new(
        client: &'a Client,
        backends: &'a [Backend],
        folder: &'a Folder,
        classifier: &'static [u8],
    ) -> Self {
        Self {
            client,
            backends,
            folder,
            classifier,
            first_answer: None,
        }
    }

    /// Titles of the steps, in order.
    pub(super) const TITLES: [&'static str; 5] = [
        "A coding question goes to the coding model",
        "A question with a picture goes to the vision model",
        "The same question again comes from the cache",
        "A long prompt is compressed on its way",
        "A plugin is swapped while requests run",
    ];

    /// Takes the step at `position` in [`Self::TITLES`].
    ///
    /// # Errors
    /// When a request or a file operation fails.
    pub(super) async fn take(&mut self, position: usize) -> anyhow::Result<Step> {
        match position {
            0 => self.coding().await,
            1 => self.picture().await,
            2 => self.repeat().await,
            3 => self.long().await,
            _ => swap::take(self).await,
        }
    }

    async fn coding(&mut self) -> anyhow::Result<Step> {
        let asked = questions::coding();
        let reply = self.client.chat(&asked.body).await?;
        let mut step = Step::default();
        step.expect_success(&reply);
        step.expect("the label", reply.label(), "code");
        step.expect("the pool", reply.pool(), "code");
        step.expect("the cache state", reply.cache(), "miss");
        step.check(
            reply.is_complete && reply.text_events > FEW_EVENTS,
            format!(
                "the answer came whole, as a stream of {} events",
                reply.text_events
            ),
        );
        step.check(
            reply.stages().iter().any(|(stage, _)| *stage == "classify"),
            "the stages are timed",
        );
        self.first_answer = Some(reply.text.clone());
        step.push(None, &asked, reply);
        Ok(step)
    }

    async fn picture(&self) -> anyhow::Result<Step> {
        let asked = questions::picture();
        let reply = self.client.chat(&asked.body).await?;
        let mut step = Step::default();
        step.expect_success(&reply);
        step.expect("the label", reply.label(), "multimodal");
        step.expect("the pool", reply.pool(), "vision");
        step.expect("the cache state", reply.cache(), "miss");
        let received = self.received(&reply)?;
        step.check(
            received["messages"] == asked.body["messages"],
            "the picture arrived as it was sent",
        );
        step.push(None, &asked, reply);
        Ok(step)
    }

    async fn repeat(&self) -> anyhow::Result<Step> {
        let asked = questions::coding();
        let before = self.requests();
        let reply = self.client.chat(&asked.body).await?;
        let mut step = Step::default();
        step.expect_success(&reply);
        step.expect("the cache state", reply.cache(), "hit");
        step.check(
            self.first_answer.as_ref() == Some(&reply.text),
            "the answer is the one of step 1, word for word",
        );
        step.check(
            reply.is_complete && reply.text_events > FEW_EVENTS,
            format!("it is a stream again, of {} events", reply.text_events),
        );
        step.check(self.requests() == before, "no backend was asked");
        step.push(None, &asked, reply);
        Ok(step)
    }

    async fn long(&self) -> anyhow::Result<Step> {
        let asked = questions::long();
        let reply = self.client.chat(&asked.body).await?;
        let received = self.received(&reply)?;
        let messages = received["messages"].to_string();
        let (sent_bytes, received_bytes) =
            (asked.body.to_string().len(), received.to_string().len());
        let mut step = Step::default();
        step.facts.push(("sent", format!("{sent_bytes} bytes")));
        step.facts.push((
            "received",
            format!("{received_bytes} bytes, by {}", reply.backend()),
        ));
        step.expect_success(&reply);
        step.check(
            reply.tokens_saved() > 0,
            format!("{} tokens were saved", reply.tokens_saved()),
        );
        step.check(
            received_bytes < sent_bytes,
            "the backend received less than was sent",
        );
        step.check(
            messages.contains(questions::RELEVANT),
            "the passage with the answer is there",
        );
        step.check(
            !messages.contains(questions::IRRELEVANT),
            "one about something else is gone",
        );
        let last = received["messages"]
            .as_array()
            .and_then(|messages| messages.last());
        step.check(
            last.is_some_and(|last| last["content"] == asked.question),
            "the question itself is untouched",
        );
        step.check(
            received.get("sluicegate").is_none(),
            "the extension fields did not reach the backend as such",
        );
        step.push(None, &asked, reply);
        Ok(step)
    }

    /// What the backend that answered was sent.
    fn received(&self, reply: &Reply) -> anyhow::Result<Value> {
        let backend = self
            .backends
            .iter()
            .find(|backend| backend.name() == reply.backend())
            .with_context(|| format!("no backend answered: {}, {}", reply.status, reply.text))?;
        Ok(backend.last_body())
    }

    /// Requests that all backends have received together.
    fn requests(&self) -> u64 {
        self.backends.iter().map(Backend::requests).sum()
    }
}
