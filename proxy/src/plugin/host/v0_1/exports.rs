//! The exported interfaces: found by name before anything runs, then called.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use super::bindings::exports::sluicegate::plugin::{cache, classify, compress, lifecycle};
use super::convert::{self, RawResult};
use super::types::Request;
use crate::config::SlotKind;
use crate::plugin::state::State;
use crate::plugin::types::{
    AnswerFacts, Budget, ConfigIssue, Decision, Opinion, PluginInfo, Summary,
};

/// Issues of one config that are kept.
const ISSUES: usize = 64;

/// Where a component's exports are.
#[derive(Clone)]
pub(in crate::plugin) struct Indices {
    lifecycle: lifecycle::GuestIndices,
    stage: StageIndices,
}

#[derive(Clone)]
enum StageIndices {
    Classify(classify::GuestIndices),
    Compress(compress::GuestIndices),
    Cache(cache::GuestIndices),
}

impl Indices {
    /// Finds the exports of a stage.
    ///
    /// # Errors
    /// The export that is missing.
    pub(in crate::plugin) fn new(
        pre: &InstancePre<State>,
        kind: SlotKind,
    ) -> wasmtime::Result<Self> {
        Ok(Self {
            lifecycle: lifecycle::GuestIndices::new(pre)?,
            stage: match kind {
                SlotKind::Classify => StageIndices::Classify(classify::GuestIndices::new(pre)?),
                SlotKind::Compress => StageIndices::Compress(compress::GuestIndices::new(pre)?),
                SlotKind::CachePolicy => StageIndices::Cache(cache::GuestIndices::new(pre)?),
            },
        })
    }

    /// The functions of one instance.
    ///
    /// # Errors
    /// The first whose type is not the contract's.
    pub(in crate::plugin) fn load(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> wasmtime::Result<Exports> {
        Ok(Exports {
            lifecycle: self.lifecycle.load(&mut *store, instance)?,
            stage: match &self.stage {
                StageIndices::Classify(indices) => {
                    Stage::Classify(indices.load(&mut *store, instance)?)
                }
                StageIndices::Compress(indices) => {
                    Stage::Compress(indices.load(&mut *store, instance)?)
                }
                StageIndices::Cache(indices) => Stage::Cache(indices.load(&mut *store, instance)?),
            },
        })
    }
}

/// The functions of one instance. The outer error of a call is the engine's: a fault.
pub(in crate::plugin) struct Exports {
    lifecycle: lifecycle::Guest,
    stage: Stage,
}

enum Stage {
    Classify(classify::Guest),
    Compress(compress::Guest),
    Cache(cache::Guest),
}

impl Exports {
    pub(in crate::plugin) fn describe(
        &self,
        store: &mut Store<State>,
    ) -> wasmtime::Result<PluginInfo> {
        Ok(convert::info(self.lifecycle.call_describe(store)?))
    }

    pub(in crate::plugin) fn configure(
        &self,
        store: &mut Store<State>,
        config: &str,
    ) -> wasmtime::Result<Result<(), Vec<ConfigIssue>>> {
        let configured = self.lifecycle.call_configure(store, config)?;
        Ok(configured.map_err(|issues| issues.iter().take(ISSUES).map(convert::issue).collect()))
    }

    pub(in crate::plugin) fn classify(
        &self,
        store: &mut Store<State>,
        request: Request<'_>,
    ) -> wasmtime::Result<RawResult<Opinion>> {
        let Stage::Classify(guest) = &self.stage else {
            return other_stage();
        };
        let opinion = guest.call_classify(store, request)?;
        Ok(opinion.map(convert::opinion).map_err(convert::failure))
    }

    pub(in crate::plugin) fn compress(
        &self,
        store: &mut Store<State>,
        request: Request<'_>,
        budget: &Budget,
    ) -> wasmtime::Result<RawResult<Vec<sluicegate_edits::Edit>>> {
        let Stage::Compress(guest) = &self.stage else {
            return other_stage();
        };
        let budget = compress::Budget {
            target_tokens: budget.target_tokens,
            label: budget.label.as_deref(),
            language: budget.language.as_deref(),
        };
        let edits = guest.call_compress(store, request, budget)?;
        Ok(edits
            .map(|edits| edits.into_iter().map(convert::edit).collect())
            .map_err(convert::failure))
    }

    pub(in crate::plugin) fn decide(
        &self,
        store: &mut Store<State>,
        request: Request<'_>,
        summary: &Summary,
    ) -> wasmtime::Result<RawResult<Decision>> {
        let Stage::Cache(guest) = &self.stage else {
            return other_stage();
        };
        let attributes = convert::attributes(&summary.attributes);
        let summary = cache::Summary {
            label: summary.label.as_deref(),
            confidence: summary.confidence,
            complexity: summary.complexity,
            language: summary.language.as_deref(),
            attributes: &attributes,
        };
        let decision = guest.call_decide(store, request, summary)?;
        Ok(decision.map(convert::decision).map_err(convert::failure))
    }

    pub(in crate::plugin) fn admit(
        &self,
        store: &mut Store<State>,
        answer: &AnswerFacts,
        head: &str,
    ) -> wasmtime::Result<RawResult<bool>> {
        let Stage::Cache(guest) = &self.stage else {
            return other_stage();
        };
        let admitted = guest.call_admit(store, convert::answer(answer, head))?;
        Ok(admitted.map_err(convert::failure))
    }
}

/// The slot's kind chose both the indices and the call, so this is a bug of the host.
fn other_stage<T>() -> wasmtime::Result<T> {
    wasmtime::bail!("an instance of another stage was called")
}
