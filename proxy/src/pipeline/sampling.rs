//! What a route changes in a request's sampling parameters.

use crate::api::request::{Changes, Request};
use crate::config::Route;

/// Defaults where the client is silent, and caps; the model's name stays.
pub(super) fn changes(route: &Route) -> Changes {
    let defaults = &route.defaults;
    let mut insert = Vec::new();
    if let Some(tokens) = defaults.max_tokens {
        insert.push(("max_tokens", tokens.to_string()));
    }
    if let Some(temperature) = defaults.temperature {
        insert.push(("temperature", temperature.to_string()));
    }
    if let Some(top_p) = defaults.top_p {
        insert.push(("top_p", top_p.to_string()));
    }
    if !defaults.stop.is_empty() {
        insert.push(("stop", serde_json::json!(defaults.stop).to_string()));
    }
    Changes {
        model: None,
        insert,
        max_tokens_cap: route.max_tokens_cap,
    }
}

/// The route's name, with what it changes in this request: another change gives another answer.
pub(super) fn variant(request: &Request, route: &Route) -> String {
    let changes = changes(route);
    if changes.insert.is_empty() && changes.max_tokens_cap.is_none() {
        return route.name.clone();
    }
    let changed = request.changed(&changes).join(" ");
    format!("{} {changed}", route.name)
}
