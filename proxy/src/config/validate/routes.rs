//! `[[routes]]`: which pool gets a request.

use http::HeaderName;

use super::Checker;
use super::names::Alphabet;
use crate::config::document::child;
use crate::config::resolved::{
    Auth, AuthMode, Commit, Defaults, Label, Pool, PoolName, Route, RouteMatch, Tenant, Timeouts,
};
use crate::config::schema::{self, Modality, OneOrMany};
use crate::config::wording::nearest;

pub(super) fn resolve(
    typed: &mut Vec<schema::Route>,
    pools: &[Pool],
    auth: &Auth,
    checker: &mut Checker<'_>,
) -> Vec<Route> {
    for (at, route) in typed.iter_mut().enumerate() {
        route
            .name
            .get_or_insert_with(|| format!("route-{}", at + 1));
    }
    let entries = typed.iter().enumerate();
    checker.unique(
        "route",
        entries.map(|(at, route)| {
            (
                format!("/routes/{at}/name"),
                route.name.as_deref().unwrap_or_default(),
            )
        }),
    );
    let mut routes: Vec<Route> = Vec::new();
    let mut takes_rest: Option<String> = None;
    for (at, typed) in typed.iter().enumerate() {
        let pointer = format!("/routes/{at}");
        if let Some(earlier) = &takes_rest {
            let message = format!("never reached: route `{earlier}` takes every request");
            checker.warn(&pointer, message);
        }
        let route = route(&pointer, typed, pools, auth, checker);
        if takes_rest.is_none() && takes_all(&route) {
            takes_rest = Some(route.name.clone());
        }
        routes.push(route);
    }
    unreached(&routes, pools, checker);
    if !routes.iter().any(takes_all)
        && let Some(implied) = implied(typed, pools)
    {
        routes.push(route("", &implied, pools, auth, checker));
        typed.push(implied);
    }
    routes
}

/// The catch-all to the first pool.
fn implied(typed: &[schema::Route], pools: &[Pool]) -> Option<schema::Route> {
    let pool = pools.first()?.name.as_str();
    let is_free = |name: &&str| {
        typed
            .iter()
            .all(|route| route.name.as_deref() != Some(name))
    };
    let name = ["default", "implied-default"].into_iter().find(is_free)?;
    let route = serde_json::json!({ "name": name, "pool": pool });
    serde_json::from_value(route).ok()
}

fn takes_all(route: &Route) -> bool {
    let matches = &route.matches;
    matches.labels.is_empty()
        && matches.models.is_empty()
        && matches.path.as_deref().is_none_or(|path| path == "/")
        && matches.headers.is_empty()
        && matches.tenants.is_empty()
        && matches.modalities.is_empty()
        && matches.complexity_at_least.is_none()
        && matches.tools.is_none()
}

/// A pool that no route names and that serves no model by name gets no request. The first one is
/// the implied route's.
fn unreached(routes: &[Route], pools: &[Pool], checker: &mut Checker<'_>) {
    for (at, pool) in pools.iter().enumerate() {
        let leads_here =
            |route: &Route| route.pool == pool.name || route.fallback.contains(&pool.name);
        let is_first = at == 0 && !routes.iter().any(takes_all);
        if !is_first && pool.models.is_empty() && !routes.iter().any(leads_here) {
            let message = "never asked: no route names this pool, and it lists no `models`";
            checker.warn(&format!("/pools/{at}/name"), message);
        }
    }
}

fn route(
    pointer: &str,
    typed: &schema::Route,
    pools: &[Pool],
    auth: &Auth,
    checker: &mut Checker<'_>,
) -> Route {
    let name = typed.name.clone().unwrap_or_default();
    checker.name(&format!("{pointer}/name"), &name, Alphabet::Name);
    chain(pointer, typed, pools, checker);
    sampling(pointer, typed, checker);
    let timeouts = &typed.timeouts;
    if timeouts.first_token.0 > timeouts.total.0 {
        let message = format!(
            "longer than the request as a whole may take, {}",
            timeouts.total
        );
        checker.warn(&format!("{pointer}/timeouts/first_token"), message);
    }
    Route {
        name,
        matches: matches(&format!("{pointer}/match"), &typed.matches, auth, checker),
        pool: PoolName::new(&typed.pool),
        fallback: typed
            .fallback
            .iter()
            .map(|name| PoolName::new(name))
            .collect(),
        fallback_on_429: typed.fallback_on_429,
        override_model: typed.override_model,
        defaults: Defaults {
            max_tokens: typed.defaults.max_tokens,
            temperature: typed.defaults.temperature,
            top_p: typed.defaults.top_p,
            stop: typed.defaults.stop.clone(),
        },
        max_tokens_cap: typed.caps.max_tokens,
        compress: typed.compress,
        cache: typed.cache,
        attempts: typed.attempts,
        retry_ambiguous: typed.retry_ambiguous,
        commit: match typed.commit {
            schema::Commit::Content => Commit::Content,
            schema::Commit::Head => Commit::Head,
        },
        timeouts: Timeouts {
            connect: timeouts.connect.0,
            first_token: timeouts.first_token.0,
            between_bytes: timeouts.between_bytes.0,
            total: timeouts.total.0,
        },
    }
}

