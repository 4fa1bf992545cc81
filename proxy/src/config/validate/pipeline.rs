//! `[pipeline]`: the plugin slots, and that there is room for them.

use std::collections::HashSet;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Checker;
use super::names::Alphabet;
use crate::config::files;
use crate::config::resolved::{OnFailure, Pipeline, Slot, SlotKind, SlotName, Source, TextWindow};
use crate::config::schema::{self, Capability, Size};
use crate::config::wording::nearest;

/// The bundled plugins, each with the stage whose default it is.
const BUILTINS: [(&str, SlotKind); 3] = [
    ("keyword-classifier", SlotKind::Classify),
    ("topk-compressor", SlotKind::Compress),
    ("default-cache-policy", SlotKind::CachePolicy),
];

/// Slots that there is room for when `max_instances` is left out.
const DEFAULT_SLOTS: usize = 16;

/// Spare instances of a slot where nothing else is said.
const DEFAULT_SPARES: usize = 2;

pub(super) fn resolve(
    typed: &mut schema::Pipeline,
    workers: usize,
    checker: &mut Checker<'_>,
) -> Pipeline {
    let largest = checker.size(
        "/pipeline/max_memory_bytes",
        typed.max_memory_bytes,
        Size::kib(64),
        Size::mib(4096),
    );
    let mut slots = Slots {
        largest: typed.max_memory_bytes,
        names: HashSet::new(),
        checker,
    };
    let classify = typed.classify.get_or_insert_with(bundled);
    let classify = slots.stage(SlotKind::Classify, "/pipeline/classify", classify);
    let compress = typed.compress.get_or_insert_with(bundled);
    let compress = slots.stage(SlotKind::Compress, "/pipeline/compress", compress);
    let policy = typed.cache_policy.get_or_insert_default();
    let cache_policy = slots.slot(SlotKind::CachePolicy, "/pipeline/cache_policy", policy);

    let max_instances = typed.max_instances.unwrap_or_else(|| {
        u32::try_from(DEFAULT_SLOTS * (workers + DEFAULT_SPARES) * 2).unwrap_or(u32::MAX)
    });
    typed.max_instances = Some(max_instances);
    let compile_cache = typed
        .compile_cache
        .as_ref()
        .map_or_else(default_compile_cache, |path| checker.path(path));
    typed.compile_cache = Some(compile_cache.display().to_string());
    let pipeline = Pipeline {
        classify,
        compress,
        cache_policy: cache_policy.map(Arc::new),
        max_instances,
        max_memory_bytes: largest,
        compile_cache,
        compile_cache_bytes: typed.compile_cache_bytes.0,
    };
    let needed = pipeline.instances_needed(workers);
    if needed > u64::from(max_instances) && slots_known(typed, checker) {
        let message =
            format!("the slots need {needed} instances, there is room for {max_instances}");
        checker.error("/pipeline/max_instances", message).help(format!(
            "each slot takes (workers + spares) × 2 instances, the old and the new ones of a swap; \
             write max_instances = {needed} or more"
        ));
    }
    pipeline
}

/// Whether it is known how many instances the slots need.
fn slots_known(typed: &schema::Pipeline, checker: &Checker<'_>) -> bool {
    let stages = [
        ("/pipeline/classify", &typed.classify),
        ("/pipeline/compress", &typed.compress),
    ];
    let lists = stages.iter().flat_map(|(stage, slots)| {
        let count = slots.as_ref().map_or(0, Vec::len);
        (0..count).map(move |at| format!("{stage}/{at}"))
    });
    let mut slots = lists.chain(["/pipeline/cache_policy".to_owned()]);
    checker.knows("/server/workers")
        && stages.iter().all(|(stage, _)| checker.knows(stage))
        && slots.all(|slot| {
            checker.knows(&format!("{slot}/spares")) && checker.knows(&format!("{slot}/enabled"))
        })
}

/// A stage that was left out: one slot with the bundled plugin and its defaults.
fn bundled() -> Vec<schema::Slot> {
    vec![schema::Slot::default()]
}

