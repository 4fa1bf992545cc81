//! `[[models]]` and `[[pools]]`.

use std::collections::HashMap;

use http::HeaderName;
use rustls::pki_types::ServerName;

use super::Checker;
use super::names::Alphabet;
use crate::config::resolved::{
    AuthMode, Backend, BackendIdentity, BackendName, HealthCheck, Model, Pool, PoolName, Protocol,
    Secret,
};
use crate::config::schema;

pub(super) fn models(typed: &[schema::Model], checker: &mut Checker<'_>) -> Vec<Model> {
    let entries = typed.iter().enumerate();
    checker.unique(
        "model",
        entries.map(|(at, model)| (format!("/models/{at}/name"), model.name.as_str())),
    );
    typed
        .iter()
        .map(|model| Model {
            name: model.name.clone(),
            context_length: model.context_length,
            capabilities: model.capabilities.clone(),
        })
        .collect()
}

pub(super) fn resolve(
    typed: &mut [schema::Pool],
    mode: AuthMode,
    checker: &mut Checker<'_>,
) -> Vec<Pool> {
    let entries = typed.iter().enumerate();
    checker.unique(
        "pool",
        entries.map(|(at, pool)| (format!("/pools/{at}/name"), pool.name.as_str())),
    );
    served_twice(typed, checker);
    typed
        .iter_mut()
        .enumerate()
        .map(|(at, typed)| pool(&format!("/pools/{at}"), typed, mode, checker))
        .collect()
}

/// One model in two pools is allowed, and seldom meant: the first pool gets its requests.
fn served_twice(typed: &[schema::Pool], checker: &mut Checker<'_>) {
    let mut first: HashMap<&str, &str> = HashMap::new();
    for (at, pool) in typed.iter().enumerate() {
        for (model_at, model) in pool.models.iter().enumerate() {
            let owner = *first.entry(model).or_insert(&pool.name);
            if owner != pool.name {
                let message =
                    format!("model `{model}` is also served by pool `{owner}`, which is asked");
                checker.warn(&format!("/pools/{at}/models/{model_at}"), message);
            }
        }
    }
}

fn pool(
    pointer: &str,
    typed: &mut schema::Pool,
    mode: AuthMode,
    checker: &mut Checker<'_>,
) -> Pool {
    checker.name(&format!("{pointer}/name"), &typed.name, Alphabet::Name);
    pool_models(pointer, typed, checker);
    credentials(pointer, typed, mode, checker);
    let backends = backends(pointer, typed, checker);
    let forward_headers = typed
        .forward_headers
        .iter()
        .enumerate()
        .filter_map(|(at, name)| {
            checker.forwarded_header(&format!("{pointer}/forward_headers/{at}"), name)
        })
        .collect();
    let [show_headers, hide_headers] = [
        ("show_headers", &typed.show_headers),
        ("hide_headers", &typed.hide_headers),
    ]
    .map(|(field, names)| answer_headers(&format!("{pointer}/{field}"), names, checker));
    Pool {
        name: PoolName::new(&typed.name),
        backends,
        models: typed.models.clone(),
        model_map: typed.model_map.clone(),
        api_key: typed.api_key.as_deref().map(Secret::new),
        pass_through: typed.pass_through,
        forward_headers,
        max_requests_in_flight: typed
            .max_requests_in_flight
            .map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
        show_headers,
        hide_headers,
        health: typed
            .health
            .as_ref()
            .map(|typed| health(&format!("{pointer}/health"), typed, checker)),
    }
}

fn answer_headers(pointer: &str, names: &[String], checker: &mut Checker<'_>) -> Vec<HeaderName> {
    names
        .iter()
        .enumerate()
        .filter_map(|(at, name)| checker.answer_header(&format!("{pointer}/{at}"), name))
        .collect()
}

fn pool_models(pointer: &str, typed: &schema::Pool, checker: &mut Checker<'_>) {
    let place = |at: usize| format!("{pointer}/models/{at}");
    for (at, model) in typed.models.iter().enumerate() {
        checker.text(&place(at), model, 256);
    }
    let entries = typed.models.iter().enumerate();
    checker.unique(
        "model",
        entries.map(|(at, model)| (place(at), model.as_str())),
    );
    for (client, upstream) in &typed.model_map {
        let pointer = crate::config::document::child(&format!("{pointer}/model_map"), client);
        checker.text(&pointer, upstream, 256);
    }
}

