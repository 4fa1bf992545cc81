//! The admin API as an application of a listener.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use pingora::protocols::http::ServerSession;

use super::connection::{After, Application, Settings, Unreadable};
use crate::admin;
use crate::admission::Standing;

/// Operators and scrapers sit near: their limits need no settings.
const SETTINGS: Settings = Settings {
    header_timeout: Duration::from_secs(10),
    keepalive_timeout: Duration::from_secs(60),
    max_header_bytes: 64 * 1024,
    max_headers: 100,
    max_streams: 100,
};

#[async_trait]
impl Application for admin::App {
    fn settings(&self) -> Settings {
        SETTINGS
    }

    fn is_balancer(&self, _: IpAddr) -> bool {
        false
    }

    async fn serve(&self, session: &mut ServerSession, _: Standing) -> After {
        match admin::App::serve(self, session).await {
            Some(()) => After::Stays,
            None => After::Left,
        }
    }

    fn refusal(&self, _: Unreadable) -> Option<(StatusCode, Bytes)> {
        None
    }
}
