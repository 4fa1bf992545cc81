//! Exact token counts of a compressed request, made when its answer is out.
//!
//! On the path the estimate is enough; a tokenizer costs a hundred times as much.

use crate::api::request::Request;
use crate::api::tokens;
use crate::telemetry::Record;

/// The two forms of a request whose difference is what compression saved.
pub(crate) struct Recount {
    before: Request,
    after: Request,
}

impl Recount {
    /// Keeps both forms until the answer is out.
    pub(super) fn new(before: Request, after: Request) -> Self {
        Self { before, after }
    }

    /// Counts, and corrects the record. Blocks for milliseconds: not for a worker.
    pub(super) fn run(&self, record: &mut Record) {
        let model = record.upstream_model.as_deref().unwrap_or("");
        let count = |request: &Request| -> u32 {
            request
                .prompt
                .texts()
                .map(|text| tokens::exact(model, text))
                .fold(0, u32::saturating_add)
        };
        record.tokens_saved = count(&self.before).saturating_sub(count(&self.after));
    }
}
