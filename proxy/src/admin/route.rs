//! Which action a method and a path name.

use http::Method;

/// What a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The whole admin API.
    All,
    /// `/metrics` alone.
    Metrics,
}

/// Something that an operator can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Live,
    Ready,
    Health,
    Metrics,
    Plugins,
    Pools,
    Config,
    Reload,
    ClearCache,
}

/// Why there is no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoute {
    UnknownPath,
    /// The path exists for the methods of this `allow` header.
    WrongMethod {
        allow: &'static str,
    },
}

const READ: &str = "GET, HEAD";
const WRITE: &str = "POST";

impl Action {
    /// Everything that `path` can name, without its query.
    fn named(path: &str) -> Option<Self> {
        Some(match path {
            "/livez" => Self::Live,
            "/readyz" => Self::Ready,
            "/health" => Self::Health,
            "/metrics" => Self::Metrics,
            "/admin/plugins" => Self::Plugins,
            "/admin/pools" => Self::Pools,
            "/admin/config" => Self::Config,
            "/admin/reload" => Self::Reload,
            "/cache/clear" => Self::ClearCache,
            _ => return None,
        })
    }

    /// True for what orchestrators ask, which cannot carry a token: one word, no secret.
    pub(super) fn is_probe(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Health)
    }

    fn allow(self) -> &'static str {
        match self {
            Self::Reload | Self::ClearCache => WRITE,
            Self::Live
            | Self::Ready
            | Self::Health
            | Self::Metrics
            | Self::Plugins
            | Self::Pools
            | Self::Config => READ,
        }
    }
}

/// Finds the action of a request.
///
/// # Errors
/// [`NoRoute`]: 404 or 405.
pub(super) fn find(scope: Scope, method: &Method, path: &str) -> Result<Action, NoRoute> {
    let action = Action::named(path)
        .filter(|action| scope == Scope::All || *action == Action::Metrics)
        .ok_or(NoRoute::UnknownPath)?;
    let allow = action.allow();
    if allow.split(", ").any(|allowed| allowed == method.as_str()) {
        Ok(action)
    } else {
        Err(NoRoute::WrongMethod { allow })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_methods() {
        for (path, action, method) in [
            ("/livez", Action::Live, Method::GET),
            ("/readyz", Action::Ready, Method::GET),
            ("/health", Action::Health, Method::HEAD),
            ("/metrics", Action::Metrics, Method::GET),
            ("/admin/plugins", Action::Plugins, Method::GET),
            ("/admin/pools", Action::Pools, Method::GET),
            ("/admin/config", Action::Config, Method::GET),
            ("/admin/reload", Action::Reload, Method::POST),
            ("/cache/clear", Action::ClearCache, Method::POST),
        ] {
            assert_eq!(find(Scope::All, &method, path), Ok(action), "{path}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let wrong = |allow| Err(NoRoute::WrongMethod { allow });
        assert_eq!(
            find(Scope::All, &Method::GET, "/admin/reload"),
            wrong("POST")
        );
        assert_eq!(
            find(Scope::All, &Method::GET, "/cache/clear"),
            wrong("POST")
        );
        assert_eq!(
            find(Scope::All, &Method::POST, "/metrics"),
            wrong("GET, HEAD")
        );
        assert_eq!(
            find(Scope::All, &Method::DELETE, "/admin/config"),
            wrong("GET, HEAD")
        );
    }

    #[test]
    fn near_misses_are_unknown() {
        for path in [
            "/",
            "/admin",
            "/admin/",
            "/admin/plugins/",
            "/Metrics",
            "/v1/models",
            "*",
        ] {
            assert_eq!(
                find(Scope::All, &Method::GET, path),
                Err(NoRoute::UnknownPath),
                "{path}"
            );
        }
    }

    #[test]
    fn the_metrics_listener_offers_nothing_else() {
        assert_eq!(
            find(Scope::Metrics, &Method::GET, "/metrics"),
            Ok(Action::Metrics)
        );
        for path in ["/livez", "/admin/config", "/admin/reload", "/cache/clear"] {
            for method in [Method::GET, Method::POST] {
                assert_eq!(
                    find(Scope::Metrics, &method, path),
                    Err(NoRoute::UnknownPath)
                );
            }
        }
    }
}
