//! `[pipeline]` as typed.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Size, Time};

/// The plugins, stage by stage. A stage that is left out runs its bundled plugin with its defaults;
/// an empty list switches it off.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pipeline {
    /// Say what a request asks for; in order, the first label wins. Left out:
    /// `builtin:keyword-classifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) classify: Option<Vec<Slot>>,
    /// Shorten prompts, on routes with `compress = true`; each sees what the one before left. Left
    /// out: `builtin:topk-compressor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compress: Option<Vec<Slot>>,
    /// Says what may be cached, for how long and for whom. Left out:
    /// `builtin:default-cache-policy`; `enabled = false` runs without a policy plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_policy: Option<Slot>,
    /// Plugin instances that there is room for; cannot change while running. Left out, enough for
    /// 16 slots with two spares each, twice, since a swap holds the old and the new ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_instances: Option<u32>,
    /// Memory that one instance may ever have; cannot change while running.
    pub(crate) max_memory_bytes: Size,
    /// Folder of compiled plugins; cannot change while running. Left out,
    /// `$XDG_CACHE_HOME/sluicegate` or `~/.cache/sluicegate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compile_cache: Option<String>,
    /// Bytes that this folder may hold; the least recently used go first.
    pub(crate) compile_cache_bytes: Size,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            classify: None,
            compress: None,
            cache_policy: None,
            max_instances: None,
            max_memory_bytes: Size::mib(64),
            compile_cache: None,
            compile_cache_bytes: Size::mib(1024),
        }
    }
}

/// A place for one plugin.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Slot {
    /// False keeps the slot in the file and runs without it.
    pub(crate) enabled: bool,
    /// Path of a component, or `builtin:NAME`. Left out, the stage's bundled plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Shown in logs and metrics, unique: 1 to 64 bytes of `a-z 0-9 -`. Left out, from the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// SHA-256 that the component must have, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    /// The plugin's own table; its README says what it takes.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) config: Map<String, Value>,
    /// What the stage does when the plugin gives no result.
    pub(crate) on_failure: OnFailure,
    /// CPU time of one call; 20 µs for each KiB handed over come on top. Left out, 5 ms, for
    /// compressors 20 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_time: Option<Time>,
    /// Memory of an instance, 64 KiB to the pipeline's `max_memory_bytes`. Left out, that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<Size>,
    /// Largest result of a call, and largest arguments of a call that it makes: 1 KiB to 64 MiB.
    pub(crate) max_output_bytes: Size,
    /// Largest component that is loaded.
    pub(crate) max_component_bytes: Size,
    /// Spare instances besides one for each worker.
    #[schemars(range(max = 1024))]
    pub(crate) spares: u32,
    /// Calls after which an instance is replaced.
    #[schemars(range(min = 1))]
    pub(crate) max_calls: u64,
    /// Faults in a row (traps, deadlines, output that breaks the contract) after which it is taken
    /// off the path, and tried again after a second, then two, and so on up to a minute.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) quarantine_after: u32,
    /// Longest time that the plugin may take to accept its config.
    pub(crate) configure_timeout: Time,
    /// So many of the last messages are shown to it. Left out, what it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_messages: Option<u32>,
    /// How much of each text is shown to it: `"nothing"`, `"all"` or a window. Left out, what it
    /// asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Text>,
    /// Most messages that are shown to it.
    #[schemars(range(min = 1))]
    pub(crate) max_messages: u32,
    /// Bytes of text that it may read on demand in one call.
    pub(crate) read_bytes: Size,
    /// Request headers that are shown to it, at most 32; `authorization` and `cookie` never are.
    #[schemars(length(max = 32))]
    pub(crate) headers: Vec<String>,
    /// Capabilities that it gets if it wants them.
    pub(crate) grants: Vec<Capability>,
    /// Compressors: most edits of one call. Left out, 4096.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_edits: Option<u32>,
    /// Compressors: allows edits of the last user message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) edit_last_user: Option<bool>,
    /// Compressors: allows edits of tool results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) edit_tool_results: Option<bool>,
    /// Cache policy: fields of a request that it may take out of the cache key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) may_ignore: Option<Vec<Ignorable>>,
    /// Cache policy: so much of an answer is shown to it before it is stored, at most 16 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer_bytes: Option<Size>,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            enabled: true,
            source: None,
            name: None,
            sha256: None,
            config: Map::new(),
            on_failure: OnFailure::Skip,
            cpu_time: None,
            memory_bytes: None,
            max_output_bytes: Size::mib(1),
            max_component_bytes: Size::mib(64),
            spares: 2,
            max_calls: 1_000_000,
            quarantine_after: 5,
            configure_timeout: Time::seconds(10),
            last_messages: None,
            text: None,
            max_messages: 4096,
            read_bytes: Size::mib(16),
            headers: Vec::new(),
            grants: Vec::new(),
            max_edits: None,
            edit_last_user: None,
            edit_tool_results: None,
            may_ignore: None,
            answer_bytes: None,
        }
    }
}

/// What a stage does when a plugin gives no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFailure {
    /// Goes on without it.
    Skip,
    /// Refuses the request with 503.
    Deny,
}

/// What a plugin may be given besides its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Capability {
    /// The time of day.
    Clock,
}

/// Fields of a request that a cache policy may take out of the key, named as in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ignorable {
    /// The model asked for.
    Model,
    /// `temperature`.
    Temperature,
    /// `top_p`.
    TopP,
    /// `seed`.
    Seed,
    /// `max_completion_tokens` and `max_tokens`.
    MaxTokens,
    /// `user`.
    EndUser,
    /// `metadata`.
    Metadata,
}

impl Ignorable {
    /// The contract's name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Temperature => "temperature",
            Self::TopP => "top-p",
            Self::Seed => "seed",
            Self::MaxTokens => "max-tokens",
            Self::EndUser => "end-user",
            Self::Metadata => "metadata",
        }
    }
}

/// How much of each text a plugin sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    /// One of the two words.
    Word(Word),
    /// Beginning and end of each text.
    Window {
        /// From the beginning.
        head: Size,
        /// Up to the end.
        tail: Size,
    },
}

/// The two extremes of [`Text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// No text.
    Nothing,
    /// All of it.
    All,
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    // Each keyword speaks of one type only, so that an error names the part that is wrong; with
    // `anyOf` it could only say that no form fits.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut size = |description: &str| {
            let mut schema = generator.subschema_for::<Size>();
            schema.insert("description".to_owned(), description.into());
            schema
        };
        let head = size("Bytes from the beginning: at most 1 MiB.");
        let tail = size("Bytes up to the end: at most 1 MiB.");
        json_schema!({
            "title": "\"nothing\", \"all\" or a table such as { head = \"4KiB\", tail = \"1KiB\" }",
            "type": ["string", "object"],
            "pattern": "^(nothing|all)$",
            "examples": ["all", { "head": "4KiB", "tail": "1KiB" }],
            "properties": { "head": head, "tail": tail },
            "required": ["head", "tail"],
            "additionalProperties": false,
        })
    }
}
