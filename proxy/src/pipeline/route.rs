//! Picks the rule and the pools that serve a request. Pure: the same facts give the same route.
//!
//! The first route whose every condition holds wins. A concrete model name that a pool serves beats
//! the route's pool, unless the route says `override_model`; `auto`, an unknown name and a forced
//! label follow the route.

use std::sync::Arc;

use super::authenticate::Caller;
use super::classify::Class;
use super::client::Head;
use super::context::RequestContext;
use super::error::{Error, Result};
use super::snapshot::Snapshot;
use crate::api::prompt::Prompt;
use crate::config::{Route, RouteMatch};
use crate::telemetry::Stage;
use crate::upstream::Pool;

/// Where a request goes, and under which settings.
pub(crate) struct Target {
    pub(crate) route: Arc<Route>,
    /// Never empty: the pool, then its fallbacks.
    pub(crate) chain: Vec<Hop>,
}

/// One pool of the chain.
#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) pool: Arc<Pool>,
    /// What the pool's backends know the model as; none: the client's own name is sent.
    pub(crate) model: Option<String>,
}

impl Target {
    /// The model that the route names first, as its backends know it.
    pub(crate) fn model<'a>(&'a self, asked: &'a str) -> &'a str {
        self.chain
            .first()
            .and_then(|hop| hop.model.as_deref())
            .unwrap_or(asked)
    }
}

/// Facts that routes match on.
pub(super) struct Facts<'a> {
    pub(super) head: &'a Head,
    pub(super) caller: &'a Caller,
    pub(super) class: &'a Class,
    /// None for paths whose body is not read.
    pub(super) prompt: Option<&'a Prompt>,
}

/// Routes a request.
///
/// # Errors
/// [`Error::NoBackend`] when a route names a pool that the snapshot lacks, which loading rules out.
pub(super) fn run(
    cx: &mut RequestContext,
    snapshot: &Snapshot,
    facts: &Facts<'_>,
) -> Result<Target> {
    cx.enter(Stage::Route);
    let asked = facts.prompt.map(|prompt| prompt.model.as_str());
    let routes = &snapshot.config.routes;
    let route = routes
        .iter()
        .find(|route| matches(&route.matches, facts))
        .ok_or_else(|| Error::Invalid {
            message: "no route matches this request".to_owned(),
            param: None,
            code: "no_route",
        })?;
    let named = asked
        .filter(|_| !route.override_model && !facts.class.forced)
        .and_then(|model| snapshot.pool_of_model(model));
    let mut chain = Vec::with_capacity(1 + route.fallback.len());
    match named {
        Some(pool) => chain.push(hop(pool, asked, route)),
        None => chain.push(hop(find(snapshot, &route.pool)?, asked, route)),
    }
    for name in &route.fallback {
        if chain.iter().all(|hop| hop.pool.config().name != *name) {
            chain.push(hop(find(snapshot, name)?, asked, route));
        }
    }
    cx.record.route = Some(route.name.clone());
    cx.record.pool = chain.first().map(|hop| hop.pool.config().name.clone());
    Ok(Target {
        route: Arc::clone(route),
        chain,
    })
}

fn find<'a>(snapshot: &'a Snapshot, name: &crate::config::PoolName) -> Result<&'a Arc<Pool>> {
    snapshot
        .pools
        .get(name)
        .ok_or_else(|| Error::NoBackend { pool: name.clone() })
}

/// The client's model where the pool serves it, else the pool's first; a pool that names no model
/// gets what the client wrote.
fn hop(pool: &Arc<Pool>, asked: Option<&str>, route: &Route) -> Hop {
    let config = pool.config();
    let served = asked
        .filter(|_| !route.override_model)
        .filter(|model| config.models.iter().any(|known| known == model));
    let name = served.or_else(|| config.models.first().map(String::as_str));
    Hop {
        pool: Arc::clone(pool),
        model: name.map(|name| {
            config
                .model_map
                .get(name)
                .cloned()
                .unwrap_or_else(|| name.to_owned())
        }),
    }
}

