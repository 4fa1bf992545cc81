//! The outer edge of the proxy: TLS, how it ends, how it is replaced, how it is deployed.
#![expect(clippy::unwrap_used, reason = "tests")]

mod deploy;
mod drain;
mod head;
mod limits;
mod proxy_protocol;
mod tls;
mod upgrade;
