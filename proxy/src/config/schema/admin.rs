//! `[admin]` as typed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The listener for operators: state, reload, metrics.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    /// False: no such listener.
    pub(crate) enabled: bool,
    /// Address and port; cannot change while running. One that other machines can reach needs a
    /// token.
    pub(crate) listen: String,
    /// Asked for as `Authorization: Bearer`, best as `"${NAME}"` or `"${file:/path}"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: "127.0.0.1:9090".to_owned(),
            token: None,
        }
    }
}
