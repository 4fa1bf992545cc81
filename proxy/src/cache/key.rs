//! The key of a request: SHA-256 of everything that can change its answer.
//!
//! That is the whole canonical request minus exactly `stream` and `stream_options`, the
//! `sluicegate` field included, minus what a granted policy takes out; and [`KeyParts`]. Every piece
//! has its length in front of it, so that no two lists of pieces run into the same bytes.

use sha2::{Digest, Sha256};

use super::canonical;
use crate::api::json;
use crate::api::{Endpoint, Request};

/// Changes with the form of the key, so that entries of an older form are never found.
const FORM: &[u8] = b"sluicegate-key-2";

/// A request's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) [u8; 32]);

/// What is part of the key besides the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyParts<'a> {
    pub(crate) endpoint: Endpoint,
    /// Who shares the answer: `tenant:…`, `session:…` or `global`.
    pub(crate) scope: &'a str,
    /// The model that is to answer, as the upstream knows it. No part of the key when `ignore`
    /// names `model`.
    pub(crate) model: &'a str,
    /// The route's name.
    pub(crate) variant: &'a str,
    /// The compression setting.
    pub(crate) compression: &'a str,
    /// `cache.epoch`
    pub(crate) epoch: &'a str,
    /// Top-level fields that the policy takes out, by their names in a request: the two names of a
    /// token limit are two. The list itself is part of the key, so that an answer to a looser
    /// question never serves a stricter one.
    pub(crate) ignore: &'a [&'a str],
    /// What the policy adds.
    pub(crate) extra: &'a [String],
}

/// The key of a request.
pub(crate) fn key(request: &Request, parts: &KeyParts<'_>) -> Key {
    let mut hash = Sha256::new();
    let mut piece = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    piece(FORM);
    piece(match parts.endpoint {
        Endpoint::Chat => b"chat",
        Endpoint::Completions => b"completions",
        Endpoint::Embeddings => b"embeddings",
    });
    let is_any_model = parts.ignore.contains(&"model");
    let model = if is_any_model { "" } else { parts.model };
    for text in [
        parts.scope,
        model,
        parts.variant,
        parts.compression,
        parts.epoch,
    ] {
        piece(text.as_bytes());
    }
    let mut ignored: Vec<&str> = parts.ignore.to_vec();
    ignored.sort_unstable();
    ignored.dedup();
    piece(&(ignored.len() as u64).to_le_bytes());
    for name in &ignored {
        piece(name.as_bytes());
    }
    piece(&(parts.extra.len() as u64).to_le_bytes());
    for extra in parts.extra {
        piece(extra.as_bytes());
    }
    let is_part = |key: &str| {
        let name = json::decode(key);
        !matches!(name.as_ref(), "stream" | "stream_options") && !ignored.contains(&name.as_ref())
    };
    let mut members: Vec<(Vec<u8>, &str)> = request
        .members()
        .filter(|(key, _)| is_part(key))
        .map(|(key, value)| {
            let mut name = Vec::new();
            canonical::encode(&mut name, key);
            (name, value)
        })
        .collect();
    // Stable, and all of them: duplicates go upstream as they came, in their order.
    members.sort_by(|(one, _), (next, _)| one.cmp(next));
    let mut form = Vec::new();
    for (name, value) in &members {
        piece(name);
        form.clear();
        canonical::encode(&mut form, value);
        piece(&form);
    }
    Key(hash.finalize().into())
}

#[cfg(test)]
mod tests;