fn default_compile_cache() -> PathBuf {
    let absolute = |name: &str| {
        let folder = PathBuf::from(env::var_os(name)?);
        folder.is_absolute().then_some(folder)
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .unwrap_or_else(env::temp_dir)
        .join("sluicegate")
}

/// Resolves slots one after the other; names are unique over all stages.
struct Slots<'a, 'c> {
    largest: Size,
    names: HashSet<String>,
    checker: &'a mut Checker<'c>,
}

impl Slots<'_, '_> {
    fn stage(
        &mut self,
        kind: SlotKind,
        pointer: &str,
        typed: &mut [schema::Slot],
    ) -> Vec<Arc<Slot>> {
        let slots = typed.iter_mut().enumerate();
        slots
            .filter_map(|(at, typed)| self.slot(kind, &format!("{pointer}/{at}"), typed))
            .map(Arc::new)
            .collect()
    }

    fn slot(&mut self, kind: SlotKind, pointer: &str, typed: &mut schema::Slot) -> Option<Slot> {
        if !typed.enabled {
            return None;
        }
        let place = |field: &str| format!("{pointer}/{field}");
        let source = self.source(kind, &place("source"), typed);
        let name = self.name(pointer, typed, &source);
        self.fits_stage(kind, pointer, typed);
        let sha256 = typed.sha256.as_deref();
        let sha256 = sha256.and_then(|digits| self.checker.sha256(&place("sha256"), digits));
        let headers = typed.headers.iter().enumerate();
        let headers = headers
            .filter_map(|(at, name)| {
                let place = format!("{pointer}/headers/{at}");
                self.checker.header_name(&place, name)
            })
            .collect();
        let memory = self.memory(&place("memory_bytes"), typed.memory_bytes);
        typed.memory_bytes = Some(memory);
        let cpu_time = typed.cpu_time.map_or(default_cpu_time(kind), |time| time.0);
        typed.cpu_time = Some(schema::Time(cpu_time));
        Some(Slot {
            kind,
            name: SlotName::new(&name),
            source,
            sha256,
            config: Value::Object(typed.config.clone()),
            secrets: self.checker.document.secrets_of(&place("config")),
            on_failure: match typed.on_failure {
                schema::OnFailure::Skip => OnFailure::Skip,
                schema::OnFailure::Deny => OnFailure::Deny,
            },
            cpu_time,
            memory_bytes: usize::try_from(memory.0).unwrap_or(usize::MAX),
            max_output_bytes: self.checker.size(
                &place("max_output_bytes"),
                typed.max_output_bytes,
                Size::kib(1),
                Size::mib(64),
            ),
            max_component_bytes: self
                .positive(&place("max_component_bytes"), typed.max_component_bytes),
            spares: typed.spares,
            max_calls: typed.max_calls,
            quarantine_after: typed.quarantine_after,
            configure_timeout: typed.configure_timeout.0,
            last_messages: typed.last_messages,
            text: typed.text.map(|text| self.text(&place("text"), text)),
            max_messages: typed.max_messages,
            read_bytes: typed.read_bytes.0,
            headers,
            grant_clock: typed.grants.contains(&Capability::Clock),
            max_edits: usize::try_from(typed.max_edits.unwrap_or(4096)).unwrap_or(usize::MAX),
            edit_last_user: typed.edit_last_user.unwrap_or(false),
            edit_tool_results: typed.edit_tool_results.unwrap_or(false),
            may_ignore: typed
                .may_ignore
                .iter()
                .flatten()
                .map(|field| field.as_str().to_owned())
                .collect(),
            answer_bytes: self.answer_bytes(&place("answer_bytes"), typed.answer_bytes),
        })
    }

    fn source(&mut self, kind: SlotKind, pointer: &str, typed: &mut schema::Slot) -> Source {
        let default = || {
            let own = BUILTINS.iter().find(|(_, stage)| *stage == kind);
            format!("builtin:{}", own.map_or("", |(name, _)| name))
        };
        let typed = typed.source.get_or_insert_with(default).clone();
        let Some(builtin) = typed.strip_prefix("builtin:") else {
            return Source::File(self.file(pointer, &typed));
        };
        match BUILTINS.iter().find(|(name, _)| *name == builtin) {
            Some((_, stage)) if *stage != kind => {
                let message = format!(
                    "`{builtin}` is {}, this is {}",
                    plugin_of(*stage),
                    slot_of(kind)
                );
                self.checker.error(pointer, message);
            }
            Some(_) => {}
            None => {
                let known = BUILTINS.map(|(name, _)| name);
                let message = format!("no bundled plugin is called `{builtin}`");
                let problem = self.checker.error(pointer, message);
                match nearest(builtin, &known) {
                    Some(near) => problem.label(format!("did you mean `builtin:{near}`?")),
                    None => problem.label(format!("there are `{}`", known.join("`, `"))),
                };
            }
        }
        Source::Builtin(builtin.to_owned())
    }

    fn file(&mut self, pointer: &str, typed: &str) -> PathBuf {
        let path = self.checker.path(typed);
        self.checker.files.push(path.clone());
        if let Err(error) = files::find(&path) {
            self.checker.error(pointer, error.to_string());
        }
        path
    }

    /// The name as typed, else from the source; reports one that is taken.
    fn name(&mut self, pointer: &str, typed: &mut schema::Slot, source: &Source) -> String {
        let stem = match source {
            Source::Builtin(name) => name.clone(),
            Source::File(path) => stem(path),
        };
        let is_typed = typed.name.is_some();
        let name = typed.name.get_or_insert(stem).clone();
        let pointer = format!("{pointer}/{}", if is_typed { "name" } else { "source" });
        self.checker.name(&pointer, &name, Alphabet::Slot);
        if !self.names.insert(name.clone()) {
            self.checker
                .error(&pointer, format!("a slot is called `{name}` already"))
                .help("give each slot a `name` of its own");
        }
        name
    }

    /// Fields that only one stage has a use for.
    fn fits_stage(&mut self, kind: SlotKind, pointer: &str, typed: &schema::Slot) {
        let fields = [
            ("max_edits", typed.max_edits.is_some(), SlotKind::Compress),
            (
                "edit_last_user",
                typed.edit_last_user.is_some(),
                SlotKind::Compress,
            ),
            (
                "edit_tool_results",
                typed.edit_tool_results.is_some(),
                SlotKind::Compress,
            ),
            (
                "may_ignore",
                typed.may_ignore.is_some(),
                SlotKind::CachePolicy,
            ),
            (
                "answer_bytes",
                typed.answer_bytes.is_some(),
                SlotKind::CachePolicy,
            ),
        ];
        for (field, is_set, stage) in fields {
            if is_set && stage != kind {
                let message = format!(
                    "only {} has a use for it, this is {}",
                    slot_of(stage),
                    slot_of(kind)
                );
                self.checker.error(&format!("{pointer}/{field}"), message);
            }
        }
    }

    /// What a slot may have: all that any may, unless it says less.
    fn memory(&mut self, pointer: &str, typed: Option<Size>) -> Size {
        let Some(size) = typed else {
            return self.largest;
        };
        if size < Size::kib(64) {
            let message = format!("expected at least {}", Size::kib(64));
            self.checker.error(pointer, message);
        }
        if size > self.largest && self.checker.knows("/pipeline/max_memory_bytes") {
            let message = format!(
                "more than [pipeline] max_memory_bytes allows, {}",
                self.largest
            );
            self.checker.error(pointer, message);
        }
        size
    }

    fn positive(&mut self, pointer: &str, size: Size) -> u64 {
        if size.0 == 0 {
            self.checker
                .error(pointer, "expected a size of more than zero");
        }
        size.0
    }

    fn text(&mut self, pointer: &str, typed: schema::Text) -> TextWindow {
        let mut end = |field: &str, size: Size| {
            let place = format!("{pointer}/{field}");
            let bytes = self.checker.size(&place, size, Size(0), Size::mib(1));
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        match typed {
            schema::Text::Word(schema::Word::Nothing) => TextWindow::Nothing,
            schema::Text::Word(schema::Word::All) => TextWindow::All,
            schema::Text::Window { head, tail } => TextWindow::Window {
                head: end("head", head),
                tail: end("tail", tail),
            },
        }
    }

    fn answer_bytes(&mut self, pointer: &str, typed: Option<Size>) -> u32 {
        let size = typed.unwrap_or(Size(0));
        let bytes = self.checker.size(pointer, size, Size(0), Size::mib(16));
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

fn default_cpu_time(kind: SlotKind) -> Duration {
    match kind {
        SlotKind::Classify | SlotKind::CachePolicy => Duration::from_millis(5),
        SlotKind::Compress => Duration::from_millis(20),
    }
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Alphabet::Slot.fit(&stem.replace('_', "-"))
}

fn plugin_of(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Classify => "a classifier",
        SlotKind::Compress => "a compressor",
        SlotKind::CachePolicy => "a cache policy",
    }
}

fn slot_of(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Classify => "[[pipeline.classify]]",
        SlotKind::Compress => "[[pipeline.compress]]",
        SlotKind::CachePolicy => "[pipeline.cache_policy]",
    }
}
