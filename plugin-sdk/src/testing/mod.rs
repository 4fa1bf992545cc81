//! What a plugin's own tests need: requests, a host, and the host's checker of edits, all native.
//!
//! ```
//! use sluicegate_plugin::testing::{TestHost, chat};
//! use sluicegate_plugin::{Host, Role};
//!
//! let request = chat(&[(Role::System, "Be brief."), (Role::User, "Where is my parcel?")]);
//! assert_eq!(request.last_user_text(), "Where is my parcel?");
//!
//! let host = TestHost::new(&request).at_unix_seconds(1_700_000_000);
//! assert_eq!(host.read(1, 0, 0, 8).unwrap().text, "Where is");
//! ```

mod apply;
mod build;
mod host;

pub use apply::{Kept, apply, apply_with};
pub use build::{
    answer, budget, chat, image, message, request, summary, text, tool_call, tool_result, windowed,
};
pub use host::TestHost;
pub use sluicegate_edits::{Refusal as EditRefusal, Rules as EditRules};
