//! Says by method and path alone what kind of request this is.

use http::Method;

use super::client::{Client, Head};
use super::context::RequestContext;
use super::error::{Error, Result};
use crate::api::prompt::Endpoint;

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// Read, decided upon, forwarded.
    Inspect(Endpoint),
    /// Answered from the config.
    Models,
    /// Passed on unread.
    Relay,
}

/// Sorts a request.
///
/// # Errors
/// [`Error::NotFound`] outside `/v1`, [`Error::MethodNotAllowed`], [`Error::UpgradeUnsupported`].
pub(super) fn run(
    cx: &mut RequestContext,
    head: &Head,
    client: &Client<'_>,
) -> Result<Destination> {
    cx.record.method = head.method.to_string();
    cx.record.path.clone_from(&head.path);
    cx.record.client = client.address();
    if client.wants_upgrade() {
        return Err(Error::UpgradeUnsupported);
    }
    let destination = sort(&head.method, &head.path, head.plain_path())?;
    cx.record.endpoint = match destination {
        Destination::Inspect(Endpoint::Chat) => "chat",
        Destination::Inspect(Endpoint::Completions) => "completions",
        Destination::Inspect(Endpoint::Embeddings) => "embeddings",
        Destination::Models => "models",
        Destination::Relay => "other",
    };
    Ok(destination)
}

fn sort(method: &Method, path: &str, plain: &str) -> Result<Destination> {
    // FastAPI and others take a slash at the end as nothing.
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let inside = trimmed.starts_with("/v1/") && !climbs(trimmed);
    // Answered here, and from nowhere else: a model's name may hold anything, also slashes.
    let asks_for_models = plain == "/v1/models" || plain.starts_with("/v1/models/");
    if asks_for_models && *method == Method::GET {
        return Ok(Destination::Models);
    }
    let not_found = || Error::NotFound {
        method: method.to_string(),
        path: path.to_owned(),
    };
    if !inside {
        return Err(not_found());
    }
    let inspected = match plain.strip_suffix('/').unwrap_or(plain) {
        "/v1/chat/completions" => Some(Endpoint::Chat),
        "/v1/completions" => Some(Endpoint::Completions),
        "/v1/embeddings" => Some(Endpoint::Embeddings),
        _ => None,
    };
    let wrong_method = |allowed| Error::MethodNotAllowed {
        method: method.to_string(),
        path: path.to_owned(),
        allowed,
    };
    if let Some(endpoint) = inspected {
        return match *method {
            Method::POST => Ok(Destination::Inspect(endpoint)),
            _ => Err(wrong_method("POST")),
        };
    }
    if resembles_inspected(plain) {
        return Err(not_found());
    }
    // Deleting a fine-tuned model is the upstream's business.
    if asks_for_models && *method != Method::DELETE {
        return Err(wrong_method("GET"));
    }
    let known_method = matches!(
        *method,
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::HEAD
    );
    match known_method {
        false => Err(wrong_method("GET, POST, PUT, PATCH, DELETE, HEAD")),
        true => Ok(Destination::Relay),
    }
}

/// True for a path that some servers take for an inspected one: they ignore the case of letters, or
/// parameters behind a semicolon, or read escapes twice. Relayed unread, it would pass by its caps.
fn resembles_inspected(plain: &str) -> bool {
    let again = percent_encoding::percent_decode_str(plain).decode_utf8_lossy();
    let lower = again.to_lowercase();
    let path = lower
        .split([';', '?', '#', '\0'])
        .next()
        .unwrap_or_default();
    matches!(
        path.trim_end_matches(['/', ' ']),
        "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings"
    )
}

/// True for a path that a server might normalise into one outside `/v1`.
fn climbs(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    lower.contains("%2f")
        || lower.contains("%5c")
        || lower.contains('\\')
        || lower.split('/').skip(1).any(|segment| {
            segment.is_empty() || matches!(segment.replace("%2e", ".").as_str(), "." | "..")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::client::decoded;

    fn code(method: &Method, path: &str) -> std::result::Result<Destination, u16> {
        let plain = decoded(path);
        sort(method, path, plain.as_deref().unwrap_or(path)).map_err(|error| error.row().status)
    }

    #[test]
    fn the_inspected_endpoints_take_post_alone() {
        let chat = "/v1/chat/completions";
        assert_eq!(
            code(&Method::POST, chat),
            Ok(Destination::Inspect(Endpoint::Chat))
        );
        assert_eq!(code(&Method::GET, chat), Err(405));
    }

    #[test]
    fn other_spellings_of_an_inspected_endpoint_are_inspected_too() {
        for path in [
            "/v1/%63hat/completions",
            "/v1/chat/completion%73",
            "/v1/chat/completions/",
            "/v1/chat/completion%73/",
        ] {
            assert_eq!(
                code(&Method::POST, path),
                Ok(Destination::Inspect(Endpoint::Chat)),
                "{path}"
            );
        }
        assert_eq!(
            code(&Method::POST, "/v1/%ff"),
            Ok(Destination::Relay),
            "no text"
        );
    }

    #[test]
    fn other_paths_below_v1_are_passed_on() {
        assert_eq!(
            code(&Method::POST, "/v1/audio/speech"),
            Ok(Destination::Relay)
        );
        assert_eq!(code(&Method::TRACE, "/v1/audio/speech"), Err(405));
    }

    #[test]
    fn nothing_leads_out_of_v1() {
        for path in [
            "/",
            "/admin/plugins",
            "/metrics",
            "//v1/files",
            "/v1/../admin/config",
            "/v1/%2e%2e/admin",
            "/v1/a%2f..%2f..",
            "/v1//files",
            "/v1/a\\b",
            "/v1/Chat/Completions",
            "/v1/chat/completions;x=1",
            "/v1/chat/completions%00",
            "/v1/chat/completions%3Fx",
            "/v1/chat/completions/%20",
            "/v1/%2563hat/completions",
            "/v10/files",
        ] {
            assert_eq!(code(&Method::GET, path), Err(404), "{path}");
        }
        let climbing = "/v1/models/../../admin";
        assert_eq!(code(&Method::DELETE, climbing), Err(404));
        let named = "/v1/models/org%2Fname";
        assert_eq!(code(&Method::GET, named), Ok(Destination::Models));
        let fine_tuned = "/v1/models/ft:m:acme";
        assert_eq!(code(&Method::DELETE, fine_tuned), Ok(Destination::Relay));
    }
}