fn matches(rule: &RouteMatch, facts: &Facts<'_>) -> bool {
    let Facts {
        head,
        caller,
        class,
        prompt,
    } = facts;
    let label = rule.labels.is_empty()
        || class
            .label
            .as_ref()
            .is_some_and(|label| rule.labels.contains(label));
    let model = rule.models.is_empty()
        || prompt.is_some_and(|prompt| {
            rule.models
                .iter()
                .any(|pattern| matches_model(pattern, &prompt.model))
        });
    let path = rule
        .path
        .as_ref()
        .is_none_or(|prefix| head.plain_path().starts_with(prefix.as_str()));
    let headers = rule
        .headers
        .iter()
        .all(|(name, value)| head.text(name) == Some(value.as_str()));
    let tenant = rule.tenants.is_empty() || rule.tenants.contains(&caller.tenant);
    let modality = rule.modalities.is_empty()
        || class.modality.is_some_and(|modality| {
            rule.modalities
                .iter()
                .any(|wanted| wanted == modality.as_str())
        });
    let complexity = rule.complexity_at_least.is_none_or(|least| {
        class
            .summary
            .complexity
            .is_some_and(|complexity| complexity >= least)
    });
    let tools = rule
        .tools
        .is_none_or(|wanted| prompt.is_some_and(|prompt| prompt.tools.is_empty() != wanted));
    label && model && path && headers && tenant && modality && complexity && tools
}

fn matches_model(pattern: &str, model: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => model.starts_with(prefix),
        None => model == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::prompt::{Endpoint, Parameters};
    use crate::config::{Grants, Label, Tenant};
    use http::{HeaderMap, Method};

    fn prompt(model: &str, tools: &[&str]) -> Prompt {
        Prompt {
            endpoint: Endpoint::Chat,
            model: model.into(),
            messages: Vec::new(),
            last_user: None,
            inserted: None,
            tools: tools.iter().map(|name| (*name).to_owned()).collect(),
            parameters: Parameters::default(),
            user: None,
            prompt_tokens: 0,
            text_bytes: 0,
        }
    }

    fn holds(rule: &RouteMatch, label: Option<&str>, model: &str, tools: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("x-team", "red".parse().unwrap());
        let head = Head {
            method: Method::POST,
            path: "/v1/chat/completions".into(),
            decoded_path: None,
            path_and_query: "/v1/chat/completions".into(),
            headers,
        };
        let caller = Caller {
            tenant: Tenant::new("acme"),
            grants: Grants {
                cache: true,
                compress: true,
                session: true,
                route: true,
                explain: true,
            },
            bearer: None,
            session: None,
        };
        let class = Class {
            label: label.map(Label::new),
            ..Class::default()
        };
        let prompt = prompt(model, tools);
        matches(
            rule,
            &Facts {
                head: &head,
                caller: &caller,
                class: &class,
                prompt: Some(&prompt),
            },
        )
    }

    #[test]
    fn an_empty_rule_matches_everything() {
        assert!(holds(&RouteMatch::default(), None, "auto", &[]));
    }

    #[test]
    fn every_condition_must_hold() {
        let rule = RouteMatch {
            labels: vec![Label::new("code"), Label::new("math")],
            headers: vec![(http::HeaderName::from_static("x-team"), "red".into())],
            tenants: vec![Tenant::new("acme")],
            ..RouteMatch::default()
        };
        assert!(holds(&rule, Some("math"), "auto", &[]));
        assert!(!holds(&rule, Some("chat"), "auto", &[]));
        assert!(!holds(&rule, None, "auto", &[]));
        let other = RouteMatch {
            tenants: vec![Tenant::new("other")],
            ..rule
        };
        assert!(!holds(&other, Some("math"), "auto", &[]));
    }

    #[test]
    fn a_star_matches_any_rest_of_a_model_name() {
        let rule = RouteMatch {
            models: vec!["gpt-*".into(), "exact".into()],
            ..RouteMatch::default()
        };
        assert!(holds(&rule, None, "gpt-4o", &[]));
        assert!(holds(&rule, None, "exact", &[]));
        assert!(!holds(&rule, None, "exactly", &[]));
    }

    #[test]
    fn tools_may_be_asked_for_or_ruled_out() {
        let with = |tools| RouteMatch {
            tools: Some(tools),
            ..RouteMatch::default()
        };
        assert!(holds(&with(true), None, "m", &["search"]));
        assert!(!holds(&with(true), None, "m", &[]));
        assert!(holds(&with(false), None, "m", &[]));
        assert!(!holds(&with(false), None, "m", &["search"]));
    }

    #[test]
    fn unknown_complexity_never_satisfies_a_floor() {
        let rule = RouteMatch {
            complexity_at_least: Some(0.0),
            ..RouteMatch::default()
        };
        assert!(!holds(&rule, None, "m", &[]));
    }
}
