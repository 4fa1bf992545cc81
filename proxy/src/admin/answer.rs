//! The answers of the admin API as status, headers and body.

use bytes::Bytes;
use serde_json::{Value, json};

use super::gate::Refused;
use super::route::NoRoute;
use super::{Readiness, ReloadRefused};

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    /// One more header.
    pub(super) header: Option<(&'static str, &'static str)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            header: None,
            body: format!("{value}\n").into(),
        }
    }

    pub(super) fn word(status: u16, word: &'static str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            header: None,
            body: Bytes::from_static(word.as_bytes()),
        }
    }

    pub(super) fn readiness(readiness: Readiness) -> Self {
        let status = if readiness == Readiness::Ready {
            200
        } else {
            503
        };
        Self::word(status, readiness.as_str())
    }

    pub(super) fn metrics(text: String) -> Self {
        Self {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            header: None,
            body: text.into(),
        }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }
}

/// OpenAI's error object.
fn error(status: u16, code: &str, message: &str) -> Answer {
    let value = json!({"error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": code,
    }});
    Answer::json(status, &value)
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::ForeignHost => error(
                403,
                "foreign_host",
                "The Host header names neither this machine nor the admin address.",
            ),
            Refused::ForeignOrigin => error(
                403,
                "foreign_origin",
                "Web pages of another origin may not use this API.",
            ),
            Refused::NoToken => error(
                401,
                "missing_token",
                "Send `Authorization: Bearer` with the admin token.",
            )
            .with("www-authenticate", "Bearer"),
            Refused::WrongToken => error(401, "invalid_token", "The admin token is wrong.")
                .with("www-authenticate", "Bearer error=\"invalid_token\""),
        }
    }
}

impl From<NoRoute> for Answer {
    fn from(no_route: NoRoute) -> Self {
        match no_route {
            NoRoute::UnknownPath => error(404, "unknown_path", "There is nothing at this path."),
            NoRoute::WrongMethod { allow } => error(
                405,
                "method_not_allowed",
                &format!("This path takes {}.", allow.replace(", ", " or ")),
            )
            .with("allow", allow),
        }
    }
}

impl From<ReloadRefused> for Answer {
    fn from(refused: ReloadRefused) -> Self {
        let value = json!({"error": {
            "message": refused.message, "type": "invalid_request_error", "param": null,
            "code": "reload_refused", "problems": refused.problems,
        }});
        Self::json(422, &value)
    }
}

/// A body that broke off or took too long.
pub(super) fn body_incomplete() -> Answer {
    error(
        408,
        "body_incomplete",
        "The request's body did not arrive in time.",
    )
}

/// A body larger than anything that this API takes.
pub(super) fn body_too_large() -> Answer {
    error(
        413,
        "body_too_large",
        "This API takes no body of that size.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(answer: &Answer) -> Value {
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[test]
    fn every_error_is_openai_json() {
        let refused = ReloadRefused {
            message: "two".into(),
            problems: vec![json!("a")],
        };
        for (answer, status, code) in [
            (Refused::ForeignHost.into(), 403, "foreign_host"),
            (Refused::ForeignOrigin.into(), 403, "foreign_origin"),
            (Refused::NoToken.into(), 401, "missing_token"),
            (Refused::WrongToken.into(), 401, "invalid_token"),
            (NoRoute::UnknownPath.into(), 404, "unknown_path"),
            (
                NoRoute::WrongMethod { allow: "POST" }.into(),
                405,
                "method_not_allowed",
            ),
            (refused.into(), 422, "reload_refused"),
            (body_incomplete(), 408, "body_incomplete"),
            (body_too_large(), 413, "body_too_large"),
        ] {
            let answer: Answer = answer;
            let error = &parsed(&answer)["error"];
            assert_eq!(
                (answer.status, error["code"].as_str()),
                (status, Some(code))
            );
            assert!(
                error["message"]
                    .as_str()
                    .is_some_and(|message| !message.is_empty())
            );
            assert_eq!(error["type"], "invalid_request_error");
            assert!(error.as_object().unwrap().contains_key("param"));
        }
    }

    #[test]
    fn a_refused_reload_carries_its_problems() {
        let problems = vec![json!({"line": 3, "message": "unknown field"})];
        let answer = Answer::from(ReloadRefused {
            message: "bad".into(),
            problems,
        });
        assert_eq!(parsed(&answer)["error"]["problems"][0]["line"], 3);
    }

    #[test]
    fn a_wrong_method_answers_with_allow() {
        let answer = Answer::from(NoRoute::WrongMethod { allow: "GET, HEAD" });
        assert_eq!(answer.header, Some(("allow", "GET, HEAD")));
        assert_eq!(
            parsed(&answer)["error"]["message"],
            "This path takes GET or HEAD."
        );
    }

    #[test]
    fn only_ready_is_200() {
        for (readiness, status) in [
            (Readiness::Ready, 200),
            (Readiness::Starting, 503),
            (Readiness::Draining, 503),
        ] {
            let answer = Answer::readiness(readiness);
            assert_eq!(answer.status, status);
            assert_eq!(&answer.body[..], readiness.as_str().as_bytes());
        }
    }
}
