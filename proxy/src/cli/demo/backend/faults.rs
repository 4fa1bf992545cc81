//! Errors on demand: the name of the model says which.

/// Model that answers with this status: `demo-error-429`.
const ERROR: &str = "demo-error-";

/// Model whose streams break off in the middle.
const BROKEN_STREAM: &str = "demo-broken-stream";

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Status(u16),
    BrokenStream,
}

/// The fault that a model's name asks for.
pub(super) fn of(model: &str) -> Option<Fault> {
    if model == BROKEN_STREAM {
        return Some(Fault::BrokenStream);
    }
    let status = model.strip_prefix(ERROR)?.parse().ok()?;
    (400..=599)
        .contains(&status)
        .then_some(Fault::Status(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ask_for_faults() {
        assert_eq!(of("demo-error-429"), Some(Fault::Status(429)));
        assert_eq!(of("demo-broken-stream"), Some(Fault::BrokenStream));
        for fine in [
            "demo-code",
            "demo-error-",
            "demo-error-200",
            "demo-error-99999",
            "",
        ] {
            assert_eq!(of(fine), None, "{fine}");
        }
    }
}