/// Every pool of the chain exists and stands in it once.
fn chain(pointer: &str, typed: &schema::Route, pools: &[Pool], checker: &mut Checker<'_>) {
    let fallback = typed.fallback.iter().enumerate();
    let fallback = fallback.map(|(at, name)| (format!("{pointer}/fallback/{at}"), name));
    let chain = std::iter::once((format!("{pointer}/pool"), &typed.pool)).chain(fallback);
    let mut seen: Vec<&str> = Vec::new();
    for (pointer, name) in chain {
        if !pools.iter().any(|pool| pool.name.as_str() == name) {
            if !all_pools_known(pools, checker) {
                continue;
            }
            let known: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
            let problem = checker.error(&pointer, format!("no pool is called `{name}`"));
            match nearest(name, &known) {
                Some(near) => problem.label(format!("did you mean `{near}`?")),
                None => problem.label(format!("pools are `{}`", known.join("`, `"))),
            };
        } else if seen.contains(&name.as_str()) {
            let chain = seen.join(" → ");
            checker
                .error(
                    &pointer,
                    format!("pool `{name}` is in the fallback chain already"),
                )
                .label(format!("after {chain}"))
                .help("each pool is tried once: take it out");
        }
        seen.push(name);
    }
    if typed.fallback_on_429 && typed.fallback.is_empty() {
        let message = "has no effect without `fallback`";
        checker.warn(&format!("{pointer}/fallback_on_429"), message);
    }
}

/// A pool whose name is not known may be the one that is meant.
fn all_pools_known(pools: &[Pool], checker: &Checker<'_>) -> bool {
    checker.knows("/pools")
        && (0..pools.len()).all(|at| checker.knows(&format!("/pools/{at}/name")))
}

fn sampling(pointer: &str, typed: &schema::Route, checker: &mut Checker<'_>) {
    if let (Some(default), Some(cap)) = (typed.defaults.max_tokens, typed.caps.max_tokens)
        && default > cap
        && checker.knows(&format!("{pointer}/caps/max_tokens"))
    {
        let message = format!("above the route's own cap of {cap} tokens");
        checker.error(&format!("{pointer}/defaults/max_tokens"), message);
    }
}

fn matches(
    pointer: &str,
    typed: &schema::Match,
    auth: &Auth,
    checker: &mut Checker<'_>,
) -> RouteMatch {
    for (place, label) in entries(pointer, "label", &typed.label, checker) {
        checker.name(&place, &label, Alphabet::Label);
    }
    for (place, model) in entries(pointer, "model", &typed.model, checker) {
        checker.text(&place, &model, 256);
        if model.trim_end_matches('*').contains('*') || model.ends_with("**") {
            checker.error(&place, "expected at most one `*`, at the end");
        }
    }
    for (place, tenant) in entries(pointer, "tenant", &typed.tenant, checker) {
        checker.text(&place, &tenant, 128);
        let is_known = auth.keys.iter().any(|key| key.tenant.as_str() == tenant);
        if auth.mode == AuthMode::Keys && !is_known {
            checker.warn(&place, format!("no key belongs to tenant `{tenant}`"));
        }
    }
    if let Some(path) = &typed.path
        && !path.starts_with('/')
    {
        checker
            .error(&format!("{pointer}/path"), "expected a path")
            .label("for example \"/v1/embeddings\"");
    }
    RouteMatch {
        labels: typed
            .label
            .0
            .iter()
            .map(|label| Label::new(label))
            .collect(),
        models: typed.model.0.clone(),
        path: typed.path.clone(),
        headers: headers(pointer, typed, checker),
        tenants: typed
            .tenant
            .0
            .iter()
            .map(|name| Tenant::new(name))
            .collect(),
        modalities: modalities(&typed.modality),
        complexity_at_least: typed.complexity_at_least,
        tools: typed.tools,
    }
}

/// The entries of a condition with their places; one that is typed alone stands at the field.
fn entries(
    pointer: &str,
    field: &str,
    typed: &OneOrMany,
    checker: &Checker<'_>,
) -> Vec<(String, String)> {
    let pointer = format!("{pointer}/{field}");
    let place = |at: usize| {
        let entry = format!("{pointer}/{at}");
        match checker.document.has(&entry) {
            true => entry,
            false => pointer.clone(),
        }
    };
    let entries = typed.0.iter().enumerate();
    entries
        .map(|(at, text)| (place(at), text.clone()))
        .collect()
}

fn headers(
    pointer: &str,
    typed: &schema::Match,
    checker: &mut Checker<'_>,
) -> Vec<(HeaderName, String)> {
    let mut headers = Vec::new();
    for (name, value) in &typed.header {
        let place = child(&format!("{pointer}/header"), name);
        if http::HeaderValue::from_str(value).is_err() {
            checker.error(&place, "expected a value that a header can have");
        }
        if let Some(name) = checker.header_name(&place, name) {
            headers.push((name, value.clone()));
        }
    }
    headers
}

fn modalities(typed: &[Modality]) -> Vec<String> {
    typed
        .iter()
        .map(|modality| modality.as_str().to_owned())
        .collect()
}