fn credentials(pointer: &str, typed: &schema::Pool, mode: AuthMode, checker: &mut Checker<'_>) {
    let pass_through = format!("{pointer}/pass_through");
    if typed.pass_through && mode != AuthMode::PassThrough && checker.knows("/auth/mode") {
        checker
            .error(&pass_through, "only auth mode `pass_through` allows it")
            .help("in other modes the caller's bearer is a key of this proxy, which no backend may see");
    }
    let Some(key) = &typed.api_key else {
        return;
    };
    let pointer = format!("{pointer}/api_key");
    checker.secret(&pointer);
    checker.header_safe(&pointer, key);
    if typed.pass_through {
        checker.error(
            &pass_through,
            "expected either `api_key` or `pass_through`, not both",
        );
    }
}

fn backends(pointer: &str, typed: &mut schema::Pool, checker: &mut Checker<'_>) -> Vec<Backend> {
    let place = |at: usize| format!("{pointer}/backends/{at}");
    let mut resolved: Vec<Backend> = Vec::new();
    let mut seen: HashMap<BackendIdentity, String> = HashMap::new();
    for (at, typed_backend) in typed.backends.iter_mut().enumerate() {
        let pointer = place(at);
        let name = typed_backend
            .name
            .get_or_insert_with(|| format!("{}-{}", typed.name, at + 1))
            .clone();
        if checker.document.has(&format!("{pointer}/name")) {
            checker.name(&format!("{pointer}/name"), &name, Alphabet::Name);
        }
        let Some(identity) = identity(&pointer, typed_backend, checker) else {
            continue;
        };
        if checker.knows_whole(&pointer) {
            match seen.get(&identity) {
                Some(first) => {
                    let message = format!("this backend is the same as `{first}`");
                    checker
                        .error(&format!("{pointer}/url"), message)
                        .help("a `/v1` at the end of a URL makes no difference");
                }
                None => {
                    seen.insert(identity.clone(), name.clone());
                }
            }
        }
        resolved.push(Backend {
            name: BackendName::new(&name),
            identity,
        });
    }
    let names = typed.backends.iter().enumerate();
    checker.unique(
        "backend",
        names.map(|(at, typed)| {
            (
                format!("{}/name", place(at)),
                typed.name.as_deref().unwrap_or_default(),
            )
        }),
    );
    resolved
}

fn identity(
    pointer: &str,
    typed: &schema::Backend,
    checker: &mut Checker<'_>,
) -> Option<BackendIdentity> {
    let ca_file = typed
        .ca_file
        .as_ref()
        .map(|path| checker.ca_file(&format!("{pointer}/ca_file"), path));
    let name_place = format!("{pointer}/server_name");
    if let Some(name) = &typed.server_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        checker.error(&name_place, "expected a host name or an IP address");
    }
    let url = checker.backend_url(&format!("{pointer}/url"), &typed.url)?;
    if !url.tls {
        let useless = [
            (name_place, typed.server_name.is_some()),
            (format!("{pointer}/ca_file"), ca_file.is_some()),
        ];
        for (place, _) in useless.iter().filter(|(_, is_set)| *is_set) {
            checker.warn(place, "has a meaning with https:// only");
        }
    } else if typed.server_name.is_none()
        && checker.knows(&name_place)
        && ServerName::try_from(url.host.as_str()).is_err()
    {
        checker
            .error(
                &format!("{pointer}/url"),
                "this host cannot be checked in a certificate",
            )
            .help("set `server_name` to the name that the certificate carries");
    }
    Some(BackendIdentity {
        tls: url.tls,
        server_name: typed
            .server_name
            .clone()
            .unwrap_or_else(|| url.host.clone()),
        host: url.host,
        port: url.port,
        base_path: url.base_path,
        protocol: match typed.protocol {
            schema::Protocol::Http1 => Protocol::Http1,
            schema::Protocol::Http2 => Protocol::Http2,
        },
        ca_file,
    })
}

fn health(pointer: &str, typed: &schema::Health, checker: &mut Checker<'_>) -> HealthCheck {
    let is_path = typed.path.starts_with('/') && typed.path.parse::<http::Uri>().is_ok();
    if !is_path {
        checker
            .error(&format!("{pointer}/path"), "expected a path")
            .label("for example \"/health\"");
    }
    HealthCheck {
        path: typed.path.clone(),
        interval: typed.interval.0,
        timeout: typed.timeout.0,
        unhealthy_after: typed.unhealthy_after,
        healthy_after: typed.healthy_after,
    }
}
